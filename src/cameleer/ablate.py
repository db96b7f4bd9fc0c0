"""Which data helps: a recipe's fine-tuning with and without each source, on each source alone, on parts of the data.

    leave-one-out   effect of a source on a task   = score(all sources) - score(all but this one)
    specialists     ceiling of a task              = the best score that one source alone gives
    sizes           score over the share of every source that is trained on

(Tülu 3 report, §4.1.2 and §4.2: skill-specific mixtures as upper bounds, then a mixture judged by what each part adds.)
An ablation is an ordinary run of a larger recipe, with a curation and a fine-tuning for each variant and the recipe's
evaluations of all models; so what is unchanged is shared, and an interrupted one goes on. Rows of a source are the same
in every variant, and differences are taken item by item. Sealed tasks are left out: a mixture chosen by them would be
trained on them in a way. Intervals speak for other items, not for other training seeds.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from cameleer import pipeline
from cameleer.core import markdown
from cameleer.core.artifact import write_json
from cameleer.core.errors import UserError, did_you_mean
from cameleer.core.log import console
from cameleer.core.recipe import Recipe, Stage
from cameleer.core.stage import BASE
from cameleer.curate.config import CurateConfig, Source
from cameleer.evals.config import EvalConfig
from cameleer.evals.stats import holm
from cameleer.sft.config import SFTConfig
from cameleer.tasks import TASKS

ALL = "all"
"""The label of the mixture as the recipe has it."""
RESULT, REPORT = "ablation.json", "ablation.md"


class Series(StrEnum):
    """What is varied."""

    LEAVE_ONE_OUT = "leave-one-out"
    SPECIALISTS = "specialists"
    SIZES = "sizes"


@dataclass(frozen=True)
class Variant:
    """One mixture to train on. `label` names its stages; `source` is what is left out or alone, `share` the size."""

    label: str
    series: Series | None
    curate: CurateConfig
    source: str = ""
    share: float = 1.0

    @property
    def model(self) -> str:
        """The stage that makes its model."""
        return f"{self.label}-sft"


def ablate(
    recipe: Recipe, folder: Path, series: Sequence[Series], shares: Sequence[float], max_rows: int | None
) -> dict[str, Any]:
    """Run the ablation of a recipe in `folder` and leave `ablation.json` and `ablation.md` there; the former's content.

    `max_rows` bounds the rows of each source, `shares` are the sizes of the series `sizes`. Raises UserError for a
    recipe without a curation, one fine-tuning on it and an evaluation of that.
    """
    chain = chain_of(recipe)
    variants = variants_of(counted(chain.curate, max_rows), series, shares)
    larger = larger_recipe(recipe, chain, variants)
    console.print(
        f"ablation of {recipe.settings.name}: {len(variants)} models to train, {len(variants) + 1} to evaluate"
    )
    pipeline.run_recipe(larger, folder)
    found = effects(_results(folder, list(chain.evaluations)), variants)
    write_json(folder / RESULT, found)
    (folder / REPORT).write_text(report(found), encoding="utf-8")
    return found


def parse_series(names: Sequence[str]) -> list[Series]:
    """Series by name. Raises UserError for an unknown one."""
    for name in names:
        if name not in tuple(Series):
            raise UserError(
                f"unknown series '{name}'.{did_you_mean(name, tuple(Series))}", f"Series: {', '.join(Series)}."
            )
    return [Series(name) for name in dict.fromkeys(names)]


# --- which variants there are ---


@dataclass(frozen=True)
class Chain:
    """What of a recipe is varied, trained and measured; `evaluations` go by stage, each with what it measures."""

    curate: CurateConfig
    sft: SFTConfig
    evaluations: dict[str, EvalConfig]


def chain_of(recipe: Recipe) -> Chain:
    """The recipe's one fine-tuning, the curation that it reads, and the evaluations of its model.

    Of an evaluation's tasks the sealed ones are left out, and those that an earlier evaluation measures.
    """
    configs = {stage.name: stage.config for stage in recipe.stages}
    tuned = {name: config for name, config in configs.items() if isinstance(config, SFTConfig)}
    if len(tuned) != 1:
        raise UserError(
            f"{recipe.path}: an ablation trains one sft stage; here are {len(tuned)}.",
            "Leave the others to a recipe of their own.",
        )
    ((name, sft),) = tuned.items()
    curate = configs.get(sft.mixture)
    if not isinstance(curate, CurateConfig):
        raise UserError(
            f"{recipe.path}: an ablation varies the sources of a curate stage, and [{name}] trains on '{sft.mixture}'.",
            "Let its mixture be a curate stage of this recipe.",
        )
    evaluations: dict[str, EvalConfig] = {}
    measured: set[str] = set()
    for stage, config in configs.items():
        if isinstance(config, EvalConfig) and name in config.models:
            tasks = tuple(task for task in config.task_names if task in TASKS and task not in measured)
            measured.update(tasks)
            if tasks:
                evaluations[stage] = config.model_copy(update={"tasks": tasks})
    if not evaluations:
        raise UserError(
            f"{recipe.path}: no eval stage measures '{name}' on a task that is not sealed; no mixture may be chosen by "
            "sealed ones.",
            f"Let an eval stage have '{name}' among its models and tasks for development, such as quickstart-dev.",
        )
    return Chain(curate, sft, evaluations)


def counted(config: CurateConfig, max_rows: int | None) -> CurateConfig:
    """The config with rows by source in place of weights, and at most `max_rows` of each.

    Without a source the weights of the others would give them more rows: two changes at once.
    """
    sources: list[Source] = []
    for source, count in zip(config.sources, config.row_counts(), strict=True):
        changes: dict[str, Any] = {"count": count, "weight": None}
        if max_rows is not None:
            limited = "count" if count is not None else "max_count"
            changes[limited] = min(count or source.max_count or max_rows, max_rows)
        sources.append(source.model_copy(update=changes))
    return config.model_copy(update={"sources": tuple(sources), "num_rows": None})


def variants_of(config: CurateConfig, series: Sequence[Series], shares: Sequence[float]) -> list[Variant]:
    """The whole mixture first, then those of each series. Raises UserError where nothing can be varied."""
    if len(config.sources) < 2 and set(series) & {Series.LEAVE_ONE_OUT, Series.SPECIALISTS}:
        raise UserError("the recipe's mixture has one source: nothing can be left out.", "Use --series sizes.")
    variants = [Variant(ALL, None, config)]
    for source in config.sources if Series.LEAVE_ONE_OUT in series else ():
        others = tuple(each for each in config.sources if each is not source)
        variants.append(_variant(f"without {source.name}", Series.LEAVE_ONE_OUT, config, others, source.name))
    for source in config.sources if Series.SPECIALISTS in series else ():
        variants.append(_variant(f"only {source.name}", Series.SPECIALISTS, config, (source,), source.name))
    for share in sorted(shares) if Series.SIZES in series else ():
        if not 0 < share < 1:
            raise UserError(f"a share of the data lies between 0 and 1, and {share:g} does not.")
        part = tuple(_part(source, share) for source in config.sources)
        variants.append(_variant(f"{share:.0%} of all", Series.SIZES, config, part, share=share))
    return variants


def _variant(
    words: str, series: Series, config: CurateConfig, sources: tuple[Source, ...], source: str = "", share: float = 1.0
) -> Variant:
    label = re.sub(r"[^\w%.-]+", "-", words)
    return Variant(label, series, config.model_copy(update={"sources": sources}), source, share)


def _part(source: Source, share: float) -> Source:
    if source.count is not None:
        return source.model_copy(update={"count": max(1, round(source.count * share))})
    cap = None if source.max_count is None else max(1, round(source.max_count * share))
    return source.model_copy(update={"fraction": (source.fraction or 1.0) * share, "max_count": cap})


def larger_recipe(recipe: Recipe, chain: Chain, variants: Sequence[Variant]) -> Recipe:
    """The recipe that trains every variant and evaluates them all."""
    stages: list[Stage] = []
    for variant in variants:
        made = f"{variant.label}-curate"
        stages.append(Stage(made, "curate", variant.curate))
        stages.append(Stage(variant.model, "sft", chain.sft.model_copy(update={"mixture": made})))
    models = tuple(dict.fromkeys([*(variant.model for variant in variants), BASE]))
    for name, evaluation in chain.evaluations.items():
        stages.append(Stage(name, "eval", evaluation.model_copy(update={"models": models})))
    return Recipe(recipe.path, recipe.settings, tuple(stages))


# --- what came out ---


def _results(folder: Path, evaluations: Sequence[str]) -> dict[str, Any]:
    """What `effects` reads of the results of all evaluations."""
    all_of = [json.loads((folder / name / "results.json").read_text(encoding="utf-8")) for name in evaluations]
    return {
        "tasks": [task for results in all_of for task in results["tasks"]],
        "scores": [row for results in all_of for row in results["scores"]],
        "comparisons": [row for results in all_of for row in results["comparisons"]],
    }


def effects(results: Mapping[str, Any], variants: Sequence[Variant]) -> dict[str, Any]:
    """Effects, ceilings and sizes from the evaluations' results; scores and differences as proportions.

    An effect's p-value is corrected by Holm over all sources and tasks.
    """
    scores = {(row["model"], row["task"]): row for row in results["scores"]}
    against = {
        (row["model"], row["task"]): row for row in results["comparisons"] if row["against"] == variants[0].model
    }
    # A task that needs a judge which is not there has no scores.
    tasks = [
        task
        for task in results["tasks"]
        if all(row["score"] is not None for row in results["scores"] if row["task"] == task)
    ]
    left_out = [variant for variant in variants if variant.series is Series.LEAVE_ONE_OUT]
    places = [(variant, task) for variant in left_out for task in tasks]
    adjusted = holm([against[variant.model, task]["p_value"] for variant, task in places])
    alone = [variant for variant in variants if variant.series is Series.SPECIALISTS]
    return {
        "tasks": tasks,
        "scores": [
            {
                "variant": label,
                "task": task,
                "score": scores[model, task]["score"],
                "interval": scores[model, task]["interval"],
            }
            for label, model in [(BASE, BASE), *((variant.label, variant.model) for variant in variants)]
            for task in tasks
        ],
        "effects": [
            {"source": variant.source, "task": task, **_effect(against[variant.model, task]), "p_holm": p_value}
            for (variant, task), p_value in zip(places, adjusted, strict=True)
        ],
        "ceilings": [_ceiling(task, alone, variants[0], scores, against) for task in tasks if alone],
        "sizes": [
            {"share": variant.share, "task": task, "score": scores[variant.model, task]["score"]}
            for variant in [*(each for each in variants if each.series is Series.SIZES), variants[0]]
            for task in tasks
            if any(each.series is Series.SIZES for each in variants)
        ],
    }


def _effect(row: Mapping[str, Any]) -> dict[str, Any]:
    """What the source adds, from the comparison of the model without it against the one with all."""
    low, high = row["interval"]
    return {"effect": -row["difference"], "interval": [-high, -low], "p_value": row["p_value"]}


def _ceiling(
    task: str, alone: Sequence[Variant], whole: Variant, scores: Mapping[Any, Any], against: Mapping[Any, Any]
) -> dict[str, Any]:
    best = max(alone, key=lambda variant: scores[variant.model, task]["score"])
    row = against[best.model, task]
    return {
        "task": task,
        "source": best.source,
        "ceiling": scores[best.model, task]["score"],
        "score": scores[whole.model, task]["score"],
        "distance": row["difference"],
        "interval": row["interval"],
    }


def verdict(effect: Mapping[str, Any]) -> str:
    """`helps` or `hurts` where the paired interval leaves out 0, else `?`."""
    low, high = effect["interval"]
    return "helps" if low > 0 else "hurts" if high < 0 else "?"


def effect_table(found: Mapping[str, Any]) -> Table:
    """Sources down, tasks across."""
    table = Table("source", *found["tasks"])
    for source in dict.fromkeys(row["source"] for row in found["effects"]):
        rows = [row for row in found["effects"] if row["source"] == source]
        styles = {"helps": "green", "hurts": "red", "?": "dim"}
        table.add_row(Text(source), *(Text(_effect_words(row), style=styles[verdict(row)]) for row in rows))
    return table


def report(found: Mapping[str, Any]) -> str:
    """The ablation in Markdown."""
    tasks = found["tasks"]
    parts = [
        "# Ablation\n\nIntervals are 95% over items, paired item by item; they do not hold the noise of other seeds."
    ]
    if found["effects"]:
        sources = dict.fromkeys(row["source"] for row in found["effects"])
        rows = [[source, *(_cell(found, source, task) for task in tasks)] for source in sources]
        parts.append(
            "## What each source adds\n\nScore with all sources minus score without this one, in percentage points; p "
            "corrected over all cells (Holm).\n\n" + markdown.table(["source", *tasks], rows)
        )
    if found["ceilings"]:
        rows = [
            [row["task"], f"{row['score']:.1%}", f"{row['ceiling']:.1%} ({row['source']})", _points(row, "distance")]
            for row in found["ceilings"]
        ]
        parts.append(
            "## Distance to the best specialist\n\n"
            + markdown.table(["task", "all sources", "best single source", "specialist − all"], rows)
        )
    if found["sizes"]:
        shares = dict.fromkeys(row["share"] for row in found["sizes"])
        rows = [
            [f"{share:.0%}", *(f"{row['score']:.1%}" for row in found["sizes"] if row["share"] == share)]
            for share in shares
        ]
        parts.append("## Score over the share of the data\n\n" + markdown.table(["share", *tasks], rows))
    labels = dict.fromkeys(row["variant"] for row in found["scores"])
    rows = [[label, *(f"{row['score']:.1%}" for row in found["scores"] if row["variant"] == label)] for label in labels]
    parts.append("## All scores\n\n" + markdown.table(["mixture", *tasks], rows))
    return "\n\n".join(parts) + "\n"


def _cell(found: Mapping[str, Any], source: str, task: str) -> str:
    row = next(row for row in found["effects"] if (row["source"], row["task"]) == (source, task))
    return f"{_effect_words(row)}, p {row['p_holm']:.2g}"


def _effect_words(row: Mapping[str, Any]) -> str:
    return f"{_points(row, 'effect')} {verdict(row)}"


def _points(row: Mapping[str, Any], key: str) -> str:
    low, high = row["interval"]
    return f"{100 * row[key]:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
