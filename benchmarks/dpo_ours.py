"""Preference tuning with Cameleer, timed: `cameleer.dpo.train` as the command runs it, reference pass included.

PYTHONPATH=benchmarks .venv/bin/python benchmarks/dpo_ours.py --model … --data … --out …
"""

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
import transformers

from cameleer.core.log import MetricsLog
from cameleer.core.pairs import PAIRS, PreferencePair
from cameleer.core.stage import StageRun
from cameleer.core.types import Message
from cameleer.dpo import train as dpo
from cameleer.dpo.config import DPOConfig
from cameleer.train.layout import shuffled
from pair_protocol import PairReport, Timer
from protocol import parse_arguments, settings_of

SEED = 0


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tokens-per-batch", type=int, default=512, help="tokens of one forward pass, at most")
    parser.add_argument("--checkpointing", action="store_true", help="recompute activations in the backward pass")


def prepare(options: argparse.Namespace, folder: Path) -> StageRun:
    """The pairs, so placed that training takes them in the data's order."""
    rows = [json.loads(line) for line in options.data.read_text().splitlines()]
    pairs = [
        PreferencePair(str(i), "pairs", (Message("user", row["prompt"]),), row["chosen"], row["rejected"])
        for i, row in enumerate(rows)
    ]
    placed = dict(zip(shuffled(len(pairs), SEED, 0).tolist(), pairs, strict=True))
    for name in ("pairs", "model"):
        (folder / name).mkdir()
    PAIRS.write(folder / "pairs", [placed[place] for place in range(len(pairs))])
    inputs = {"model": options.model, "reference": options.model, "pairs": folder / "pairs"}
    return StageRun("dpo", folder / "model", inputs, "model", SEED)


def config(options: argparse.Namespace) -> DPOConfig:
    return DPOConfig(
        batch_size=options.batch_size,
        max_tokens=options.max_tokens,
        tokens_per_batch=options.tokens_per_batch,
        gradient_checkpointing=options.checkpointing,
        checkpoint_minutes=1e6,
    )


def main() -> None:
    options = parse_arguments(__doc__, add_options)
    torch.set_num_threads(options.threads)
    reference, step = Timer(), Timer()
    losses: list[float] = []
    tokens: list[int] = []

    def timed_reference(*arguments: Any) -> Any:
        reference.start()
        trees = with_reference(*arguments)
        reference.stop()
        step.start()
        return trees

    class TimedLog(MetricsLog):
        def write(self, **values: Any) -> None:
            super().write(**values)
            step.stop()
            step.start()
            losses.append(values["loss"])
            tokens.append(values["num_tokens"])

    with_reference = dpo.with_reference
    dpo.with_reference = timed_reference
    dpo.MetricsLog = TimedLog
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CAMELEER_CACHE"] = str(Path(folder) / "cache")
        dpo.train(config(options), prepare(options, Path(folder)))
    versions = {module.__name__: module.__version__ for module in (torch, transformers)}
    PairReport("cameleer", settings_of(options), versions, reference.laps[0], step.laps, losses, tokens).write(
        options.out
    )


if __name__ == "__main__":
    main()
