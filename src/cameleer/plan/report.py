"""A recipe's plan as a whole: the stages, their sums, what was assumed, what is missing; as tables or as JSON."""

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from cameleer.core.log import width_of
from cameleer.core.recipe import Recipe
from cameleer.curate.config import EMBEDDING_MODEL
from cameleer.plan.devices import BANDWIDTH_SHARE, TERA
from cameleer.plan.lengths import DATASETS
from cameleer.plan.machine import Machine
from cameleer.plan.memory import GIB
from cameleer.plan.missing import missing
from cameleer.plan.shapes import shape_of
from cameleer.plan.stages import StagePlan, plan_stage, reference_spec

HOUR = 3600
GB = 1e9


@dataclass(frozen=True)
class Plan:
    """What a recipe takes on a machine."""

    name: str
    machine: Machine
    stages: tuple[StagePlan, ...]
    fetched_bytes: float
    """Weights and datasets of the hub that the recipe names."""
    missing: tuple[str, ...]

    @property
    def device_hours(self) -> float:
        return sum(self.device_hours_of(stage) for stage in self.stages)

    def device_hours_of(self, stage: StagePlan) -> float:
        """Hours of the devices that work. Where one does, such as in evaluation, the stage is best run by itself
        (`--only`) on a machine of one: in a larger launch the others wait."""
        return stage.seconds / HOUR * stage.devices

    @property
    def disk_bytes(self) -> float:
        """What is left at the end, and the most that any stage has beside it."""
        kept = sum(stage.artifact_bytes for stage in self.stages)
        return self.fetched_bytes + kept + max((stage.checkpoint_bytes for stage in self.stages), default=0)

    def fits(self, stage: StagePlan) -> bool:
        limit = self.machine.device.memory_gib
        return limit is None or stage.memory.peak_gib <= limit


def make_plan(recipe: Recipe, machine: Machine) -> Plan:
    """Plan every stage of a recipe. Raises UserError where a count or a shape is not known."""
    stages = tuple(plan_stage(recipe, stage, machine) for stage in recipe.stages)
    plan = Plan(recipe.settings.name, machine, stages, _fetched_bytes(recipe), ())
    return replace(plan, missing=(*missing(recipe, machine), *_missing_disk(plan)))


def _missing_disk(plan: Plan) -> list[str]:
    """Where the disk of the working folder has too little room."""
    free = shutil.disk_usage(".").free
    if free >= plan.disk_bytes:
        return []
    return [f"disk: {plan.disk_bytes / GB:,.0f} GB, of which {free / GB:,.0f} are free"]


def _fetched_bytes(recipe: Recipe) -> float:
    """Downloads: models at two bytes a weight, datasets as their cards say, with the copy that the reader makes.

    Encoders for embeddings, of some 0.1 GB, are left out.
    """
    stages = {stage.name for stage in recipe.stages}
    specs = {recipe.settings.model}
    datasets: set[str] = set()
    for stage in recipe.stages:
        specs |= {
            reference_spec(recipe, each.reference)
            for each in stage.config.inputs()
            if each.kind == "model" and each.role != EMBEDDING_MODEL and each.reference not in stages
        }
        tables = (*getattr(stage.config, "sources", ()), *getattr(stage.config, "problems", ()))
        datasets |= {table.dataset for table in tables if getattr(table, "dataset", None)}
    known = [DATASETS[name] for name in datasets if name in DATASETS]
    return sum(2 * shape_of(spec).weights for spec in specs) + sum(each.download + each.bytes for each in known)


def print_plan(recipe: Recipe, machine: Machine, json_wanted: bool) -> None:
    """Plan and print on standard output."""
    plan = make_plan(recipe, machine)
    if json_wanted:
        print(json.dumps(as_json(plan), indent=2))
    else:
        Console(highlight=False, width=width_of(sys.stdout)).print(render(plan))


# --- for people ---


def render(plan: Plan) -> RenderableType:
    """Tables for a terminal."""
    parts: list[RenderableType] = [_stages(plan), _memory(plan), _lines("assumed", _assumptions(plan))]
    parts.append(_lines("missing here", plan.missing) if plan.missing else Text("nothing is missing here"))
    return Group(*parts)


