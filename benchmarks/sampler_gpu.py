"""Claim: on one GPU the sampler gives at least 20,000 tokens a second, 5 times transformers' continuous batching.

    PYTHONPATH=src:benchmarks python benchmarks/sampler_gpu.py --out sampler_gpu.json

The shape of Qwen3-0.6B with random weights in bf16. 256 prompts of 64 to 512 random ids, answers of 64 to 512 tokens
drawn for each, at temperature 1; all sides give exactly these lengths. The sides, in turns, after one run each to warm
up on a quarter of the sequences:

* ours: one `LocalGenerator`, 256 sequences at once; answers are aborted at their length;
* transformers' continuous batching (`paged|sdpa`), each request with its `max_new_tokens`;
* transformers' `generate`, rows sorted by answer length, in batches of 64 (answers beyond their length are not counted,
  and it only runs every fourth batch, whose tokens are counted alone).

The floor is the memory's bandwidth: each step reads the weights once and every running sequence's keys and values,

    seconds ≥ Σ_steps (weights + keys and values of the running sequences) / bandwidth

with the bandwidth of a large copy on this GPU, for steps that continue all 256 sequences until each has its length.
Bars: ≥ 20,000 tokens a second, ≥ 5 times continuous batching, ≥ 10 times `generate`.
"""

import argparse
import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig

from cameleer.model import attention
from cameleer.model.generate import LocalGenerator, Sampling
from gpu_shape import random_qwen3


@dataclass(frozen=True)
class Load:
    """Prompts, and how long each answer is to be."""

    prompts: list[list[int]]
    lengths: list[int]

    def part(self, indices: Sequence[int]) -> "Load":
        return Load([self.prompts[index] for index in indices], [self.lengths[index] for index in indices])


def build(implementation: str, options: argparse.Namespace) -> Any:
    model = random_qwen3(implementation, options.vocabulary, options.layers, torch.bfloat16)
    return model.to(options.device, torch.bfloat16).eval()


def draw_load(options: argparse.Namespace) -> Load:
    draw = random.Random(0)
    shortest, longest = options.lengths
    prompts = [
        [draw.randrange(options.vocabulary) for _ in range(draw.randint(shortest, longest))]
        for _ in range(options.sequences)
    ]
    return Load(prompts, [draw.randint(shortest, longest) for _ in range(options.sequences)])


def run_ours(generator: LocalGenerator, load: Load) -> int:
    session = generator.stream(load.prompts, Sampling(max(load.lengths), temperature=1.0))
    open_rows = set(range(len(load.prompts)))
    while session.num_unfinished:
        session.step()
        for index in [each for each in open_rows if len(session.tokens_so_far(each)) >= load.lengths[each]]:
            open_rows.remove(index)
            session.abort(index)
    found = sum(len(completion.ids) for _, completion in session)
    assert found == sum(load.lengths)
    return found


def run_continuous(model: Any, load: Load) -> int:
    config = GenerationConfig(do_sample=True, temperature=1.0, top_k=0, top_p=1.0, eos_token_id=-1)
    found = 0
    with model.continuous_batching_context_manager(generation_config=config) as manager:
        for prompt, length in zip(load.prompts, load.lengths, strict=True):
            manager.add_request(prompt, max_new_tokens=length, eos_token_id=-1)
        finished = 0
        while finished < len(load.prompts):
            result = manager.get_result(timeout=60)
            assert result is not None, "continuous batching gave nothing for a minute"
            if result.is_finished():
                finished += 1
                found += len(result.generated_tokens)
    assert found == sum(load.lengths), (found, sum(load.lengths))
    return found


def run_generate(model: Any, load: Load, batch_size: int = 64, every: int = 4) -> int:
    order = sorted(range(len(load.prompts)), key=lambda index: load.lengths[index])
    found = 0
    for start in range(batch_size * (every // 2), len(order), batch_size * every):
        rows = load.part(order[start : start + batch_size])
        longest = max(map(len, rows.prompts))
        ids = torch.tensor([[0] * (longest - len(each)) + each for each in rows.prompts], device=model.device)
        mask = torch.tensor([[0] * (longest - len(each)) + [1] * len(each) for each in rows.prompts]).to(model.device)
        options = {"do_sample": True, "top_k": 0, "eos_token_id": None, "pad_token_id": 0}
        model.generate(ids, attention_mask=mask, max_new_tokens=max(rows.lengths), **options)
        found += sum(rows.lengths)
    return found


def tokens_per_second(work: Callable[[], int]) -> float:
    torch.cuda.synchronize()
    started = time.perf_counter()
    tokens = work()
    torch.cuda.synchronize()
    return tokens / (time.perf_counter() - started)


def bandwidth() -> float:
    """Bytes per second that a copy of 2 GiB reads and writes: the best of ten."""
    source = torch.empty(2**31, dtype=torch.uint8, device="cuda")
    target, best = torch.empty_like(source), 0.0
    for _ in range(10):
        torch.cuda.synchronize()
        started = time.perf_counter()
        target.copy_(source)
        torch.cuda.synchronize()
        best = max(best, 2 * 2**31 / (time.perf_counter() - started))
    return best


def floor_seconds(model: Any, load: Load, rate: float) -> float:
    config = model.config
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    token = 2 * 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    kept = sum(
        token * (length * len(prompt) + length * (length + 1) // 2)
        for prompt, length in zip(load.prompts, load.lengths, strict=True)
    )
    return (max(load.lengths) * weights + kept) / rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", type=int, default=256)
    parser.add_argument("--lengths", type=int, nargs=2, default=[64, 512], metavar=("SHORTEST", "LONGEST"))
    parser.add_argument("--layers", type=int, default=28)
    parser.add_argument("--vocabulary", type=int, default=151_936)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.device = "cuda"
    load = draw_load(options)
    ours = LocalGenerator(build(attention.NAME, options), (), batch_size=options.sequences, memory_gib=32)
    paged, plain = build("paged|sdpa", options), build("sdpa", options)
    sides: dict[str, Callable[[Load], int]] = {
        "ours": lambda part: run_ours(ours, part),
        "continuous batching": lambda part: run_continuous(paged, part),
        "generate": lambda part: run_generate(plain, part),
    }
    for side in sides.values():
        side(load.part(range(options.sequences)[::4]) if side is not sides["generate"] else load)
    speeds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(options.rounds):
        for name in sides if number % 2 == 0 else reversed(sides):
            speeds[name].append(tokens_per_second(lambda name=name: sides[name](load)))
            print(name, f"{speeds[name][-1]:.0f} tokens/s", flush=True)
    median = {name: sorted(each)[len(each) // 2] for name, each in speeds.items()}
    rate = bandwidth()
    floor = sum(load.lengths) / floor_seconds(ours.model, load, rate)
    report = {
        "device": torch.cuda.get_device_name(),
        "tokens": sum(load.lengths),
        "tokens_per_second": speeds,
        "ratio": {name: median["ours"] / speed for name, speed in median.items()},
        "bandwidth_bytes_per_second": rate,
        "floor_tokens_per_second": floor,
        "share_of_the_floor": median["ours"] / floor,
    }
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
