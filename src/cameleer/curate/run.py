"""Curation: sources in, one shuffled mixture of conversations out, with every dropped row and a data card.

Source after source, in the recipe's order: where the recipe wants it, all rows are compared with evaluations and with
each other (`screen`); then each row is converted or dropped with its reason, duplicates are dropped,
and of the others the number asked for is sampled (`take`). Then all are shuffled together. Which rows are taken and
where they stand follows from the seed, the sources' names and the rows' numbers alone (`sample`): any number of
processes gives the same files, byte for byte. The conversations wait on disk meanwhile (`spool`): memory holds some
hundred bytes for each row taken, and a digest for each usable row of the source being read.

    mixture.parquet   the conversations (`core.mixture`)
    problems.parquet  the problems with verifiers, if the recipe asks for some (`core.problems`, `problems`)
    overlaps.jsonl    what overlaps with the evaluations that the sources were compared with (`decontaminate`)
    dropped.parquet   every dropped row with its reason (`dropped`)
    changed.parquet   what every row that rules changed was before, where some rule may change rows
    card.md           what is in the mixture, where it came from and what was left out (`card`)
"""

from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np

from cameleer.core.artifact import Outcome
from cameleer.core.errors import UserError
from cameleer.core.log import console
from cameleer.core.mixture import MIXTURE
from cameleer.core.problems import PROBLEMS
from cameleer.core.processes import Processes
from cameleer.core.spool import Spool, decode
from cameleer.core.stage import StageRun
from cameleer.core.types import Example
from cameleer.curate.card import Portrait, Tally, data_card, origin
from cameleer.curate.config import CurateConfig
from cameleer.curate.decontaminate import OVERLAPS
from cameleer.curate.dropped import CHANGED, DROPPED, RowLog
from cameleer.curate.licenses import conflicts
from cameleer.curate.problems import SeenPrompts, draw_problems
from cameleer.curate.progress import Progress
from cameleer.curate.sample import random_key, repeated
from cameleer.curate.screen import Screen, Screened
from cameleer.curate.take import Taken, Taker, default_id

CARD = "card.md"

ROWS_PER_TICK = 256


def run(config: CurateConfig, stage: StageRun) -> Outcome:
    """Make the mixture in `stage.folder`. Raises UserError rather than give fewer rows than were asked for."""
    with closing(Spool(stage.folder)) as spool:
        changed_path = stage.folder / CHANGED
        with (
            RowLog(stage.folder / DROPPED) as dropped,
            RowLog(changed_path) as changed,
            Processes(config.num_processes, executor=config.executor) as processes,
            Screen(config, stage) as screen,
        ):
            taken = list(_take_all(config, Taker(config, stage, spool, dropped, changed, processes), screen))
        if not any((each.rules or config.rules).change_text for each in config.sources):
            changed_path.unlink()
        if not taken:
            raise UserError("Every source is contaminated and was dropped.", f"See {stage.folder / OVERLAPS}.")
        tallies = {each.source.name: Tally() for each in taken}
        seen = SeenPrompts()
        num_rows = MIXTURE.write(stage.folder, _mixed(taken, stage.seed, spool, tallies, seen))
    assert num_rows == sum(each.num_rows for each in taken), num_rows
    left_out: Counter[str] = Counter()
    problems = draw_problems(config.problems, stage.seed, seen, stage.inputs, left_out)
    num_problems = PROBLEMS.write(stage.folder, problems) if config.problems else 0
    certificate = screen.certificate()
    clashes = conflicts({each.source.name: each.opened.license for each in taken})
    for clash in clashes:
        console.print(f"licences: {clash}", markup=False)
    portraits = [
        Portrait(each, tallies[each.source.name], dropped.of(each.source.name), changed.of(each.source.name))
        for each in taken
    ]
    card = data_card(stage.name, stage.seed, portraits, seen.shared, clashes, certificate)
    (stage.folder / CARD).write_text(card, encoding="utf-8")
    outcome = _outcome(portraits, num_problems, left_out, clashes)
    return outcome if certificate is None else _certified(outcome, certificate)


def _take_all(config: CurateConfig, taker: Taker, screen: Screen) -> Iterator[Taken]:
    """What each source gives that is not dropped whole."""
    for source, count in zip(config.sources, config.row_counts(), strict=True):
        rows = taker.conversations(source, count)
        screened = screen.look_at(source.name, rows) if screen.is_needed else Screened()
        if screened.whole is not None:
            taker.drop(source, screened.whole)
            continue
        taken = taker.take(source, count, screened.excluded)
        screen.taken(taken)
        yield taken


