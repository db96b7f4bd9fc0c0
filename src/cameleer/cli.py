"""The commands. Parses, resolves and calls; what a command does is elsewhere, and is imported when it is called."""

import errno
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from cameleer.core.errors import UserError
from cameleer.core.log import console
from cameleer.core.processes import Executor
from cameleer.core.types import ChatTemplate

INTERRUPTED_STATUS = 130
app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)

RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="The recipe's TOML file.")]
Overrides = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="Override, e.g. sft.learning_rate=1e-5.")
]
Template = Annotated[ChatTemplate, typer.Option(help="The model's own chat template, or Tülu's.")]


@app.callback()
def commands() -> None:
    """Cameleer post-trains language models: one recipe file for the whole line."""


@app.command()
def run(
    recipe: RecipePath,
    folder: Annotated[Path | None, typer.Option("--to", help="Run folder; runs/NAME by default.")] = None,
    only: Annotated[
        list[str] | None, typer.Option(metavar="STAGE", help="Run only this stage; may be repeated.")
    ] = None,
    overrides: Overrides = [],
) -> None:
    """Run a recipe: every stage whose config or inputs changed, in order. The same command resumes what was stopped."""
    from cameleer import pipeline

    parsed = pipeline.read_recipe(recipe, overrides)
    pipeline.run_recipe(parsed, folder or Path("runs") / parsed.settings.name, only or [])


@app.command()
def plan(
    recipe: RecipePath,
    device: Annotated[str, typer.Option(help="Kind of device: h100, a100, … or cpu.")] = "h100",
    devices: Annotated[int, typer.Option(help="How many of them work together.")] = 8,
    price: Annotated[float, typer.Option(help="Dollars for an hour of one device.")] = 2.5,
    mfu: Annotated[
        float | None, typer.Option(help="Share of the peak arithmetic that is reached; the device's when absent.")
    ] = None,
    peak_tflops: Annotated[
        float | None, typer.Option(help="Peak arithmetic of a device in TFLOP/s, in place of the known one.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    overrides: Overrides = [],
) -> None:
    """Say what a recipe takes (steps, arithmetic, memory, hours, money, disk) and what is missing here."""
    from cameleer.pipeline import read_recipe
    from cameleer.plan.machine import make_machine
    from cameleer.plan.report import print_plan

    print_plan(read_recipe(recipe, overrides), make_machine(device, devices, price, mfu, peak_tflops), as_json)


@app.command()
def ablate(
    recipe: RecipePath,
    series: Annotated[
        list[str], typer.Option("--series", help="leave-one-out, specialists or sizes; may be repeated.")
    ] = ["leave-one-out"],
    share: Annotated[list[float], typer.Option(help="A size of the series sizes; may be repeated.")] = [0.25, 0.5],
    max_rows: Annotated[int | None, typer.Option(min=1, help="Rows of each source at most.")] = None,
    folder: Annotated[Path | None, typer.Option("--to", help="Run folder; runs/NAME-ablation by default.")] = None,
    overrides: Overrides = [],
) -> None:
    """Find out what each source of a recipe's mixture does, by training without it, on it alone, or on less."""
    from cameleer import ablate as ablation
    from cameleer import pipeline

    parsed = pipeline.read_recipe(recipe, overrides)
    target = folder or Path("runs") / f"{parsed.settings.name}-ablation"
    found = ablation.ablate(parsed, target, ablation.parse_series(series), share, max_rows)
    if found["effects"]:
        console.print(ablation.effect_table(found))
    console.print(f"all of it: {target / ablation.REPORT}")


@app.command()
def status(folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]) -> None:
    """Show the stages of a run: finished ones, and how far the unfinished one is."""
    from cameleer import pipeline

    table = Table("stage", "kind", "state", "time", "what it says")
    for stage in pipeline.run_status(folder):
        time = "" if stage.wall_seconds is None else pipeline.readable_seconds(stage.wall_seconds)
        said = stage.progress or stage.summary or stage.counts
        words = "  ".join(
            f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in said.items()
        )
        table.add_row(stage.name, stage.kind, stage.state, time, escape(words))
    console.print(table)


@app.command(name="eval")
def evaluate(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL...", help="Model specs: folders, hub ids, pypi:PACKAGE, tiny:KIND.")
    ],
    suite: Annotated[list[str], typer.Option(metavar="SUITE|TASK", help="A suite or a task; may be repeated.")],
    num_items: Annotated[
        int | None, typer.Option(help="Items per task; absent: all of a benchmark, 200 of a generated task.")
    ] = None,
    folder: Annotated[Path, typer.Option("--to", help="Where records, results.json and report.md go.")] = Path(
        "runs/eval"
    ),
    chat_template: Template = "model",
    seed: Annotated[int, typer.Option(help="Seed of the tasks that draw their items.")] = 0,
    overrides: Annotated[
        list[str], typer.Option("--set", metavar="KEY=VALUE", help="Another setting, e.g. judge.model=org/judge.")
    ] = [],
) -> None:
    """Evaluate models on tasks; several models are compared item by item."""
    from cameleer.core.config import apply_overrides
    from cameleer.evals.run import evaluate_specs

    settings = apply_overrides({"num_items": num_items, "seed": seed}, overrides)
    evaluate_specs(models, suite, folder=folder, chat_template=chat_template, settings=settings)


