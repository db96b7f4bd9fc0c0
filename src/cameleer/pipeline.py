"""From a recipe to its artifacts: which stage runs, which is skipped. The only module that knows all stages.

A stage's function takes its config and a `StageRun` and returns an `Outcome`; everything around it (inputs, key, draft,
manifest) happens here, the same for every kind.
"""

import importlib
import os
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from cameleer.core import artifact
from cameleer.core.artifact import Manifest, Outcome
from cameleer.core.digest import digest_path
from cameleer.core.errors import UserError, did_you_mean
from cameleer.core.log import console
from cameleer.core.recipe import Recipe, Stage, load_recipe
from cameleer.core.stage import BASE, Input, InputKind, StageConfig, StageRun
from cameleer.core.web import checked_address, fetch, is_address
from cameleer.curate.config import CurateConfig
from cameleer.dpo.config import DPOConfig
from cameleer.evals.config import EvalConfig
from cameleer.prefs.config import PrefsConfig
from cameleer.rlvr.config import RLVRConfig
from cameleer.rm.config import RMConfig
from cameleer.sft.config import SFTConfig
from cameleer.synth.config import SynthConfig


@dataclass(frozen=True)
class Kind:
    """A kind of stage. `function` is imported when it runs: torch is slow to load."""

    config: type[StageConfig]
    function: str
    makes: tuple[InputKind, ...]
    """What a later stage can read of it."""
    every_rank: bool = False
    """Whether all ranks of a distributed launch run it; else rank 0 alone does and the others wait."""
    renders: bool = True
    """Whether the chat template is among the things that it depends on."""


KINDS: dict[str, Kind] = {
    "curate": Kind(
        CurateConfig, "cameleer.curate.run:run", makes=(InputKind.MIXTURE, InputKind.PROBLEMS), renders=False
    ),
    "synth": Kind(SynthConfig, "cameleer.synth.run:run", makes=(InputKind.MIXTURE, InputKind.PROBLEMS)),
    "sft": Kind(SFTConfig, "cameleer.sft.train:run", makes=(InputKind.MODEL,), every_rank=True),
    "dpo": Kind(DPOConfig, "cameleer.dpo.train:run", makes=(InputKind.MODEL,), every_rank=True),
    "rm": Kind(RMConfig, "cameleer.rm.train:run", makes=(InputKind.REWARD_MODEL,), every_rank=True),
    "prefs": Kind(PrefsConfig, "cameleer.prefs.run:run", makes=(InputKind.PAIRS,)),
    "rlvr": Kind(RLVRConfig, "cameleer.rlvr.train:run", makes=(InputKind.MODEL,), every_rank=True),
    "eval": Kind(EvalConfig, "cameleer.evals.run:run", makes=()),
}