def _certified(outcome: Outcome, certificate: dict[str, Any]) -> Outcome:
    """The outcome with the certificate, of which the summary tells how much of the evaluations is left in the rows."""
    left = sum(each["left"] for each in certificate["evaluations"].values())
    counts = {**outcome.counts, "decontamination": certificate}
    return replace(outcome, counts=counts, summary={**outcome.summary, "overlapping_items": left})


class _Slots:
    """A place in the mixture for every row, in columns: sorting by `keys` shuffles, the others settle ties for good."""

    def __init__(self, taken: Sequence[Taken], seed: int) -> None:
        self.keys, self.sources, self.copies, self.rows = array("Q"), array("q"), array("q"), array("q")
        self.ids: list[str] = []
        for source, each in enumerate(taken):
            self._add(source, each, seed)

    def _add(self, source: int, taken: Taken, seed: int) -> None:
        name, rows = taken.source.name, taken.rows
        used: dict[str, int] = {}
        for copy, row in sorted(repeated(len(rows), taken.num_rows), key=lambda each: (each[0], rows.numbers[each[1]])):
            number = rows.numbers[row]
            self.keys.append(random_key(seed, "order", name, number, copy))
            self.sources.append(source)
            self.copies.append(copy)
            self.rows.append(row)
            self.ids.append(_unique(rows.own_ids[row] or default_id(name, number), used))

    def in_order(self) -> Iterator[int]:
        columns = (self.copies, self.rows, self.sources, self.keys)
        yield from map(int, np.lexsort([np.array(column) for column in columns]))


def _mixed(
    taken: Sequence[Taken], seed: int, spool: Spool, tallies: Mapping[str, Tally], seen: SeenPrompts
) -> Iterator[Example]:
    """All rows in the mixture's order, tallied and their prompts taken on the way."""
    slots = _Slots(taken, seed)
    with Progress("write the mixture (rows)", len(slots.ids)) as progress:
        for number, slot in enumerate(slots.in_order(), start=1):
            each = taken[slots.sources[slot]]
            name = each.source.name
            example = Example(slots.ids[slot], name, decode(spool.read(each.rows.place(slots.rows[slot]))))
            tallies[name].add(example)
            seen.add(example.messages, name)
            yield example
            if number % ROWS_PER_TICK == 0:
                progress.reach(number, "")


def _unique(id: str, used: dict[str, int]) -> str:
    """`id`, or `id#2`, `id#3` … where it is taken; `used` maps ids given to the last number tried on them."""
    unique, number = id, used.get(id, 0)
    while unique in used:
        number += 1
        unique = f"{id}#{number}"
    used[id] = max(number, 1)
    used.setdefault(unique, 1)
    return unique


def _outcome(
    portraits: Sequence[Portrait], num_problems: int, left_out: Counter[str], clashes: Sequence[str]
) -> Outcome:
    summary = {
        "rows": sum(each.taken.num_rows for each in portraits),
        "dropped": sum(each.taken.num_read - each.taken.num_usable for each in portraits),
        "turns": sum(sum(each.tally.turns) for each in portraits),
        "characters": sum(sum(each.tally.characters) for each in portraits),
    }
    if num_problems:
        summary["problems"] = num_problems
    if left_out.total():
        summary["problems_left_out"] = left_out.total()
    counts: dict[str, Any] = {**summary, "sources": {each.name: _facts(each) for each in portraits}}
    if clashes:
        counts["license_conflicts"] = list(clashes)
    return Outcome(counts=counts, summary=summary)


def _facts(portrait: Portrait) -> dict[str, Any]:
    taken = portrait.taken
    facts: dict[str, Any] = {
        "origin": origin(taken),
        "license": taken.opened.license,
        "revision": taken.opened.revision,
        "digest": taken.digest,
        "format": taken.format.name,
        "read": taken.num_read,
        "dropped": dict(sorted(portrait.dropped.counts.items())),
        "not_sampled": taken.num_not_sampled,
        "repeats": taken.num_repeats,
        "rows": taken.num_rows,
        "words": sum(portrait.tally.words),
    }
    optional = {
        "skill": taken.source.skill,
        "changed": dict(sorted(portrait.changed.counts.items())),
        "outside_range": taken.num_outside,
        "strata": taken.strata,
    }
    return facts | {key: value for key, value in optional.items() if value}
