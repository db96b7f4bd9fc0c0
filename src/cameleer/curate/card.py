"""The data card of a mixture, in Markdown: what is in it, where it came from, what was left out and why."""

import re
import statistics
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cameleer.core.types import Example
from cameleer.curate.take import Taken

NUM_SAMPLES = 3
MAX_SAMPLE_CHARACTERS = 600
"""Of each turn of a sample."""

MAX_SHOWN_REASONS = 20
MAX_CELL_CHARACTERS = 120


@dataclass
class Tally:
    """What a source's rows in the mixture look like, counted as they are written; repeats count again."""

    turns: "array[int]" = field(default_factory=lambda: array("q"))
    characters: "array[int]" = field(default_factory=lambda: array("q"))
    samples: list[Example] = field(default_factory=list[Example])

    def add(self, example: Example) -> None:
        self.turns.append(len(example.messages))
        self.characters.append(sum(len(message.content) for message in example.messages))
        if len(self.samples) < NUM_SAMPLES:
            self.samples.append(example)


def data_card(
    title: str,
    seed: int,
    taken: Sequence[Taken],
    dropped: Mapping[str, Counter[str]],
    tallies: Mapping[str, Tally],
    certificate: Mapping[str, Any] | None = None,
) -> str:
    """The card's text. `dropped` (reasons) and `tallies` (rows) go by source; `dropped` may lack one.

    `certificate` is decontamination's, if there was one.
    """
    num_rows = sum(each.num_rows for each in taken)
    parts = [
        f"# Data card: {_one_line(title)}",
        f"{_number(num_rows, 'conversation')} from {_number(len(taken), 'source')}, shuffled with seed {seed}.",
        _table(
            ("source", "origin", "licence", "read", "dropped", "not sampled", "repeats", "rows", "share"),
            [_overview(each, num_rows) for each in taken],
        ),
        _table(
            ("source", "turns", "characters", "characters a row: mean", "median", "most"),
            [_sizes(name, tally) for name, tally in tallies.items()],
        ),
        "Not sampled: usable rows beyond the number asked for. Repeats: rows that are in the mixture again.",
        *([] if certificate is None else _decontamination(certificate)),
        *(_section(each, dropped.get(each.source.name, Counter()), tallies[each.source.name]) for each in taken),
    ]
    return "\n\n".join(parts) + "\n"


def _decontamination(certificate: Mapping[str, Any]) -> list[str]:
    """What the sources were compared with, and what was found."""
    measure, sources = certificate["measure"], certificate["sources"]
    what = "the whole of a field" if measure["mode"] == "full" else f"{measure['ngram_size']}-grams"
    found = [
        [name, task, f"{each['items']:,}", f"{each['share']:.2%}", f"{each['rows']:,}", "yes" * each["contaminated"]]
        for name, source in sources.items()
        for task, each in source["overlaps"].items()
    ]
    removed = ", ".join(f"{source['removed']:,} of {name}" for name, source in sources.items() if source["removed"])
    parts = [
        "## Decontamination",
        f"User turns against test items by {what}: an item overlaps with a row that more than "
        f"{measure['threshold']:.0%} of its tokens match; a source is contaminated above {measure['max_overlap']:.0%} "
        f"of an evaluation's items. Policy: {measure['policy']}. Rows removed: {removed or 'none'}. "
        "Left: items that overlap with rows that were not removed. Too short: items that cannot match.",
        _table(
            ("evaluation", "version", "items", "too short", "left"),
            [
                [name, str(each["version"]), f"{each['items']:,}", f"{each['too_short']:,}", f"{each['left']:,}"]
                for name, each in certificate["evaluations"].items()
            ],
        ),
    ]
    heads = ("source", "evaluation", "items that overlap", "of all", "rows", "contaminated")
    return [*parts, _table(heads, found)] if found else [*parts, "No item overlaps with a row."]


def origin(taken: Taken) -> str:
    """Where a source's rows come from, in words."""
    source = taken.source
    if source.dataset is not None:
        place = f"hub dataset {source.dataset}, split {source.split or 'train'}"
        config = f", config {source.config}" if source.config else ""
        return f"{place}{config}, revision {taken.opened.revision or source.revision or 'unknown'}"
    if source.task is not None:
        return f"task {source.task}, version {source.task_version}"
    return f"file {source.file}" if source.mixture is None else f"mixture of {source.mixture}"


def _overview(taken: Taken, num_rows: int) -> list[str]:
    num_dropped = taken.num_read - taken.num_usable
    counts = (taken.num_read, num_dropped, taken.num_not_sampled, taken.num_repeats, taken.num_rows)
    share = f"{taken.num_rows / num_rows:.1%}"
    return [taken.source.name, origin(taken), taken.opened.license or "unknown", *(f"{n:,}" for n in counts), share]


def _sizes(name: str, tally: Tally) -> list[str]:
    sizes = tally.characters
    shown = (sum(tally.turns), sum(sizes), statistics.fmean(sizes), statistics.median(sizes), max(sizes))
    return [name, *(f"{number:,.0f}" for number in shown)]


def _section(taken: Taken, reasons: Counter[str], tally: Tally) -> str:
    parts = [f"## {_one_line(taken.source.name)}", f"Read as `{taken.format.name}`."]
    if taken.unused_columns:
        columns = ", ".join(f"`{_one_line(column)}`" for column in taken.unused_columns)
        parts.append(f"Columns that were not used: {columns}.")
    if reasons:
        parts.append("Dropped, by reason (every row is in `dropped.parquet`):")
        parts.append(_reasons(reasons))
    parts.extend(_sample(example) for example in tally.samples)
    return "\n\n".join(parts)


def _reasons(reasons: Counter[str]) -> str:
    # By count, then by name: a card is the same text for the same mixture.
    ordered = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    shown = [[reason, f"{times:,}"] for reason, times in ordered[:MAX_SHOWN_REASONS]]
    if len(ordered) > MAX_SHOWN_REASONS:
        rest = ordered[MAX_SHOWN_REASONS:]
        shown.append([_number(len(rest), "other reason"), f"{sum(times for _, times in rest):,}"])
    return _table(("reason", "rows"), shown)


def _sample(example: Example) -> str:
    lines = [f"### {_one_line(example.id)}"]
    for message in example.messages:
        lines.append(f"{message.role}:\n\n{_fenced(_shortened(message.content))}")
    return "\n\n".join(lines)


def _shortened(text: str) -> str:
    left_out = len(text) - MAX_SAMPLE_CHARACTERS
    return f"{text[:MAX_SAMPLE_CHARACTERS]}\n… {left_out:,} more characters" if left_out > 0 else text


def _fenced(text: str) -> str:
    """A code block whose fence is longer than any in the text."""
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall(r"`+", text))])
    return f"{fence}text\n{text}\n{fence}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([_one_line(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _one_line(text: str) -> str:
    """Text of the data's own that can stand in a heading or in a table's cell."""
    shown = text if len(text) <= MAX_CELL_CHARACTERS else f"{text[:MAX_CELL_CHARACTERS]}…"
    return " ".join(shown.split()).replace("|", "\\|").encode(errors="replace").decode()


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
