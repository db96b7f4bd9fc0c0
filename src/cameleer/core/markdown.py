"""Markdown for reports and cards: tables and blocks that no text of the data's own can break."""

import re
from collections.abc import Container, Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[object]], right: Container[int] = ()) -> str:
    """A table without a newline at its end. The columns `right`, counted from 0, are aligned to the right.

    Cells are one line each; a bar in one is escaped.
    """
    rule = ["--:" if column in right else "---" for column in range(len(head))]
    return "\n".join(f"| {' | '.join(line)} |" for line in [_cells(head), rule, *map(_cells, rows)])


def _cells(row: Sequence[object]) -> list[str]:
    return [str(cell).replace("|", "\\|") for cell in row]


def fenced(text: str) -> str:
    """A block of text whose fence is longer than any in it."""
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`+", text))])
    return f"{fence}text\n{text}\n{fence}"
