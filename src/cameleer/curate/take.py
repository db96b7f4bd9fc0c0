"""From a source to the rows that it gives: convert or drop each row, drop duplicates, sample the number asked for."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from hashlib import blake2b
from itertools import chain, islice
from types import MappingProxyType
from typing import NamedTuple

from cameleer.core.errors import UserError
from cameleer.core.spool import Spool, decode, encode
from cameleer.core.stage import StageRun
from cameleer.core.types import Conversation
from cameleer.curate.config import Source
from cameleer.curate.dropped import DROPPED, Dropped, DroppedRow, excerpt
from cameleer.curate.formats import Format, RowError, confirm, convert, own_id, recognise
from cameleer.curate.progress import Progress
from cameleer.curate.sample import Candidate, Sample, random_key
from cameleer.curate.sources import OpenSource, Row, open_source

ROWS_TO_RECOGNISE = 100
"""A source's format is decided by this many of its first rows."""

ROWS_PER_TICK = 256
MAX_SHOWN_REASONS = 5


class Exclusion(NamedTuple):
    """Why a usable row may not be taken, in full and as it is counted."""

    reason: str
    kind: str


NOTHING: Mapping[int, Exclusion] = MappingProxyType({})


class Usable(NamedTuple):
    """A row with its conversation."""

    number: int
    id: str
    messages: Conversation


@dataclass(frozen=True)
class Taken:
    """What a source gives to the mixture: `rows`, distinct and by sampling key, repeated in turn up to `num_rows`."""

    source: Source
    opened: OpenSource
    format: Format
    unused_columns: list[str]
    num_read: int
    num_usable: int
    num_rows: int
    rows: list[Candidate]

    @property
    def num_repeats(self) -> int:
        return self.num_rows - len(self.rows)

    @property
    def num_not_sampled(self) -> int:
        return self.num_usable - len(self.rows)


@dataclass
class _Reading:
    """A source being read, of which `first` are the rows that told its format."""

    source: Source
    opened: OpenSource
    format: Format
    first: list[Row]
    sample: Sample
    excluded: Mapping[int, Exclusion]
    num_read: int = 0
    num_usable: int = 0
    seen: set[bytes] = field(default_factory=set[bytes])
    """Digests of the usable rows, where duplicates are looked for."""


