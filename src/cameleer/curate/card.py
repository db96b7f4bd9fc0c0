"""The data card of a mixture, in Markdown: what is in it, where it came from, what was left out and why."""

import statistics
from array import array
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cameleer.core.markdown import fenced, table
from cameleer.core.types import Example
from cameleer.curate.config import MatchMode
from cameleer.curate.dropped import CHANGED, DROPPED, Reasons
from cameleer.curate.rules import conversation_language, num_words
from cameleer.curate.screen import near_duplicate_of
from cameleer.curate.take import Taken, duplicate_of

NUM_SAMPLES = 3
MAX_SAMPLE_CHARACTERS = 600
"""Of each turn of a sample."""

NUM_LANGUAGE_ROWS = 1000
"""Rows of a source of which the language is told."""
MAX_SHOWN_LANGUAGES = 8
MAX_SHOWN_REASONS = 20
MAX_CELL_CHARACTERS = 120


@dataclass
class Tally:
    """What a source's rows in the mixture look like, counted as they are written; repeats count again."""

    turns: "array[int]" = field(default_factory=lambda: array("q"))
    characters: "array[int]" = field(default_factory=lambda: array("q"))
    words: "array[int]" = field(default_factory=lambda: array("q"))
    languages: Counter[str] = field(default_factory=Counter[str])
    samples: list[Example] = field(default_factory=list[Example])

    def add(self, example: Example) -> None:
        if len(self.turns) < NUM_LANGUAGE_ROWS:
            # The mixture is shuffled, so the first are a random sample.
            self.languages[conversation_language(example.messages) or "cannot be told"] += 1
        self.turns.append(len(example.messages))
        self.characters.append(sum(len(message.content) for message in example.messages))
        self.words.append(num_words(example.messages))
        if len(self.samples) < NUM_SAMPLES:
            self.samples.append(example)


@dataclass(frozen=True)
class Portrait:
    """A source as the card shows it."""

    taken: Taken
    tally: Tally
    dropped: Reasons
    changed: Reasons

    @property
    def name(self) -> str:
        return self.taken.source.name


def data_card(
    title: str,
    seed: int,
    portraits: Sequence[Portrait],
    shared: Mapping[tuple[str, str], int],
    clashes: Sequence[str] = (),
    certificate: Mapping[str, Any] | None = None,
) -> str:
    """The card's text. `shared` are the prompts that two sources have in common in the mixture, `clashes` what the
    licences say of each other, and `certificate` is decontamination's, if there was one.
    """
    num_rows = sum(each.taken.num_rows for each in portraits)
    parts = [
        f"# Data card: {_one_line(title)}",
        f"{_number(num_rows, 'conversation')} from {_number(len(portraits), 'source')}, shuffled with seed {seed}.",
        _table(
            ("source", "origin", "licence", "read", "dropped", "not sampled", "repeats", "rows", "share"),
            [_overview(each.taken, num_rows) for each in portraits],
        ),
        "Not sampled: usable rows beyond the number asked for. Repeats: rows that are in the mixture again.",
        *_ranges(portraits),
        *_licenses(clashes),
        *_skills(portraits, num_rows),
        "## Lengths",
        "Words are cut at white space and at marks; no tokenizer is asked.",
        _table(
            ("source", "turns", "turns a row", "words", "words a row: 5%", "median", "95%", "most", "characters a row"),
            [_sizes(each.name, each.tally) for each in portraits],
        ),
        "## Languages",
        f"Of {NUM_LANGUAGE_ROWS:,} rows of each source, drawn at random, or of all: of the beginning of what the "
        "assistant says, by the frequencies of its runs of one to three letters in 55 languages.",
        _table(("source", "languages"), [[each.name, _languages(each.tally.languages)] for each in portraits]),
        *_overlaps(portraits, shared),
        *([] if certificate is None else _decontamination(certificate)),
        *(_section(each) for each in portraits),
    ]
    return "\n\n".join(parts) + "\n"


def _ranges(portraits: Sequence[Portrait]) -> list[str]:
    """Which part of its prompts a source gives, where it is not all of them."""
    return [
        f"Of `{_one_line(each.name)}` only rows whose prompts fall into [{given[0]:g}, {given[1]:g}) of [0, 1) by a "
        f"hash of their words; {_number(each.taken.num_outside, 'other')} count nowhere."
        for each in portraits
        if (given := each.taken.source.prompt_range) is not None
    ]


def _licenses(clashes: Sequence[str]) -> list[str]:
    found = "\n".join(f"* {_whole_line(clash)}" for clash in clashes)
    return ["## Licences that do not go together", found] if clashes else []


def _skills(portraits: Sequence[Portrait], num_rows: int) -> list[str]:
    """Rows and words by what they are to teach, where a source says it."""
    rows: defaultdict[str, int] = defaultdict(int)
    words: defaultdict[str, int] = defaultdict(int)
    for each in portraits:
        rows[each.taken.source.skill or "not said"] += each.taken.num_rows
        words[each.taken.source.skill or "not said"] += sum(each.tally.words)
    if set(rows) == {"not said"}:
        return []
    shown = [[skill, f"{count:,}", f"{count / num_rows:.1%}", f"{words[skill]:,}"] for skill, count in rows.items()]
    return ["## Skills", _table(("skill", "rows", "share", "words"), shown)]


