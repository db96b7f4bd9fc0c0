"""Supervised fine-tuning with Cameleer, timed: `cameleer.sft.train` as the command runs it.

PYTHONPATH=benchmarks .venv/bin/python benchmarks/sft_ours.py --model … --data … --out …
"""

import argparse
import itertools
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import transformers

from cameleer.core.artifact import METRICS
from cameleer.core.log import MetricsLog, read_metrics
from cameleer.core.mixture import MIXTURE
from cameleer.core.stage import StageRun
from cameleer.core.types import Example, Message
from cameleer.sft import train as sft
from cameleer.sft.config import Overlong, SFTConfig
from protocol import Report, Step, parse_arguments

MAX_GRAD_NORM = 1.0


class TimedLog(MetricsLog):
    """Writes the processor time of each step beside its metrics."""

    before = 0.0

    def write(self, **values: Any) -> None:
        now = time.process_time()
        super().write(**values, cpu_seconds=now - self.before)
        self.before = now


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tokens-per-batch", type=int, default=512, help="tokens of one forward pass, at most")
    parser.add_argument("--checkpointing", action="store_true", help="recompute activations in the backward pass")


def prepare(options: argparse.Namespace, folder: Path) -> StageRun:
    """A mixture of as many rows as the steps take, in the data's order, repeated if need be."""
    lines = itertools.cycle(options.data.read_text().splitlines())
    count = (options.steps + 1) * options.batch_size
    rows = [json.loads(line)["messages"] for line in itertools.islice(lines, count)]
    mixture = folder / "mixture"
    mixture.mkdir()
    MIXTURE.write(
        mixture, [Example(str(i), "chats", tuple(Message(**turn) for turn in row)) for i, row in enumerate(rows)]
    )
    draft = folder / "model"
    draft.mkdir()
    return StageRun("sft", draft, {"model": options.model, "mixture": mixture}, "model", seed=0)


def config(options: argparse.Namespace) -> SFTConfig:
    return SFTConfig(
        learning_rate=1e-5,
        schedule="constant",
        warmup_ratio=0.0,
        num_epochs=1,
        batch_size=options.batch_size,
        max_tokens=options.max_tokens,
        overlong=Overlong.TRUNCATE,
        tokens_per_batch=options.tokens_per_batch,
        max_grad_norm=MAX_GRAD_NORM,
        gradient_checkpointing=options.checkpointing,
        checkpoint_minutes=1e6,
    )


def main() -> None:
    options = parse_arguments(__doc__, add_options)
    torch.set_num_threads(options.threads)
    sft.MetricsLog = TimedLog
    with tempfile.TemporaryDirectory() as folder:
        stage = prepare(options, Path(folder))
        sft.train(config(options), stage)
        lines = read_metrics(stage.folder / METRICS)
    warmup, *steps = [
        Step(each["num_tokens"], each["num_trained_tokens"], each["loss"], each["seconds"], each["cpu_seconds"])
        for each in lines
    ]
    settings = {name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()}
    versions = {module.__name__: module.__version__ for module in (torch, transformers)}
    Report("cameleer", settings, versions, warmup, steps).write(options.out)


if __name__ == "__main__":
    main()
