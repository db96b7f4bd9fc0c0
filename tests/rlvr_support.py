"""What tests of reinforcement learning share: a tiny model, and problems that a random one solves now and then."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cameleer.core.problems import PROBLEMS
from cameleer.core.stage import StageRun
from cameleer.core.types import Message, Problem
from cameleer.model.load import save_model
from cameleer.model.tiny import TinyKind, tiny_model, tiny_tokenizer
from cameleer.rlvr.config import HeldOut, KeptModel, RewardConfig, RLVRConfig
from cameleer.rlvr.names import Objective, ObjectiveConfig

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
