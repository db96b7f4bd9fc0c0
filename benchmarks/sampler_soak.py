"""Claim: tens of thousands of sequences, ended in every way, leak nothing, and none is lost or handed out twice.

    .venv/bin/python benchmarks/sampler_soak.py [--sequences 20000] [--seed 0]

A tiny random model answers sessions of 50 to 150 prompts, a quarter of them asked eight times, some with a beginning
that all share; at temperature 0, 0.7 and 1, with and without top-p, stop ids and a stop text; a third of the sessions
with so little memory that sequences give way to each other. While a session runs, one sequence in ten is aborted where
it stands (waiting, running or finished), and the weights change about once in forty steps. Checked in each session:

* every index is handed out once, and no other;
* an answer ends as its reason says: at a stop id, with the stop text, at the limit, or aborted by us;
* no more memory is reserved than allowed;
* the weight version of an answer is one that there was.

The process's resident memory is read after each session; its growth over the second half is the leak.
"""

import argparse
import os
import random
import resource
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from cameleer.model.generate import Completion, FinishReason, LocalGenerator, Sampling
from cameleer.model.tiny import tiny_model

VOCABULARY = 97
STOP_TEXT = "bcab"


def spell(ids: Sequence[int]) -> str:
    """Two letters for each id, so that stop texts straddle tokens."""
    return "".join("abc"[token % 3] + "abc"[token // 3 % 3] for token in ids)


@dataclass
class Tally:
    """What all sessions together did."""

    handed_out: int = 0
    tokens: int = 0
    updates: int = 0
    reasons: Counter[FinishReason] = field(default_factory=Counter[FinishReason])
    resident: list[int] = field(default_factory=list[int])


def resident_bytes() -> int:
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def draw_prompts(draw: random.Random) -> list[list[int]]:
    beginning = [draw.randrange(VOCABULARY) for _ in range(draw.choice([0, 0, 24]))]
    prompts: list[list[int]] = []
    for _ in range(draw.randint(50, 150)):
        prompt = [*beginning, *(draw.randrange(VOCABULARY) for _ in range(draw.randint(1, 60)))]
        prompts += [prompt] * draw.choice([1, 1, 1, 8])
    draw.shuffle(prompts)
    return prompts


def draw_sampling(draw: random.Random) -> Sampling:
    return Sampling(
        max_new_tokens=draw.choice([8, 40, 90]),
        temperature=draw.choice([0.0, 0.7, 1.0]),
        top_p=draw.choice([1.0, 0.9]),
        stop=draw.choice([(), (STOP_TEXT,)]),
        seed=draw.randrange(2**32),
    )


def update_weights(generator: LocalGenerator) -> None:
    """Turn every weight around: the spread of logits stays what it is, however often this happens."""
    with torch.no_grad():
        for parameter in generator.model.parameters():
            if parameter.dim() == 2:
                parameter.copy_(parameter.roll(1, dims=0))
    generator.weight_version += 1


def run_session(generator: LocalGenerator, draw: random.Random, tally: Tally) -> None:
    prompts, sampling = draw_prompts(draw), draw_sampling(draw)
    first_version = generator.weight_version
    session = generator.stream(prompts, sampling)
    aborted: set[int] = set()
    found: list[tuple[int, Completion]] = []
    budget = generator.memory_gib
    while session.num_unfinished:
        session.step()
        if draw.random() < 0.3:
            index = draw.randrange(len(prompts))
            session.abort(index)
            aborted.add(index)
        if draw.random() < 1 / 40:
            update_weights(generator)
            tally.updates += 1
        if draw.random() < 0.05 and session.num_unfinished:
            # Computes steps of its own until a sequence ends.
            found.append(next(session))
        assert session.num_reserved_tokens * bytes_per_token(generator) <= budget * 2**30
    found += list(session)
    assert sorted(index for index, _ in found) == list(range(len(prompts))), "lost or handed out twice"
    for index, completion in found:
        check(completion, sampling, index in aborted, generator, first_version)
        tally.reasons[completion.finish_reason] += 1
        tally.tokens += len(completion.ids)
    tally.handed_out += len(found)
    tally.resident.append(resident_bytes())


def bytes_per_token(generator: LocalGenerator) -> int:
    config = generator.model.config
    return 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * 4


def check(
    completion: Completion, sampling: Sampling, may_be_aborted: bool, generator: LocalGenerator, first_version: int
) -> None:
    ids, reason = completion.ids, completion.finish_reason
    stop_ids = set(generator.stop_ids)
    stopped = bool(ids) and (ids[-1] in stop_ids or (bool(sampling.stop) and STOP_TEXT in spell(ids)))
    assert len(ids) == len(completion.logprobs) <= sampling.max_new_tokens
    assert not set(ids[:-1]) & stop_ids and not (sampling.stop and STOP_TEXT in spell(ids[:-1]))
    assert first_version <= completion.weight_version <= generator.weight_version
    match reason:
        case FinishReason.STOP:
            assert stopped
        case FinishReason.LENGTH:
            assert len(ids) == sampling.max_new_tokens and not stopped
        case FinishReason.ABORTED:
            assert may_be_aborted and not stopped
        case FinishReason.DEADLINE:
            raise AssertionError("no session has a deadline")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    draw, tally = random.Random(arguments.seed), Tally()
    model = tiny_model("llama", VOCABULARY, seed=1)
    stop_ids = (0, 41, 77)
    token_bytes = bytes_per_token(LocalGenerator(model, stop_ids))
    roomy = LocalGenerator(model, stop_ids, spell, batch_size=64, memory_gib=0.05)
    tight = LocalGenerator(model, stop_ids, spell, batch_size=64, memory_gib=2048 * token_bytes / 2**30)
    started = time.perf_counter()
    while tally.handed_out < arguments.sequences:
        generator = draw.choice([roomy, roomy, tight])
        generator.weight_version = max(roomy.weight_version, tight.weight_version)
        run_session(generator, draw, tally)
        if len(tally.resident) % 10 == 0:
            print(f"{tally.handed_out} sequences, {tally.resident[-1] / 2**20:.0f} MiB resident", flush=True)
    half = len(tally.resident) // 2
    print(
        f"{tally.handed_out} sequences and {tally.tokens} tokens in {len(tally.resident)} sessions, "
        f"{time.perf_counter() - started:.0f} s, {tally.updates} updates of the weights: none lost, none doubled"
    )
    print("ended: " + ", ".join(f"{reason} {count}" for reason, count in sorted(tally.reasons.items())))
    growth = (tally.resident[-1] - tally.resident[half]) / 2**20
    print(f"resident: {tally.resident[half] / 2**20:.0f} MiB half way, {growth:+.1f} MiB by the end")


if __name__ == "__main__":
    main()
