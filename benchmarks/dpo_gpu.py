"""Preference tuning of a Qwen3-0.6B shape on one GPU in three layouts: padded, packed, shared.

    PYTHONPATH=benchmarks python benchmarks/dpo_gpu.py --out dpo_gpu.json

Random weights, bf16 compute over fp32 master weights, length-normalised DPO with a stored reference, 64 pairs an
optimizer step: prompts log-normal with median 300 tokens, answers with median 250, all at most 2,048. The loss head and
the optimizer are the same; what differs is what the model runs on:

    padded   plain transformers, SDPA: rows of prompt and answer, chosen and rejected, sorted by length, padded
    packed   ours, the same rows as segments, nothing padded
    shared   ours, as the stage trains: each prompt once for both answers

Each runs in a process of its own, in micro-batches of at most 16,384 tokens, padding included. MFU counts what the
mathematics of the layout needs, not padding and not what was recomputed:

    FLOPs = 6 P T + 6 V D N + 12 L H E Σ pairs      P: parameters outside embedding and head; T tokens, N targets;
            (weights)  (head)   (scores and values)  pairs of a token and one that it sees; L layers, H heads of E

divided by the GPU's dense bf16 peak (H100/H200 SXM: 989 TFLOP/s). `useful_mfu` counts the FLOPs of `shared` for all, so
its ratios are those of pairs per second.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from cameleer.core.training import AdamWConfig
from cameleer.dpo.config import Smoothing
from cameleer.dpo.loss import Answers, dpo_norm
from cameleer.model import attention
from cameleer.model.logprobs import token_logprobs
from cameleer.model.policy import Policy
from cameleer.train.distributed import current_world, shard
from cameleer.train.layout import Segment, Tree, collate, pack, tree_size
from cameleer.train.optim import build_optimizer, clip_gradients
from cameleer.train.pairs import pair_tree
from gpu_shape import random_qwen3
from sft_gpu import PEAK_FLOPS

LAYOUTS = ("padded", "packed", "shared")
BUDGET = 16_384
MOST_TOKENS = 2048
PAIRS_PER_STEP = 64
BETA = 5.0


class PaddedPolicy(Policy):
    """Plain transformers over padded rows, with our head on the answers' tokens."""

    def forward(self, batch: Any, temperature: float = 1.0) -> Tensor:
        rows: list[tuple[Tensor, Tensor]] = batch
        longest = max(len(prompt) + len(answer) for prompt, answer in rows)
        ids = torch.zeros(len(rows), longest, dtype=torch.long)
        mask = torch.zeros_like(ids)
        source: list[Tensor] = []
        for number, (prompt, answer) in enumerate(rows):
            end = len(prompt) + len(answer)
            ids[number, :end], mask[number, :end] = torch.cat([prompt, answer]), 1
            source.append(number * longest + torch.arange(len(prompt) - 1, end - 1))
        device = self.head_weight.device
        output = self.causal_model.base_model(input_ids=ids.to(device), attention_mask=mask.to(device), use_cache=False)
        hidden_ND = output.last_hidden_state.flatten(0, 1)[torch.cat(source).to(device)]
        targets = torch.cat([answer for _, answer in rows]).to(device)
        return token_logprobs(hidden_ND, self.head_weight, targets, temperature)


def random_pairs(count: int) -> list[Tree]:
    random = np.random.default_rng(0)

    def lengths(median: float, most: int) -> Any:
        return np.clip(random.lognormal(np.log(median), 0.8, count), 8, most).astype(int)

    sizes = zip(lengths(300, 1024), lengths(250, 1024), lengths(250, 1024), strict=True)
    return [pair_tree(*(random.integers(0, 150_000, n).tolist() for n in each)) for each in sizes]


def rows_of(tree: Tree) -> list[Tree]:
    """A pair as two rows of prompt and answer, chosen first."""
    prompt = tree[0]
    return [
        (Segment(np.concatenate([prompt.ids, answer.ids]), np.concatenate([prompt.weights, answer.weights])),)
        for answer in tree[1:]
    ]


def micro_batches(layout: str, pairs: Sequence[Tree]) -> list[list[int]]:
    """Which pairs share a forward pass: both answers of one always do, since the loss compares them."""
    if layout != "padded":
        sizes = [tree_size(tree) if layout == "shared" else sum(map(tree_size, rows_of(tree))) for tree in pairs]
        return pack(sizes, BUDGET)
    longest = [len(tree[0].ids) + max(len(tree[1].ids), len(tree[2].ids)) for tree in pairs]
    batches: list[list[int]] = [[]]
    for item in sorted(range(len(pairs)), key=lambda i: longest[i]):
        if 2 * (len(batches[-1]) + 1) * longest[item] > BUDGET:
            batches.append([])
        batches[-1].append(item)
    return batches