def read_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Parse and check a recipe, references included; touches no data and no model."""
    recipe = _told_evaluations(load_recipe(path, {name: kind.config for name, kind in KINDS.items()}, overrides))
    for stage in recipe.stages:
        for each in stage.config.inputs():
            _check_reference(recipe, stage, each)
    return recipe


def _told_evaluations(recipe: Recipe) -> Recipe:
    """The recipe with each curation that names no evaluations told those that the recipe runs."""
    evals = [stage.config for stage in recipe.stages if isinstance(stage.config, EvalConfig)]
    names = tuple(dict.fromkeys(name for config in evals for name in config.task_names))
    stages: list[Stage] = []
    for stage in recipe.stages:
        config = stage.config
        if isinstance(config, CurateConfig) and config.decontaminate.tasks is None:
            rules = config.decontaminate
            asked = max([rules.num_generated, *(each.num_items or 0 for each in evals)])
            told = rules.model_copy(update={"tasks": names, "num_generated": asked})
            stage = replace(stage, config=config.model_copy(update={"decontaminate": told}))
        stages.append(stage)
    return replace(recipe, stages=tuple(stages))


def _check_reference(recipe: Recipe, stage: Stage, each: Input) -> None:
    """Refuse a reference to a stage of the wrong kind, or to a file or folder that is not there."""
    where = f"{recipe.path}: [{stage.name}] {each.role} = '{each.reference}'"
    made_by = {other.name: KINDS[other.kind].makes for other in recipe.stages}
    if each.reference in made_by:
        if each.kind not in made_by[each.reference]:
            raise UserError(f"{where}: stage '{each.reference}' does not make a {each.kind.noun}.")
    elif each.kind is InputKind.FILE and is_address(each.reference):
        checked_address(each.reference)
    elif each.kind is InputKind.FILE and not (recipe.folder / each.reference).exists():
        raise UserError(f"{where}: no such file under {recipe.folder.resolve()}.")
    elif each.kind not in (InputKind.FILE, InputKind.MODEL) and not _is_made(recipe.folder / each.reference, each.kind):
        stages = [name for name, makes in made_by.items() if each.kind in makes]
        raise UserError(
            f"{where}: neither a stage of this recipe nor a {each.kind.noun}'s folder."
            + did_you_mean(each.reference, stages)
        )


def _is_made(folder: Path, kind: InputKind) -> bool:
    """Whether a folder outside the recipe is an artifact that holds one of these."""
    return artifact.read_manifest(folder) is not None and (kind.file is None or (folder / kind.file).exists())


class Ranks(Protocol):
    """How the processes of a launch agree; `cameleer.train.distributed` has the one for several."""

    @property
    def rank(self) -> int: ...
    def broadcast(self, value: Any) -> Any: ...


@dataclass(frozen=True)
class Alone:
    """The only process."""

    rank: int = 0

    def broadcast(self, value: Any) -> Any:
        return value


def launch_ranks() -> Ranks:
    """The ranks of this launch: those of torchrun when its environment is there."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Alone()
    from cameleer.train.distributed import join_launch

    return join_launch()


def run_recipe(recipe: Recipe, folder: Path, only: Sequence[str] = ()) -> None:
    """Bring the run folder to what the recipe says. Stages that are current are skipped.

    `only` names stages to run; what they read must then be there already.
    """
    chosen = [recipe.stage(name) for name in only] or list(recipe.stages)
    ranks = launch_ranks()
    with _held(folder, ranks):
        for stage in recipe.stages:
            if stage in chosen:
                _run_stage(recipe, stage, folder, ranks)


@contextmanager
def _held(folder: Path, ranks: Ranks) -> Generator[None]:
    if ranks.rank != 0:
        yield
        return
    with artifact.locked(folder):
        yield


def _run_stage(recipe: Recipe, stage: Stage, folder: Path, ranks: Ranks) -> None:
    """Run one stage if it is stale; on every rank of the launch, which rank 0 leads."""
    kind = KINDS[stage.kind]
    prepared = ranks.broadcast(_prepare(recipe, stage, folder) if ranks.rank == 0 else None)
    if prepared is None:
        return
    run, manifest = prepared
    outcome, seconds = Outcome(), 0.0
    if ranks.rank == 0 or kind.every_rank:
        started = time.monotonic()
        outcome = _stage_function(kind)(stage.config, run)
        seconds = time.monotonic() - started
    if ranks.rank == 0:
        _complete(folder / stage.name, run.folder, manifest, outcome, seconds)
        console.print(f"[bold]{stage.name}[/] done in {readable_seconds(seconds)}: {folder / stage.name}")
    ranks.broadcast(None)


def _prepare(recipe: Recipe, stage: Stage, folder: Path) -> tuple[StageRun, Manifest] | None:
    """Resolve and digest the inputs; None when the stage is current, else what it takes to run it."""
    paths = {each.role: _resolve(recipe, folder, each) for each in stage.config.inputs()}
    inputs = {each.role: _identity(each, paths[each.role]) for each in stage.config.inputs()}
    seed = stage.config.seed if stage.config.seed is not None else recipe.settings.seed
    config = {**stage.config.model_dump(mode="json"), "seed": seed}
    if KINDS[stage.kind].renders:
        config["chat_template"] = recipe.settings.chat_template
    what = {name: value for name, value in config.items() if name not in stage.config.HOW}
    key = artifact.artifact_key(stage.kind, what, inputs)
    target = folder / stage.name
    reason = artifact.staleness(target, key)
    if reason is None:
        console.print(f"[bold]{stage.name}[/] is current, skipped: {target}")
        return None
    going_on = artifact.draft_has_key(target, key)
    console.print(f"[bold]{stage.name}[/] {'goes on where it stopped' if going_on else f'runs: {reason}'}")
    draft = artifact.open_draft(target, key)
    artifact.write_json(draft / "config.json", config)
    manifest = artifact.complete_manifest(
        kind=stage.kind, name=stage.name, key=key, config=config, inputs=inputs, seed=seed
    )
    return StageRun(stage.name, draft, paths, recipe.settings.chat_template, seed), manifest


