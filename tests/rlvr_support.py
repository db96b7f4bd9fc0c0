"""What tests of reinforcement learning share: a tiny model, and problems that a random one solves now and then."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from safetensors.torch import load_file

from cameleer.core.artifact import Outcome
from cameleer.core.log import read_metrics
from cameleer.core.problems import PROBLEMS
from cameleer.core.stage import StageRun
from cameleer.core.types import Message, Problem
from cameleer.model.load import save_model
from cameleer.model.tiny import TinyKind, tiny_model, tiny_tokenizer
from cameleer.rlvr import train as rlvr
from cameleer.rlvr.config import HeldOut, KeptModel, RewardConfig, RLVRConfig
from cameleer.rlvr.metrics import TIMINGS
from cameleer.rlvr.names import Objective, ObjectiveConfig
from cameleer.verify import Outcome as Verdicts
from cameleer.verify import Verdict

TARGET = {"constraints": [{"id": "word_count", "kwargs": {"relation": "at least", "count": 3}}]}

GROUPS = RLVRConfig(
    objective=ObjectiveConfig(objective=Objective.GRPO),
    reward=RewardConfig(correct=1.0, missing_end=None),
    learning_rate=1e-2,
    schedule="constant",
    num_steps=6,
    prompts_per_step=4,
    samples_per_prompt=4,
    num_passes=1,
    max_new_tokens=8,
    max_staleness=0,
    tokens_per_batch=256,
    held_out=HeldOut(num_problems=4, every=3, keep=KeptModel.LAST),
)


def grpo(**settings: Any) -> ObjectiveConfig:
    return ObjectiveConfig.parse({"objective": "grpo", **settings}, "")


def problems(count: int, task: str = "words", target: Any = TARGET, verifier: str = "constraints") -> list[Problem]:
    return [
        Problem(
            f"{task}/{number}",
            task,
            "count",
            (Message("user", f"Say at least three words about {number}."),),
            verifier,
            target,
            "one two three",
        )
        for number in range(count)
    ]


def write_inputs(folder: Path, rows: Sequence[Problem] | None = None, kind: TinyKind = "llama") -> dict[str, Path]:
    """A tiny model and problems on disk, as the inputs of an RLVR stage."""
    folder.mkdir(exist_ok=True)
    save_model(tiny_model(kind), tiny_tokenizer(), folder / "model")
    (folder / "problems").mkdir()
    PROBLEMS.write(folder / "problems", rows if rows is not None else problems(16))
    return {"model": folder / "model", "reference": folder / "model", "problems": folder / "problems"}


def rlvr_stage(folder: Path, inputs: dict[str, Path], seed: int = 3) -> StageRun:
    folder.mkdir(parents=True, exist_ok=True)
    return StageRun("rlvr", folder, inputs, "model", seed)


def train(folder: Path, inputs: dict[str, Path], config: RLVRConfig = GROUPS, **changes: Any) -> Path:
    outcome(folder, inputs, config, **changes)
    return folder


def outcome(folder: Path, inputs: dict[str, Path], config: RLVRConfig = GROUPS, **changes: Any) -> Outcome:
    return rlvr.run(config.model_copy(update=changes), rlvr_stage(folder, inputs))


def steps(folder: Path) -> list[dict[str, Any]]:
    return [line for line in untimed(folder) if "held_out" not in line]


def untimed(folder: Path) -> list[dict[str, Any]]:
    lines = read_metrics(folder / "metrics.jsonl")
    return [{key: value for key, value in line.items() if not key.endswith(TIMINGS)} for line in lines]


def gain(lines: list[dict[str, Any]], window: int) -> float:
    """By how much the pass rate of the last steps is above that of the first."""
    rates = [line["pass_rate"] for line in lines]
    return float(np.mean(rates[-window:]) - np.mean(rates[:window]))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def rollouts(folder: Path) -> list[pl.DataFrame]:
    return [pl.read_parquet(file) for file in sorted((folder / "rollouts").glob("step-*.parquet"))]


def assert_same_run(one: Path, other: Path) -> None:
    """Weights, rollouts with verdicts and advantages, and metrics, to the bit."""
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert len(rollouts(one)) == len(rollouts(other)) > 0
    assert all(a.equals(b, null_equal=True) for a, b in zip(rollouts(one), rollouts(other), strict=True))
    assert untimed(one) == untimed(other)


def fail(*_: Any) -> Any:
    raise RuntimeError("stop here")


def down(response: str, verifier: str, target: Any) -> Verdict:
    """A verifier that cannot be reached."""
    return Verdict(Verdicts.ERROR, None, {"error": "no connection"})