def answers(layout: str, policy: Policy, pairs: Sequence[Tree]) -> tuple[Answers, Answers]:
    """Both answers' sums; the reference is 0 throughout, which costs what any stored one does."""
    if layout == "padded":
        rows = [
            (torch.from_numpy(tree[0].ids).long(), torch.from_numpy(tree[a].ids).long())
            for tree in pairs
            for a in (1, 2)
        ]
        logprob_N = policy(cast(Any, rows))
        owner_N = torch.repeat_interleave(torch.arange(len(rows)), torch.tensor([len(answer) for _, answer in rows]))
        places = [slice(0, None, 2), slice(1, None, 2)]
        count = len(rows)
    else:
        trees = list(pairs) if layout == "shared" else [row for tree in pairs for row in rows_of(tree)]
        batch = collate(trees, 128).to(policy.head_weight.device)
        logprob_N = policy(batch)
        owner_N = batch.segment_N
        stride = 3 if layout == "shared" else 2
        count = stride * len(pairs)
        places = [slice(stride - 2, None, stride), slice(stride - 1, None, stride)]
    sums = logprob_N.new_zeros(count).index_add(0, owner_N.to(logprob_N.device), logprob_N)
    lengths = [torch.tensor([float(len(tree[a].ids)) for tree in pairs], device=sums.device) for a in (1, 2)]
    chosen, rejected = (Answers(sums[place], sums[place], n) for place, n in zip(places, lengths, strict=True))
    return chosen, rejected


def flops(model: PreTrainedModel, layout: str, pairs: Sequence[Tree]) -> float:
    config = model.config
    head = config.vocab_size * config.hidden_size
    body = sum(parameter.numel() for parameter in model.parameters()) - head
    tokens = targets = seen = 0.0
    for prompt, *children in pairs:
        p, sizes = len(prompt.ids), [len(child.ids) for child in children]
        repeated = 1 if layout == "shared" else len(children)
        tokens += repeated * p + sum(sizes)
        targets += sum(sizes)
        seen += repeated * p * (p + 1) / 2 + sum(n * p + n * (n + 1) / 2 for n in sizes)
    heads = config.num_attention_heads * config.head_dim
    return 6 * body * tokens + 6 * head * targets + 12 * config.num_hidden_layers * heads * seen


def run(layout: str, num_steps: int, warmup: int) -> dict[str, Any]:
    world = current_world()
    with world.device:
        model = random_qwen3("sdpa" if layout == "padded" else attention.NAME)
    policy = (PaddedPolicy if layout == "padded" else Policy)(model).train()
    shard(policy, world, torch.bfloat16)
    optimizer = build_optimizer(policy, AdamWConfig())
    pairs = random_pairs(PAIRS_PER_STEP * (num_steps + warmup))
    steps = [pairs[i : i + PAIRS_PER_STEP] for i in range(0, len(pairs), PAIRS_PER_STEP)]
    seconds: list[float] = []
    first_loss = 0.0
    for number, step in enumerate(steps):
        torch.cuda.synchronize()
        started = time.perf_counter()
        for items in micro_batches(layout, step):
            chosen, rejected = answers(layout, policy, [step[item] for item in items])
            result = dpo_norm(chosen, rejected, BETA, 0.0, Smoothing.CONSERVATIVE)
            loss = result.loss_P.sum() / len(step)
            loss.backward()
            first_loss += loss.item() if number == 0 else 0.0
        clip_gradients(policy.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = 1e-6
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    timed = list(zip(steps, seconds, strict=True))[warmup:]
    return {
        "layout": layout,
        "pairs_per_second": float(np.median([len(step) / s for step, s in timed])),
        "mfu": float(np.median([flops(model, layout, step) / s / PEAK_FLOPS for step, s in timed])),
        "useful_mfu": float(np.median([flops(model, "shared", step) / s / PEAK_FLOPS for step, s in timed])),
        "peak_gib": torch.cuda.max_memory_allocated() / 2**30,
        "first_loss": first_loss,
        "steps": len(timed),
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("dpo_gpu.json"))
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--warmup", type=int, default=6)
    parser.add_argument("--only", choices=LAYOUTS)
    arguments = parser.parse_args()
    if arguments.only:
        print(json.dumps(run(arguments.only, arguments.steps, arguments.warmup)))
        return
    results: list[dict[str, Any]] = []
    for layout in LAYOUTS:
        command = [sys.executable, __file__, "--only", layout]
        command += ["--steps", str(arguments.steps), "--warmup", str(arguments.warmup)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        line = done.stdout.strip().splitlines()[-1:] or ["{}"]
        results.append(
            json.loads(line[0]) if done.returncode == 0 else {"layout": layout, "failed": done.stderr[-2000:]}
        )
        print(results[-1], flush=True)
    arguments.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
