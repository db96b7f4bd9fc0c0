"""What a stage is to the pipeline: a config that names its inputs, and a function from a `StageRun` to an `Outcome`."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import ClassVar

from cameleer.core.config import Config
from cameleer.core.types import ChatTemplate

BASE = "base"
"""The name under which stages refer to the recipe's `model`."""


class InputKind(StrEnum):
    """How a reference is looked up.

    `model`: "base", a stage that makes a model, or any model spec. `mixture`, `problems`, `pairs`, `reward_model`: a
    stage that makes one, or its folder. `file`: a path relative to the recipe, or an address of
    the web (`core.web`).
    """

    MODEL = "model"
    MIXTURE = "mixture"
    PROBLEMS = "problems"
    PAIRS = "pairs"
    REWARD_MODEL = "reward_model"
    FILE = "file"

    @property
    def noun(self) -> str:
        """What messages call one of these."""
        return {"pairs": "set of pairs", "problems": "set of problems"}.get(self, self.replace("_", " "))

    @property
    def file(self) -> str | None:
        """The one file of a made folder that a reader depends on; None where it depends on the whole folder."""
        return f"{self}.parquet" if self in (InputKind.MIXTURE, InputKind.PROBLEMS, InputKind.PAIRS) else None


@dataclass(frozen=True, slots=True)
class Input:
    """One input of a stage. `role` is its name inside the stage and unique there."""

    role: str
    kind: InputKind
    reference: str


class StageConfig(Config):
    """Base of every stage's config."""

    HOW: ClassVar[frozenset[str]] = frozenset()
    """Settings of how and not of what: no part of an artifact's identity. A stopped run goes on when they change."""

    seed: int | None = None
    """Seed of everything random in the stage; the recipe's seed when absent."""

    def inputs(self) -> list[Input]:
        """What the stage reads, by reference. Everything that a stage reads is named here, else staleness is blind."""
        return []


@dataclass(frozen=True)
class StageRun:
    """One execution of a stage: where it writes, and its inputs as folders or files on this machine.

    `folder` is a draft that survives interruptions: a stage that finds its own earlier files there goes on from them.
    """

    name: str
    folder: Path
    inputs: dict[str, Path]
    chat_template: ChatTemplate
    seed: int
