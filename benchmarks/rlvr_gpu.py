"""Claim: on a GPU an update that computes each prompt once is at least 3.2 times as fast as one row per answer.

    PYTHONPATH=src:benchmarks python benchmarks/rlvr_gpu.py --out rlvr_gpu.json

The shape of Qwen3-0.6B with random weights, bf16 compute over fp32 masters; 16 answers of 256 tokens to each prompt of
1,024; GRPO's loss, clip and AdamW as a step of the stage takes them. Both sides have the same answers and the same
budget of tokens a forward pass, and take turns on one model: their losses are of neighbouring steps and must be close.

What can be had at most: (prompt + answer) · G / (prompt + answer · G) tokens, 4 at these lengths.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from cameleer.core.training import AdamWConfig
from cameleer.model import attention
from cameleer.model.policy import Policy
from cameleer.rlvr.config import RLVRConfig
from cameleer.rlvr.names import Objective, ObjectiveConfig
from cameleer.rlvr.objective import ADVANTAGES, BEHAVIOUR, PROXIMAL, Totals
from cameleer.rlvr.update import policy_loss_function
from cameleer.train.accumulate import accumulate, split_step
from cameleer.train.distributed import World, current_world, shard
from cameleer.train.layout import Segment, Tree, tree_size
from cameleer.train.optim import build_optimizer, clip_gradients
from gpu_shape import random_qwen3


def groups(options: argparse.Namespace) -> tuple[list[Tree], list[Tree]]:
    """The same answers as trees that share their prompt, and one tree each."""
    random = np.random.default_rng(0)
    shared: list[Tree] = []
    for _ in range(options.prompts):
        prompt = random.integers(0, options.vocabulary, options.prompt_tokens).astype(np.int32)
        root = Segment(prompt, np.zeros(len(prompt), np.float32))
        shared.append((root, *(answer(random, options) for _ in range(options.samples))))
    return shared, [(tree[0], child) for tree in shared for child in tree[1:]]


def answer(random: np.random.Generator, options: argparse.Namespace) -> Segment:
    length = options.answer_tokens
    logprobs = -np.full(length, np.log(options.vocabulary))
    columns = {BEHAVIOUR: logprobs, PROXIMAL: logprobs, ADVANTAGES: np.full(length, random.normal())}
    ids = random.integers(0, options.vocabulary, length).astype(np.int32)
    return Segment(ids, np.ones(length, np.float32), 0, columns)


def update(policy: Policy, optimizer: torch.optim.Optimizer, trees: Sequence[Tree], world: World, budget: int) -> float:
    """One optimizer step, with a learning rate of 0 so that every one meets the same weights; its loss."""
    totals = Totals.of(trees, 256)
    config = RLVRConfig(objective=ObjectiveConfig(objective=Objective.GRPO), samples_per_prompt=2, max_new_tokens=256)
    loss, _ = accumulate(policy, split_step(trees, budget, world), policy_loss_function(config, totals, []), world)
    clip_gradients(policy.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("rlvr_gpu.json"))
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--prompt-tokens", type=int, default=1024)
    parser.add_argument("--answer-tokens", type=int, default=256)
    parser.add_argument("--budget", type=int, default=10240, help="tokens of one forward pass, at most")
    parser.add_argument("--layers", type=int, default=28)
    parser.add_argument("--vocabulary", type=int, default=151936)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--warmup", type=int, default=2)
    options = parser.parse_args()
    world = current_world()
    on_gpu = world.device.type == "cuda"
    with world.device:
        policy = Policy(random_qwen3(attention.NAME, options.vocabulary, options.layers)).train()
    shard(policy, world, torch.bfloat16 if on_gpu else torch.float32)
    optimizer = build_optimizer(policy, AdamWConfig())
    sides = dict(zip(("shared", "unshared"), groups(options), strict=True))
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    losses: dict[str, float] = {}
    peaks: dict[str, float] = {}
    for _ in range(options.warmup + options.rounds):
        for name, trees in sides.items():
            if on_gpu:
                torch.cuda.synchronize()
                torch.cuda.reset_peak_memory_stats()
            started = time.perf_counter()
            losses[name] = update(policy, optimizer, trees, world, options.budget)
            if on_gpu:
                torch.cuda.synchronize()
                peaks[name] = torch.cuda.max_memory_allocated() / 2**30
            seconds[name].append(time.perf_counter() - started)
    timed = {name: values[options.warmup :] for name, values in seconds.items()}
    result: dict[str, Any] = {
        "speed": median(b / a for a, b in zip(timed["shared"], timed["unshared"], strict=True)),
        "seconds": {name: median(values) for name, values in timed.items()},
        "tokens": {name: sum(map(tree_size, trees)) for name, trees in sides.items()},
        "losses": losses,
        "peak_gib": peaks,
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "torch": torch.__version__,
        "options": {name: value for name, value in vars(options).items() if name != "out"},
    }
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
