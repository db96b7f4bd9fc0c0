"""Metrics on disk and progress on the terminal."""

import json
import math
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

PIPED_WIDTH = 160


def width_of(stream: TextIO) -> int | None:
    """Columns for text and tables. None, rich's own choice, for a terminal; what is piped has no width, and rich would
    take 80 columns for it."""
    return None if stream.isatty() or "COLUMNS" in os.environ else PIPED_WIDTH


console = Console(stderr=True, highlight=False, width=width_of(sys.stderr))
"""Where everything meant for a person's eyes goes; standard output is for results."""


class MetricsLog:
    """Append-only `metrics.jsonl`: one JSON object a line, flushed at once.

    Opening at a step drops the lines after it, so that a resumed run writes each step once. Values that are not finite
    are written as null, since NaN is not JSON.
    """

    def __init__(self, path: Path, last_step: int = 0) -> None:
        kept = [line for line in read_metrics(path) if line.get("step", 0) <= last_step] if path.exists() else []
        # Through a draft: a kill at this very moment must not lose the lines of the steps done.
        draft = path.with_name(f".{path.name}.draft")
        draft.write_text("".join(json.dumps(line) + "\n" for line in kept))
        draft.replace(path)
        self._file: TextIO = path.open("a")

    def write(self, **values: Any) -> None:
        finite = {key: _finite_or_none(value) for key, value in values.items()}
        self._file.write(json.dumps(finite, allow_nan=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _finite_or_none(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics file; a last line cut off by a kill is left out."""
    lines: list[dict[str, Any]] = []
    for text in path.read_text().splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            break
    return lines


class Ticker:
    """A progress line: advance it, and say in a few words how it goes."""

    def __init__(self, progress: Progress | None, task: TaskID | None, label: str, total: int, done: int) -> None:
        self._progress, self._task, self._label, self._total = progress, task, label, total
        self._done = done

    def advance(self, amount: int = 1, note: str = "") -> None:
        self._done += amount
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, advance=amount, note=note)
        elif self._done * 10 // self._total > (self._done - amount) * 10 // self._total:
            # Without a terminal: a plain line at every tenth, so that logs stay readable.
            print(f"{self._label} {self._done}/{self._total} {note}", file=sys.stderr, flush=True)


@contextmanager
def ticker(label: str, total: int, done: int = 0, shown: bool = True) -> Generator[Ticker]:
    """Progress over `total` units with elapsed and remaining time; `shown=False` is silent (ranks other than 0)."""
    if not shown:
        with Progress(disable=True) as progress:
            yield Ticker(progress, progress.add_task(label, total=total, note=""), label, total, done)
    elif not console.is_terminal:
        yield Ticker(None, None, label, max(total, 1), done)
    else:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(
            *columns, TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[note]}"), console=console
        ) as progress:
            yield Ticker(progress, progress.add_task(label, total=total, completed=done, note=""), label, total, done)