class Taker:
    """Takes rows from one source after another; `deduplicate` keeps the first of equal conversations."""

    def __init__(self, stage: StageRun, spool: Spool, dropped: Dropped, deduplicate: bool) -> None:
        self._stage, self._spool, self._dropped, self._deduplicate = stage, spool, dropped, deduplicate
        self._given: dict[bytes, str] = {}
        """Digest of every conversation that the mixture has so far, and the source that gave it."""

    def conversations(self, source: Source, count: int | None) -> Iterator[Usable]:
        """The rows of a source that are conversations, before any is taken."""
        reading = self._open(source, count, NOTHING)
        with Progress(f"compare {source.name} ({reading.opened.unit})", reading.opened.total) as progress:
            for row in chain(reading.first, reading.opened.rows):
                reading.num_read += 1
                if reading.num_read % ROWS_PER_TICK == 0:
                    progress.reach(row.position, f"{reading.num_read} rows")
                try:
                    messages = decode(_record(row, reading.format))
                except RowError:
                    continue  # Taking the source drops it with its reason.
                yield Usable(row.number, _row_id(reading, row), messages)

    def take(self, source: Source, count: int | None, excluded: Mapping[int, Exclusion] = NOTHING) -> Taken:
        """Read a source to its end and choose its rows: `count` of them, or what its config says where that is None.

        Rows whose numbers are `excluded` are dropped. Raises UserError where fewer are left than the source should
        give, or none.
        """
        reading = self._open(source, count, excluded)
        opened, format = reading.opened, reading.format
        with Progress(f"read {source.name} ({opened.unit})", opened.total) as progress:
            for row in chain(reading.first, opened.rows):
                self._read(reading, row)
                if reading.num_read % ROWS_PER_TICK == 0:
                    progress.reach(row.position, f"{reading.num_read} rows, {reading.num_usable} usable")
        num_rows = self._num_rows(reading, count)
        rows = reading.sample.rows()[:num_rows]
        self._given.update((row.digest, source.name) for row in rows)
        unused = _unused_columns(reading.first, format)
        return Taken(source, opened, format, unused, reading.num_read, reading.num_usable, num_rows, rows)

    def drop(self, source: Source, why: Exclusion) -> None:
        """Drop all rows of a source. Raises UserError where the recipe says how many it must give."""
        if source.count is not None or source.weight is not None:
            amount = f"count = {source.count}" if source.count is not None else f"weight = {source.weight}"
            raise UserError(
                f"source '{source.name}': {why.reason}, so all of it is dropped, but the recipe asks {amount} of it.",
                "Remove the source, or set decontaminate.policy to 'remove' or 'report'.",
            )
        reading = self._open(source, None, NOTHING)
        for row in chain(reading.first, reading.opened.rows):
            self._drop(reading, row, why.reason, why.kind)

    def _open(self, source: Source, count: int | None, excluded: Mapping[int, Exclusion]) -> _Reading:
        opened = open_source(source, self._stage.inputs.get(source.name), count, self._stage.seed)
        first = list(islice(opened.rows, ROWS_TO_RECOGNISE))
        return _Reading(source, opened, _recognise(source, first, opened.where), first, Sample(count), excluded)

    def _read(self, reading: _Reading, row: Row) -> None:
        """Offer one row to the sample, or drop it."""
        reading.num_read += 1
        try:
            record = _record(row, reading.format)
            digest = blake2b(record, digest_size=16).digest()
            if self._deduplicate:
                self._check_new(reading, digest)
        except RowError as error:
            self._drop(reading, row, error.reason)
            return
        if row.number in reading.excluded:
            self._drop(reading, row, *reading.excluded[row.number])
            return
        reading.num_usable += 1
        key = random_key(self._stage.seed, "sample", reading.source.name, row.number)
        if reading.sample.admits(key, row.number):
            id = own_id(row.value or {}, reading.format)
            reading.sample.offer(Candidate(key, row.number, digest, id, self._spool.append(record)))

    def _check_new(self, reading: _Reading, digest: bytes) -> None:
        if digest in reading.seen:
            raise RowError("duplicate within the source")
        if digest in self._given:
            raise RowError(f"duplicate of a row of '{self._given[digest]}'")
        reading.seen.add(digest)

    def _drop(self, reading: _Reading, row: Row, reason: str, kind: str | None = None) -> None:
        begins = excerpt(row.text if row.value is None else row.value)
        self._dropped.add(DroppedRow(reading.source.name, _row_id(reading, row), row.number, reason, begins), kind)

    def _num_rows(self, reading: _Reading, count: int | None) -> int:
        """How many rows the source gives. Raises UserError if they are none, or more than it can give."""
        source, usable, where = reading.source, reading.num_usable, reading.opened.where
        found = f"{reading.num_read} rows were read and {self._reasons(source.name)}"
        if usable == 0:
            raise UserError(f"{where}: no usable row: {found}.", self._look_up())
        if count is None:
            exact = Fraction(str(source.fraction or 1)) * usable
            count = (2 * exact.numerator + exact.denominator) // (2 * exact.denominator)
        if count == 0:
            raise UserError(f"{where}: fraction = {source.fraction} of {usable} usable rows is no row.", "Raise it.")
        if count > usable and not source.upsample:
            repeat = ", or set upsample = true to repeat rows" if source.task is None else ""
            raise UserError(
                f"{where}: {count} rows are asked for, but only {usable} are usable: {found}.",
                f"Lower {'num_rows or its weight' if source.weight else 'count'}{repeat}.\n{self._look_up()}",
            )
        return count

    def _reasons(self, source: str) -> str:
        reasons = self._dropped.reasons.get(source)
        if not reasons:
            return "none was dropped"
        shown = [f"{reason} ({times})" for reason, times in reasons.most_common(MAX_SHOWN_REASONS)]
        others = [f"{len(reasons) - len(shown)} other reasons"] if len(reasons) > len(shown) else []
        return f"{reasons.total()} were dropped: {', '.join(shown + others)}"

    def _look_up(self) -> str:
        return f"Every dropped row with its reason is in {self._stage.folder / DROPPED}."


def default_id(source: str, row: int) -> str:
    """The id of a row that has none of its own."""
    return f"{source}/{row}"


def _row_id(reading: _Reading, row: Row) -> str:
    """The row's own id, else its source and number."""
    own = own_id(row.value, reading.format) if row.value is not None else None
    return own or default_id(reading.source.name, row.number)


def _recognise(source: Source, first: Sequence[Row], where: str) -> Format:
    """The source's format, by its config or its first rows."""
    if not first:
        raise UserError(f"{where}: it holds no rows.")
    objects = [row.value for row in first if row.value is not None]
    if not objects:
        raise UserError(
            f"{where}: none of its first {len(first)} rows is an object; row {first[0].number}: {first[0].problem}.",
            "A file is JSONL (one object a line), a JSON array of objects, or Parquet; the first two may be gzipped.",
        )
    if source.fields is None:
        return recognise(objects, where)
    format = source.fields.format()
    confirm(format, objects, where)
    return format


def _record(row: Row, format: Format) -> bytes:
    """A row's conversation as the spool keeps it. Raises RowError where it has none."""
    if row.value is None:
        raise RowError(row.problem)
    try:
        return encode(convert(row.value, format))
    except UnicodeEncodeError:
        raise RowError("content is not valid Unicode") from None


def _unused_columns(first: Sequence[Row], format: Format) -> list[str]:
    columns = dict.fromkeys(column for row in first if row.value is not None for column in row.value)
    return [column for column in columns if column not in format.columns]