@app.command()
def verify(
    rows: Annotated[Path, typer.Argument(metavar="ROWS", help="JSONL of {id, verifier, target, response}.")],
    out: Annotated[Path, typer.Option(help="Where the verdicts go, line for line: {id, outcome, score, detail, …}.")],
    num_workers: Annotated[
        int | None, typer.Option(help="Processes for slow verifiers; one per core if absent.")
    ] = None,
    deadline_seconds: Annotated[float, typer.Option(help="How long one response may take.")] = 60.0,
) -> None:
    """Verify stored answers."""
    from cameleer.verify.rows import verify_rows

    verify_rows(rows, out, num_workers, deadline_seconds)


@app.command()
def decontaminate(
    train: Annotated[
        list[str],
        typer.Option(metavar="[NAME=]FILE|DATASET", help="Training data, also org/name[@revision]. May be repeated."),
    ],
    evaluations: Annotated[
        list[str],
        typer.Option("--eval", metavar="[NAME=]FILE|TASK|SUITE", help="What it must not hold."),
    ],
    out: Annotated[Path, typer.Option(help="Where overlaps.jsonl, clean.* and summary.json go.")],
    train_fields: Annotated[
        list[str], typer.Option("--train-field", metavar="COLUMN", help="Column of the prompt; found if absent.")
    ] = [],
    eval_fields: Annotated[
        list[str], typer.Option("--eval-field", metavar="COLUMN", help="Column of a text of the item; found if absent.")
    ] = [],
    num_workers: Annotated[int, typer.Option(min=1, help="Processes; the result is the same for any number.")] = 1,
    executor: Annotated[
        Executor, typer.Option(help="Where the workers are: on this machine, or in a Ray cluster.")
    ] = Executor.LOCAL,
    overrides: Annotated[
        list[str],
        typer.Option("--set", metavar="KEY=VALUE", help="A setting of curate.decontaminate, e.g. policy=report."),
    ] = [],
) -> None:
    """Find which test items stand in training data, and write the data without them."""
    from cameleer.core.config import apply_overrides
    from cameleer.curate.config import Decontaminate
    from cameleer.curate.standalone import Request
    from cameleer.curate.standalone import decontaminate as decontaminate_files
    from cameleer.evals.config import SUITES, tasks_of

    named = [task for name in evaluations for task in (tasks_of(name) if name in SUITES else [name])]
    rules = Decontaminate.parse(apply_overrides({"policy": "remove"}, overrides), where="decontaminate")
    decontaminate_files(Request(train, named, train_fields, eval_fields, num_workers, executor), rules, out)


@app.command()
def fetch(
    names: Annotated[list[str], typer.Argument(metavar="SUITE|TASK...", help="Suites and tasks, as eval takes them.")],
    overrides: Annotated[
        list[str],
        typer.Option("--set", metavar="KEY=VALUE", help="A setting as eval takes it, e.g. judge.model=org/judge."),
    ] = [],
) -> None:
    """Bring what evaluating tasks reads, for work without a network: datasets, language data, weights of judges."""
    from cameleer.core.config import apply_overrides
    from cameleer.evals.fetch import fetch_for_evaluation

    fetch_for_evaluation(names, apply_overrides({}, overrides))


@app.command()
def chat(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Folder, hub id, pypi:PACKAGE, tiny:KIND.")],
    chat_template: Template = "model",
) -> None:
    """Talk with a model in the terminal."""
    from cameleer.ui.chat import chat as start

    start(model, chat_template)


def main() -> None:
    """The program's entry: turns what can go wrong by a user's or a machine's fault into a message and a status."""
    sys.exit(_guarded(app))


def _guarded(command: Callable[[], None]) -> int:
    try:
        command()
    except SystemExit as left:
        # Help, usage errors and ordinary ends leave this way.
        if left.code == INTERRUPTED_STATUS:
            console.print("interrupted; what was finished is kept")
        return left.code if isinstance(left.code, int) else 0
    except UserError as error:
        console.print(f"[red bold]error:[/] {escape(error.what)}")
        if error.hint:
            console.print(escape(error.hint))
        return 2
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        console.print(f"[red bold]error:[/] the disk is full: {escape(str(error))}")
        console.print("Nothing half-written was put in place. Free some space and give the same command again.")
        return 2
    return 0
