"""Which usable rows of a source may not be taken: those that overlap with an evaluation, and near-duplicates.

A source is read once for this before its rows are taken: whether it is contaminated is known only at its end.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any, NamedTuple, Self

from cameleer.core.near_duplicates import NearDuplicates
from cameleer.core.stage import StageRun
from cameleer.curate.config import EMBEDDING_MODEL, CurateConfig
from cameleer.curate.decontaminate import (
    OVERLAPS,
    Evaluations,
    Overlaps,
    TrainingRow,
    add_task,
    announce,
    certificate,
    compare,
    exclusions,
    make_finder,
    whole_exclusion,
)
from cameleer.curate.overlap import Finder
from cameleer.curate.take import NOTHING, Exclusion, Taken, Usable, default_id, duplicate_of


def near_duplicate_of(source: str, of: str) -> str:
    """How near-duplicates are counted that a row of a source drops."""
    return f"near-{duplicate_of(source, of)}"


class Screened(NamedTuple):
    """What a source may not give: rows by number, or all of it where `whole` says why."""

    excluded: Mapping[int, Exclusion] = NOTHING
    whole: Exclusion | None = None


class Screen:
    """Looks at one source after another, in the order in which they are taken."""

    def __init__(self, config: CurateConfig, stage: StageRun) -> None:
        self._stack = ExitStack()
        self._rules = config.decontaminate
        self._near: NearDuplicates | None = None
        if config.near_duplicates is not None:
            self._near = NearDuplicates(config.near_duplicates.threshold, stage.folder)
            self._stack.callback(self._near.close)
        self._evaluations = Evaluations()
        for name in self._rules.tasks or ():
            add_task(self._evaluations, name, self._rules.num_generated, stage.seed)
        self._overlaps: list[Overlaps] = []
        self._finder: Finder | None = None
        if self._rules.tasks:
            model = stage.inputs.get(EMBEDDING_MODEL)
            finder = make_finder(self._rules, self._evaluations, model, config.num_processes, config.executor)
            self._finder = self._stack.enter_context(finder)
            self._file = self._stack.enter_context((stage.folder / OVERLAPS).open("w", encoding="utf-8"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self._stack.close()

    @property
    def is_needed(self) -> bool:
        return self._finder is not None or self._near is not None

    def look_at(self, source: str, rows: Iterable[Usable]) -> Screened:
        """Read all usable rows of a source."""
        excluded: dict[int, Exclusion] = {}
        if self._finder is None:
            for _ in self._noted(source, rows):
                pass
        else:
            noted = self._noted(source, rows)
            found = compare(source, noted, self._finder, self._rules.max_overlap, self._file)
            self._overlaps.append(found)
            announce(found, self._finder.index, self._rules.policy)
            whole = whole_exclusion(found, self._finder.index, self._rules.policy)
            if whole is not None:
                self._forget()
                return Screened(whole=whole)
            excluded |= exclusions(found, self._finder.index, self._rules.policy)
        if self._near is not None:
            for number, found in self._near.duplicates(excluded).items():
                kept = default_id(found.source, found.row)
                kind = near_duplicate_of(found.source, source)
                excluded[number] = Exclusion(f"near-duplicate of {kept} ({found.similarity:.2f})", kind)
        return Screened(excluded)

    def taken(self, taken: Taken) -> None:
        """Say what the source gave to the mixture: later sources are compared with that."""
        if self._near is not None:
            self._near.taken(set(taken.rows.numbers))

    def _forget(self) -> None:
        if self._near is not None:
            self._near.taken(())

    def certificate(self) -> dict[str, Any] | None:
        """What was compared with which evaluations and what was found; None where nothing was."""
        if self._finder is None:
            return None
        return certificate(self._rules, self._evaluations, self._finder.index, self._overlaps)

    def _noted(self, source: str, rows: Iterable[Usable]) -> Iterator[TrainingRow]:
        for row in rows:
            if self._near is not None:
                self._near.add(source, row.number, row.messages)
            yield TrainingRow(row.number, row.id, [turn.content for turn in row.messages if turn.role == "user"])
