"""Steps of reinforcement learning with Cameleer, timed: `cameleer.rlvr.train` as the command runs it.

    PYTHONPATH=benchmarks .venv/bin/python benchmarks/rlvr_ours.py --model … --data … --out …

`--batch-size` prompts a step with `--samples` answers of exactly `--max-tokens` tokens each. An answer's reward is the
parity of its ids' sum, on both sides: what is rewarded does not matter to the time, but groups must differ.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import transformers

from cameleer.core.artifact import METRICS
from cameleer.core.log import MetricsLog, read_metrics
from cameleer.core.problems import PROBLEMS
from cameleer.core.stage import StageRun
from cameleer.core.types import Message, Problem
from cameleer.model.generate import Sampling
from cameleer.rlvr import rollouts, train
from cameleer.rlvr.config import RLVRConfig
from cameleer.rlvr.names import Objective, ObjectiveConfig
from protocol import Report, Step, parse_arguments, settings_of

TARGET = {"constraints": [{"id": "word_count", "kwargs": {"relation": "at least", "count": 1}}]}


class TimedLog(MetricsLog):
    """Writes the processor time of each step beside its metrics."""

    before = 0.0

    def write(self, **values: Any) -> None:
        now = time.process_time()
        super().write(**values, cpu_seconds=now - self.before)
        self.before = now


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--samples", type=int, default=8, help="answers to each prompt")
    parser.add_argument("--tokens-per-batch", type=int, default=512, help="tokens of one forward pass, at most")


def parity(_config: Any, _verdict: Any, ids: Sequence[int], *_: Any) -> tuple[float, dict[str, float]]:
    return float(sum(ids) % 2), {}


def prepare(options: argparse.Namespace, folder: Path) -> StageRun:
    """As many problems as the steps take, in the data's order."""
    count = (options.steps + 1) * options.batch_size
    lines = [json.loads(line)["messages"] for line in options.data.read_text().splitlines()][:count]
    (folder / "problems").mkdir()
    rows = [
        Problem(str(number), "chats", "", (Message(**turns[0]),), "constraints", TARGET, "gold")
        for number, turns in enumerate(lines)
    ]
    assert len(rows) == count
    PROBLEMS.write(folder / "problems", rows)
    draft = folder / "model"
    draft.mkdir()
    return StageRun("rlvr", draft, {"model": options.model, "problems": folder / "problems"}, "model", seed=0)


def config(options: argparse.Namespace) -> RLVRConfig:
    return RLVRConfig(
        objective=ObjectiveConfig(objective=Objective.GRPO),
        learning_rate=1e-6,
        schedule="constant",
        prompts_per_step=options.batch_size,
        samples_per_prompt=options.samples,
        num_passes=1,
        max_new_tokens=options.max_tokens,
        max_staleness=0,
        tokens_per_batch=options.tokens_per_batch,
        checkpoint_minutes=1e6,
    )


def main() -> None:
    options = parse_arguments(__doc__, add_options)
    torch.set_num_threads(options.threads)
    train.MetricsLog = TimedLog
    rollouts.reward_of = parity
    plain = train.Setup.sampling.fget
    assert plain is not None
    # No answer may end before its time.
    train.Setup.sampling = property(lambda setup: forced(plain(setup)))
    with tempfile.TemporaryDirectory() as folder:
        stage = prepare(options, Path(folder))
        train.train(config(options), stage)
        lines = read_metrics(stage.folder / METRICS)
    assert all(
        each["num_sampled_tokens"] == options.batch_size * options.samples * options.max_tokens for each in lines
    )
    warmup, *steps = [
        Step(each["num_sampled_tokens"], each["num_trained_tokens"], each["loss"], each["seconds"], each["cpu_seconds"])
        for each in lines
    ]
    versions = {module.__name__: module.__version__ for module in (torch, transformers)}
    Report("cameleer", settings_of(options), versions, warmup, steps).write(options.out)
    for each in lines:
        print({key: round(value, 2) for key, value in each.items() if key.endswith("seconds")})


def forced(sampling: Sampling) -> Sampling:
    return replace(sampling, min_new_tokens=sampling.max_new_tokens)


if __name__ == "__main__":
    main()