def _stages(plan: Plan) -> Table:
    device, count = plan.machine.device.name, plan.machine.devices
    heads = ("rows", "steps", "tokens", "sampled", "FLOPs", "hours", f"{device}-hours", "$", "GiB each", "disk GB")
    table = _table(f"{plan.name} on {count} × {device}", heads)
    for stage in plan.stages:
        hours = plan.device_hours_of(stage)
        disk = (stage.artifact_bytes + stage.checkpoint_bytes) / GB
        table.add_row(
            stage.name,
            f"{stage.rows:,}",
            f"{stage.steps:,}" if stage.steps else "",
            _count(stage.tokens),
            _count(stage.sampled_tokens),
            f"{stage.flops.done:.2e}" if stage.flops.done else "",
            _number(stage.seconds / HOUR),
            _number(hours),
            _number(hours * plan.machine.price),
            _memory_words(plan, stage),
            _number(disk),
        )
    table.add_section()
    sums = [sum(getattr(stage, name) for stage in plan.stages) for name in ("tokens", "sampled_tokens", "seconds")]
    flops = sum(stage.flops.done for stage in plan.stages)
    hours, dollars = _number(plan.device_hours), _number(plan.device_hours * plan.machine.price)
    cells = [_count(sums[0]), _count(sums[1]), f"{flops:.2e}", _number(sums[2] / HOUR), hours, dollars]
    table.add_row("all", "", "", *cells, "", _number(plan.disk_bytes / GB))
    return table


def _table(title: str, heads: Sequence[str]) -> Table:
    """A table of numbers for each stage. In a narrow terminal they are folded: a number without its end is none."""
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("stage", overflow="fold")
    for head in heads:
        table.add_column(head, justify="right", overflow="fold")
    return table


def _memory_words(plan: Plan, stage: StagePlan) -> Text:
    if not stage.memory.peak:
        return Text("")
    words = f"{stage.memory.peak_gib:.1f}"
    return Text(words) if plan.fits(stage) else Text(f"{words} > {plan.machine.device.memory_gib:g}", style="red bold")


def _memory(plan: Plan) -> Table:
    shown = [stage for stage in plan.stages if stage.memory.parts]
    names = list(dict.fromkeys(name for stage in shown for name in stage.memory.parts))
    table = _table("memory of a device in GiB", (*names, "sum", "rank 0's host"))
    for stage in shown:
        parts = [stage.memory.parts.get(name, 0) for name in names]
        sizes = [*parts, sum(parts), stage.memory.host]
        table.add_row(stage.name, *(f"{size / GIB:.1f}" if size else "" for size in sizes))
    return table


def _assumptions(plan: Plan) -> list[str]:
    machine = plan.machine
    device = machine.device
    parts = [
        f"{device.name}: peak {device.peak / TERA:,.4g} TFLOP/s, MFU {machine.mfu:g}, "
        f"bandwidth {device.bandwidth / TERA:g} TB/s at {BANDWIDTH_SHARE:.0%}, ${machine.price:g} an hour"
    ]
    noted: dict[str, list[str]] = {}
    for stage in plan.stages:
        for note in stage.notes:
            noted.setdefault(note, []).append(stage.name)
    return parts + [f"{', '.join(stages)}: {note}" for note, stages in noted.items()]


def _lines(head: str, lines: Sequence[str]) -> Text:
    return Text("\n".join([f"\n{head}", *(f"  {line}" for line in lines)]))


def _count(value: float) -> str:
    for unit, name in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:.3g}{name}"
    return f"{value:.0f}" if value else ""


def _number(value: float) -> str:
    return "" if not value else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


# --- for programs ---


def as_json(plan: Plan) -> dict[str, Any]:
    """Everything as plain values; times in hours, sizes in bytes."""
    machine = plan.machine
    return {
        "recipe": plan.name,
        "device": machine.device.name,
        "devices": machine.devices,
        "peak_flops": machine.device.peak,
        "mfu": machine.mfu,
        "price": machine.price,
        "stages": [_stage_json(plan, stage) for stage in plan.stages],
        "device_hours": plan.device_hours,
        "dollars": plan.device_hours * machine.price,
        "disk_bytes": plan.disk_bytes,
        "missing": list(plan.missing),
    }


def _stage_json(plan: Plan, stage: StagePlan) -> dict[str, Any]:
    hours = plan.device_hours_of(stage)
    return {
        "stage": stage.name,
        "kind": stage.kind,
        "rows": stage.rows,
        "steps": stage.steps,
        "tokens": stage.tokens,
        "sampled_tokens": stage.sampled_tokens,
        "flops": stage.flops.needed,
        "repeated_flops": stage.flops.repeated,
        "hours": stage.seconds / HOUR,
        "working_devices": stage.devices,
        "device_hours": hours,
        "dollars": hours * plan.machine.price,
        "memory_bytes": {**stage.memory.parts, "peak": stage.memory.peak},
        "host_memory_bytes": stage.memory.host,
        "fits": plan.fits(stage),
        "artifact_bytes": stage.artifact_bytes,
        "checkpoint_bytes": stage.checkpoint_bytes,
        "assumed": list(stage.notes),
    }