def _languages(counts: Counter[str]) -> str:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{name} {times / counts.total():.1%}" for name, times in ordered[:MAX_SHOWN_LANGUAGES]]
    return ", ".join(shown + ([f"{len(ordered) - len(shown)} others"] if len(ordered) > len(shown) else []))


def _overlaps(portraits: Sequence[Portrait], shared: Mapping[tuple[str, str], int]) -> list[str]:
    """What two sources have in common: rows that were dropped for it, and prompts that both have in the mixture."""
    found: list[list[str]] = []
    for place, later in enumerate(portraits):
        for earlier in portraits[:place]:
            pair = (earlier.name, later.name)
            counts = (
                later.dropped.counts[duplicate_of(*pair)],
                later.dropped.counts[near_duplicate_of(*pair)],
                shared.get(pair, 0) + shared.get((later.name, earlier.name), 0),
            )
            if any(counts):
                found.append([later.name, earlier.name, *(f"{count:,}" for count in counts)])
    if not found:
        return []
    heads = ("source", "with", "equal rows, dropped", "near-duplicates, dropped", "prompts that both have")
    return ["## Overlaps between sources", _table(heads, found)]


def _decontamination(certificate: Mapping[str, Any]) -> list[str]:
    """What the sources were compared with, and what was found."""
    measure, sources = certificate["measure"], certificate["sources"]
    if measure["mode"] == MatchMode.EMBEDDING:
        what = f"embeddings ({measure['embedding_model']}): an item overlaps with a row whose cosine is above "
        what += f"{measure['threshold']:g}"
    else:
        what = "the whole of a field" if measure["mode"] == MatchMode.FULL else f"{measure['ngram_size']}-grams"
        what += f": an item overlaps with a row that more than {measure['threshold']:.0%} of its tokens match"
    found = [
        [name, task, f"{each['items']:,}", f"{each['share']:.2%}", f"{each['rows']:,}", "yes" * each["contaminated"]]
        for name, source in sources.items()
        for task, each in source["overlaps"].items()
    ]
    removed = ", ".join(f"{source['removed']:,} of {name}" for name, source in sources.items() if source["removed"])
    parts = [
        "## Decontamination",
        f"User turns against test items by {what}; a source is contaminated above {measure['max_overlap']:.0%} of an "
        f"evaluation's items. Policy: {measure['policy']}. Rows removed: {removed or 'none'}. "
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
    low, middle, high = np.quantile(np.frombuffer(tally.words, np.int64), (0.05, 0.5, 0.95)).tolist()
    turns = (f"{sum(tally.turns):,}", f"{statistics.fmean(tally.turns):.1f}")
    shown = (sum(tally.words), low, middle, high, max(tally.words), statistics.fmean(tally.characters))
    return [name, *turns, *(f"{number:,.0f}" for number in shown)]


def _section(portrait: Portrait) -> str:
    taken = portrait.taken
    parts = [f"## {_one_line(portrait.name)}", f"Read as `{taken.format.name}`; digest `{taken.digest}`."]
    if taken.unused_columns:
        columns = ", ".join(f"`{_one_line(column)}`" for column in taken.unused_columns)
        parts.append(f"Columns that were not used: {columns}.")
    if taken.strata:
        parts.append(f"Sampled by `{_one_line(taken.source.stratify or '')}`:")
        parts.append(_reasons(Counter(taken.strata), "value"))
    if portrait.dropped.counts:
        parts.append(f"Dropped, by reason (every row is in `{DROPPED}`):")
        parts.append(_reasons(portrait.dropped.counts))
    if portrait.changed.counts:
        parts.append(f"Changed, by rule (what every row was is in `{CHANGED}`):")
        parts.append(_reasons(portrait.changed.counts, "rule"))
    parts.extend(_sample(example) for example in portrait.tally.samples)
    return "\n\n".join(parts)


def _reasons(reasons: Counter[str], head: str = "reason") -> str:
    # By count, then by name: a card is the same text for the same mixture.
    ordered = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    shown = [[reason, f"{times:,}"] for reason, times in ordered[:MAX_SHOWN_REASONS]]
    if len(ordered) > MAX_SHOWN_REASONS:
        rest = ordered[MAX_SHOWN_REASONS:]
        shown.append([_number(len(rest), f"other {head}"), f"{sum(times for _, times in rest):,}"])
    return _table((head, "rows"), shown)


def _sample(example: Example) -> str:
    lines = [f"### {_one_line(example.id)}"]
    for message in example.messages:
        lines.append(f"{message.role}:\n\n{fenced(_shortened(message.content))}")
    return "\n\n".join(lines)


def _shortened(text: str) -> str:
    left_out = len(text) - MAX_SAMPLE_CHARACTERS
    return f"{text[:MAX_SAMPLE_CHARACTERS]}\n… {left_out:,} more characters" if left_out > 0 else text


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return table(head, [[_one_line(cell) for cell in row] for row in rows])


def _one_line(text: str) -> str:
    """Text of the data's own that can stand in a heading or in a table's cell."""
    return _whole_line(text if len(text) <= MAX_CELL_CHARACTERS else f"{text[:MAX_CELL_CHARACTERS]}…")


def _whole_line(text: str) -> str:
    return " ".join(text.split()).encode(errors="replace").decode()


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