def _resolve(recipe: Recipe, folder: Path, each: Input) -> Path:
    """The folder or file on this machine that a reference means. Raises UserError for a stage that has not run."""
    if each.reference in {stage.name for stage in recipe.stages}:
        made = folder / each.reference
        if artifact.read_manifest(made) is None:
            raise UserError(f"{made}: not made yet.", f"Run stage '{each.reference}' first (leave out --only).")
        if each.kind.file is not None and not (made / each.kind.file).exists():
            raise UserError(f"{made}: holds no {each.kind.noun}.", f"Ask for some in [{each.reference}].")
        return made
    if each.kind is InputKind.FILE and is_address(each.reference):
        return fetch(each.reference)
    if each.kind is not InputKind.MODEL:
        return (recipe.folder / each.reference).resolve()
    from cameleer.model.source import resolve_model

    return resolve_model(recipe.settings.model if each.reference == BASE else each.reference)


def _identity(each: Input, path: Path) -> dict[str, str]:
    """What a stage's key says of an input. Of a made folder that is just the file read: its card may change freely."""
    if each.kind.file is not None:
        path = path / each.kind.file
    digest = artifact.content_digest(path) if path.is_dir() else digest_path(path)
    return {"name": each.reference, "digest": digest}


def _stage_function(kind: Kind) -> Any:
    module, _, name = kind.function.partition(":")
    return getattr(importlib.import_module(module), name)


def _complete(target: Path, draft: Path, manifest: Manifest, outcome: Outcome, seconds: float) -> None:
    finished = replace(
        manifest,
        counts=outcome.counts,
        summary=outcome.summary,
        template_fingerprint=outcome.template_fingerprint,
        wall_seconds=round(seconds, 3),
        content_digest=artifact.content_digest(draft),
    )
    artifact.commit_draft(target, finished)


@dataclass(frozen=True)
class StageStatus:
    """What a run folder says of one stage. `progress` is the last line of its metrics while it is unfinished."""

    name: str
    kind: str
    state: str
    wall_seconds: float | None
    counts: dict[str, Any]
    summary: dict[str, Any]
    progress: dict[str, Any]


def run_status(folder: Path) -> list[StageStatus]:
    """The stages found in a run folder, finished ones by the time they were made, then the unfinished."""
    if not folder.is_dir():
        raise UserError(
            f"{folder}: no such run folder.", "`cameleer run RECIPE` writes to runs/NAME unless told otherwise."
        )
    from cameleer.core.log import read_metrics

    manifests = [made for made in map(artifact.read_manifest, sorted(folder.iterdir())) if made is not None]
    done = [
        StageStatus(made.name, made.kind, "done", made.wall_seconds, made.counts, made.summary, {})
        for made in sorted(manifests, key=lambda manifest: manifest.created)
    ]
    unfinished: list[StageStatus] = []
    for draft in sorted(folder.glob(".*.draft")):
        metrics = draft / artifact.METRICS
        lines = read_metrics(metrics) if metrics.exists() else []
        name = draft.name.removeprefix(".").removesuffix(".draft")
        unfinished.append(StageStatus(name, "", "unfinished", None, {}, {}, lines[-1] if lines else {}))
    return done + unfinished


def readable_seconds(seconds: float) -> str:
    """Seconds as a person writes them: 8.2 s, 3 min 05 s, 2 h 07 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
