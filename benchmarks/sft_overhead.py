"""Claim: the SFT loop costs at most 3% more than a bare PyTorch loop on the same batches.

    PYTHONPATH=benchmarks .venv/bin/python benchmarks/sft_overhead.py --model … --data … --steps 10 …

Step by step in one process, first ours, then bare, so that both see the same machine. Ours is everything between two
lines of metrics: choosing and packing rows, collating, forward, backward, clipping, AdamW, logging, progress. Bare is
forward, backward, clipping and AdamW on batches that were collated before the clock started, on a second copy of the
model.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from cameleer.core.log import MetricsLog
from cameleer.core.training import AdamWConfig
from cameleer.sft import train as sft
from cameleer.train.accumulate import split_step
from cameleer.train.layout import collate
from cameleer.train.optim import build_optimizer
from protocol import parse_arguments
from sft_ours import MAX_GRAD_NORM, add_options, config, prepare


class Bare:
    """The same steps without a framework."""

    def __init__(self, setup: sft.Setup) -> None:
        self.policy = setup.learner.model
        self.optimizer = build_optimizer(self.policy, AdamWConfig())
        for group in self.optimizer.param_groups:
            group["lr"] = 1e-5
        self.setup = setup

    def step(self, number: int, tokens_per_batch: int) -> float:
        rows = [self.setup.train_rows[row] for row in self.setup.plan.rows(number)]
        trees = [self.setup.rows.trees[row] for row in rows]
        batches = [collate(each) for each in split_step(trees, tokens_per_batch, self.setup.world)]
        count = sum(batch.weight_N.sum().item() for batch in batches)
        started = time.perf_counter()
        for batch in batches:
            loss = -(self.policy(batch) * batch.weight_N).sum() / count
            loss.backward()
        torch.nn.utils.clip_grad_norm_(self.policy.parameters(), MAX_GRAD_NORM)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return time.perf_counter() - started


def main() -> None:
    options = parse_arguments(__doc__, add_options)
    torch.set_num_threads(options.threads)
    settings = config(options)
    pairs: list[tuple[float, float]] = []

    with tempfile.TemporaryDirectory() as folder:
        stage = prepare(options, Path(folder))
        bare = Bare(sft.prepare(settings, stage, sft.current_world()))

        class Paired(MetricsLog):
            def __init__(self, *arguments: Any, **keywords: Any) -> None:
                super().__init__(*arguments, **keywords)
                self.started = time.perf_counter()

            def write(self, **values: Any) -> None:
                super().write(**values)
                ours = time.perf_counter() - self.started
                pairs.append((ours, bare.step(values["step"] - 1, settings.tokens_per_batch)))
                self.started = time.perf_counter()

        sft.MetricsLog = Paired
        sft.train(settings, stage)
    options.out.write_text(json.dumps(summary(pairs[1:]), indent=2) + "\n")
    print(summary(pairs[1:]))


def summary(pairs: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """The first pair, a warm-up, is not among them."""
    ratios = [ours / bare for ours, bare in pairs]
    total = sum(ours for ours, _ in pairs) / sum(bare for _, bare in pairs)
    return {"steps": len(pairs), "median_ratio": statistics.median(ratios), "total_ratio": total, "ratios": ratios}


if __name__ == "__main__":
    main()
