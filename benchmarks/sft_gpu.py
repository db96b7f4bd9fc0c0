"""Full fine-tuning of a Qwen3-0.6B shape on one GPU, beside Hugging Face's `Trainer` on the same rows.

    PYTHONPATH=src:benchmarks python benchmarks/sft_gpu.py --out sft_gpu.json

Random weights, bf16 compute over fp32 master weights, rows of 8,192 packed tokens whose lengths are spread like a chat
set's, loss on about two thirds of the tokens. Each configuration runs in a process of its own. MFU counts what the
mathematics needs, not what was recomputed:

    FLOPs = 6 P T + 6 V D N + 12 L H E Σ n(n+1)/2          P: parameters outside embedding and head
            (weights)  (head)   (scores and values)        T tokens, N targets, n: row lengths; L layers, H heads of E

divided by the GPU's dense bf16 peak (H100/H200 SXM: 989 TFLOP/s). `Trainer` gets the same rows unpacked in padded
batches of as many tokens, sorted by length, its fused AdamW and SDPA.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, Trainer, TrainingArguments

from cameleer.core.training import AdamWConfig
from cameleer.model import attention
from cameleer.model.policy import Policy
from cameleer.sft.train import loss_function
from cameleer.train.accumulate import accumulate
from cameleer.train.distributed import current_world, shard
from cameleer.train.layout import Segment, Tree, pack
from cameleer.train.optim import build_optimizer, clip_gradients
from gpu_shape import random_qwen3

PEAK_FLOPS = 989e12
BUDGET = 8192
RUNNERS = ("ours", "ours-checkpointing", "trainer", "trainer-checkpointing")


def rows(count: int) -> list[Tree]:
    """Row lengths log-normal with median 400, at most 4,096; a prompt of a third of each carries no loss."""
    random = np.random.default_rng(0)
    lengths = np.clip(random.lognormal(6.0, 0.9, count), 16, 4096).astype(int)
    return [
        (Segment(random.integers(0, 150000, n).astype(np.int32), (np.arange(n) >= n // 3).astype(np.float32)),)
        for n in lengths
    ]


def flops(model: PreTrainedModel, trees: list[Tree]) -> float:
    config = model.config
    lengths = np.array([len(tree[0].ids) for tree in trees], dtype=np.float64)
    targets = sum(float(tree[0].weights.sum()) for tree in trees)
    head = config.vocab_size * config.hidden_size
    body = sum(parameter.numel() for parameter in model.parameters()) - head
    pairs = (lengths * (lengths + 1) / 2).sum()
    heads = config.num_attention_heads * config.head_dim
    return 6 * body * lengths.sum() + 6 * head * targets + 12 * config.num_hidden_layers * heads * pairs


def result(name: str, trees: list[list[Tree]], seconds: list[float], model: PreTrainedModel) -> dict[str, Any]:
    """Medians over steps; the memory is the allocator's peak over the whole run."""
    tokens = [sum(len(tree[0].ids) for tree in step) for step in trees]
    return {
        "runner": name,
        "tokens_per_second": float(np.median([t / s for t, s in zip(tokens, seconds, strict=True)])),
        "mfu": float(np.median([flops(model, step) / s / PEAK_FLOPS for step, s in zip(trees, seconds, strict=True)])),
        "peak_gib": torch.cuda.max_memory_allocated() / 2**30,
        "steps": len(seconds),
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
    }


def run_ours(name: str, num_steps: int, warmup: int) -> dict[str, Any]:
    world = current_world()
    with world.device:
        model = random_qwen3(attention.NAME)
    if name.endswith("checkpointing"):
        model.gradient_checkpointing_enable({"use_reentrant": False})
    policy = Policy(model).train()
    trees = rows(64 * (num_steps + warmup))
    packed = [[trees[i] for i in items] for items in pack([len(tree[0].ids) for tree in trees], BUDGET)]
    shard(policy, world, torch.bfloat16)
    optimizer = build_optimizer(policy, AdamWConfig())
    seconds: list[float] = []
    for step in packed[: num_steps + warmup]:
        count = sum(float(tree[0].weights.sum()) for tree in step)
        torch.cuda.synchronize()
        started = time.perf_counter()
        accumulate(policy, [step], loss_function(count), world)
        clip_gradients(policy.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = 1e-5
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return result(name, packed[warmup : num_steps + warmup], seconds[warmup:], model)


class Timed(Trainer):
    """Trainer whose steps are timed between their ends."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.ends: list[float] = []

    def training_step(self, *arguments: Any, **keywords: Any) -> torch.Tensor:
        torch.cuda.synchronize()
        self.ends.append(time.perf_counter())
        return super().training_step(*arguments, **keywords)


def run_trainer(name: str, num_steps: int, warmup: int) -> dict[str, Any]:
    model = random_qwen3("sdpa").cuda()
    trees = sorted(rows(64 * (num_steps + warmup)), key=lambda tree: len(tree[0].ids))
    batches: list[list[Tree]] = [[]]
    for tree in trees:
        if (len(batches[-1]) + 1) * len(tree[0].ids) > BUDGET:
            batches.append([])
        batches[-1].append(tree)
    order = np.random.default_rng(1).permutation(len(batches))[: num_steps + warmup + 1]
    chosen = [batches[i] for i in order]
    arguments = TrainingArguments(
        output_dir="trainer_out",
        per_device_train_batch_size=1,
        max_steps=len(chosen),
        bf16=True,
        optim="adamw_torch_fused",
        learning_rate=1e-5,
        gradient_checkpointing=name.endswith("checkpointing"),
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    sampler = list(range(len(chosen)))

    class InOrder(Timed):
        def _get_train_sampler(self, *_: Any, **__: Any) -> Any:
            return sampler

    trainer = InOrder(model=model, args=arguments, train_dataset=chosen, data_collator=padded)
    trainer.train()
    seconds = np.diff(trainer.ends).tolist()[warmup:]
    return result(name, chosen[warmup : warmup + len(seconds)], seconds, model)


def padded(features: list[list[Tree]]) -> dict[str, torch.Tensor]:
    """One padded batch of a bin of rows."""
    (step,) = features
    longest = max(len(tree[0].ids) for tree in step)
    ids = torch.zeros(len(step), longest, dtype=torch.long)
    labels = torch.full((len(step), longest), -100)
    mask = torch.zeros(len(step), longest, dtype=torch.long)
    for number, (segment,) in enumerate(step):
        length = len(segment.ids)
        ids[number, :length] = torch.from_numpy(segment.ids).long()
        trained = torch.from_numpy(segment.weights) > 0
        labels[number, :length] = torch.where(trained, ids[number, :length], -100)
        mask[number, :length] = 1
    return {"input_ids": ids, "labels": labels, "attention_mask": mask}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("sft_gpu.json"))
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--warmup", type=int, default=8)
    parser.add_argument("--only", choices=RUNNERS)
    arguments = parser.parse_args()
    if arguments.only:
        run = run_trainer if arguments.only.startswith("trainer") else run_ours
        print(json.dumps(run(arguments.only, arguments.steps, arguments.warmup)))
        return
    results: list[dict[str, Any]] = []
    for name in RUNNERS:
        command = [
            sys.executable,
            __file__,
            "--only",
            name,
            "--steps",
            str(arguments.steps),
            "--warmup",
            str(arguments.warmup),
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        line = done.stdout.strip().splitlines()[-1:] or ["{}"]
        results.append(json.loads(line[0]) if done.returncode == 0 else {"runner": name, "failed": done.stderr[-2000:]})
        print(results[-1], flush=True)
    arguments.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
