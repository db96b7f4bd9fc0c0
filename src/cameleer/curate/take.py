"""From a source to the rows that it gives: convert or drop each row, drop duplicates, sample the number asked for.

Blocks of rows are converted in as many processes as there are (`shard`); all that follows is done here, row by row in
their order. A source's digest is SHA-256 over those of its conversations as they were read (BLAKE2b, 16 bytes), in
order, before rules, duplicates and sampling: what it held, wherever it came from. With a `prompt_range` it
covers the rows in the range alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from hashlib import blake2b, sha256
from itertools import chain
from types import MappingProxyType
from typing import NamedTuple

from cameleer.core.errors import UserError
from cameleer.core.log import console
from cameleer.core.processes import Processes
from cameleer.core.spool import Spool, decode
from cameleer.core.stage import StageRun
from cameleer.core.types import Conversation
from cameleer.curate.config import CurateConfig, Source
from cameleer.curate.dropped import CHANGED, DROPPED, LoggedRow, RowLog
from cameleer.curate.formats import Format, confirm, recognise
from cameleer.curate.progress import Progress
from cameleer.curate.sample import Candidate, Rows, Strata
from cameleer.curate.shard import Made, Way, convert_block
from cameleer.curate.sources import Block, OpenSource, Row, open_source, rows_of

ROWS_TO_RECOGNISE = 100
"""A source's format is decided by this many of its first rows."""

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
    rows: Rows
    digest: str
    """Of the conversations read: see the module."""
    num_outside: int
    """Rows whose prompts are not in the source's range; they count nowhere else."""
    strata: dict[str, int]
    """Distinct rows taken by value of the column that the sample is stratified by."""

    @property
    def num_repeats(self) -> int:
        return self.num_rows - len(self.rows)

    @property
    def num_not_sampled(self) -> int:
        return self.num_usable - len(self.rows)


@dataclass
class _Reading:
    """A source being read."""

    source: Source
    opened: OpenSource
    way: Way
    first: list[Row]
    """The rows that told the format."""
    strata: Strata
    excluded: Mapping[int, Exclusion]
    num_read: int = 0
    num_usable: int = 0
    num_outside: int = 0
    seen: set[bytes] = field(default_factory=set[bytes])
    """Digests of the usable rows, where duplicates are looked for."""


class Taker:
    """Takes rows from one source after another; `deduplicate` keeps the first of equal conversations."""

    def __init__(
        self,
        config: CurateConfig,
        stage: StageRun,
        spool: Spool,
        dropped: RowLog,
        changed: RowLog,
        processes: Processes,
    ) -> None:
        self._config, self._stage, self._spool = config, stage, spool
        self._dropped, self._changed, self._processes = dropped, changed, processes
        self._given: dict[bytes, str] = {}
        """Digest of every conversation that the mixture has so far, and the source that gave it."""

    def conversations(self, source: Source, count: int | None) -> Iterator[Usable]:
        """The rows of a source that are conversations and that no rule drops, before any is taken."""
        reading = self._open(source, count, NOTHING)
        for made in self._made(reading, f"compare {source.name}"):
            if made.record is not None and not made.reason:
                yield Usable(made.number, _row_id(source.name, made), decode(made.record))

    def take(self, source: Source, count: int | None, excluded: Mapping[int, Exclusion] = NOTHING) -> Taken:
        """Read a source to its end and choose its rows: `count` of them, or what its config says where that is None.

        Rows whose numbers are `excluded` are dropped. Raises UserError where fewer are left than the source should
        give, or none.
        """
        reading = self._open(source, count, excluded)
        digest = sha256()
        for made in self._made(reading, f"read {source.name}"):
            if made.record is not None:
                digest.update(blake2b(made.before, digest_size=16).digest() if made.before else made.digest)
            self._read(reading, made)
        num_rows = self._num_rows(reading, count)
        self._tell(reading)
        rows = reading.strata.rows(num_rows)
        self._given.update((row.digest, source.name) for row in rows)
        return Taken(
            source,
            reading.opened,
            reading.way.format,
            _unused_columns(source, reading),
            reading.num_read,
            reading.num_usable,
            num_rows,
            Rows(rows),
            digest.hexdigest(),
            reading.num_outside,
            reading.strata.shares(num_rows) if source.stratify is not None else {},
        )

    def drop(self, source: Source, why: Exclusion) -> None:
        """Drop all rows of a source. Raises UserError where the recipe says how many it must give."""
        if source.count is not None or source.weight is not None:
            amount = f"count = {source.count}" if source.count is not None else f"weight = {source.weight}"
            raise UserError(
                f"source '{source.name}': {why.reason}, so all of it is dropped, but the recipe asks {amount} of it.",
                "Remove the source, or set decontaminate.policy to 'remove' or 'report'.",
            )
        reading = self._open(source, None, NOTHING)
        for made in self._made(reading, f"drop {source.name}"):
            self._drop(source, made, why.reason, why.kind)

    def _open(self, source: Source, count: int | None, excluded: Mapping[int, Exclusion]) -> _Reading:
        opened = open_source(source, self._stage.inputs.get(source.name), count, self._stage.seed)
        first: list[Row] = []
        for block in opened.blocks:
            first += rows_of(block, opened.only)
            if len(first) >= ROWS_TO_RECOGNISE:
                break
        way = Way(
            source.name,
            self._stage.seed,
            _recognise(source, first[:ROWS_TO_RECOGNISE], opened.where),
            source.fields is None,
            opened.only,
            source.rules if source.rules is not None else self._config.rules,
            source.prompt_range,
            source.stratify,
        )
        limit = count if count is not None else source.max_count
        return _Reading(source, opened, way, first, Strata(limit), excluded)

    def _made(self, reading: _Reading, label: str) -> Iterator[Made]:
        """What the rows of a source become, in order, counted on the way; rows outside its range are only counted."""
        opened = reading.opened
        blocks: Iterator[Block] = chain([reading.first], opened.blocks)
        with Progress(f"{label} ({opened.unit})", opened.total) as progress:
            for block in self._processes.map(partial(convert_block, reading.way), blocks):
                for made in block:
                    if made.is_outside:
                        reading.num_outside += 1
                        continue
                    reading.num_read += 1
                    yield made
                if block:
                    progress.reach(block[-1].position, f"{reading.num_read} rows")

    def _read(self, reading: _Reading, made: Made) -> None:
        """Offer one row to the sample, or drop it."""
        source = reading.source
        if made.changed and made.before is not None:
            names = ", ".join(made.changed)
            row = LoggedRow(source.name, _row_id(source.name, made), made.number, names, record=made.before)
            self._changed.add(row, *made.changed)
        reason = made.reason or (self._duplicate(reading, made.digest) if self._config.deduplicate else "")
        if reason or made.record is None:
            self._drop(source, made, reason)
            return
        if made.number in reading.excluded:
            self._drop(source, made, *reading.excluded[made.number])
            return
        reading.num_usable += 1
        sample = reading.strata.sample(made.stratum)
        if sample.admits(made.key, made.number):
            place = self._spool.append(made.record)
            sample.offer(Candidate(made.key, made.number, made.digest, made.own_id, place))

    def _duplicate(self, reading: _Reading, digest: bytes) -> str:
        """What a conversation is a duplicate of; nothing for a new one."""
        name = reading.source.name
        if digest in reading.seen:
            return duplicate_of(name, name)
        if digest in self._given:
            return duplicate_of(self._given[digest], name)
        reading.seen.add(digest)
        return ""

    def _drop(self, source: Source, made: Made, reason: str, kind: str | None = None) -> None:
        row = LoggedRow(source.name, _row_id(source.name, made), made.number, reason, made.excerpt, made.record)
        self._dropped.add(row, kind or reason)

    def _num_rows(self, reading: _Reading, count: int | None) -> int:
        """How many rows the source gives. Raises UserError if they are none, or more than it can give."""
        source, usable, where = reading.source, reading.num_usable, reading.opened.where
        found = f"{reading.num_read} rows were read and {self._reasons(source.name)}"
        if usable == 0:
            raise UserError(f"{where}: no usable row: {found}.", self._look_up())
        if count is None:
            exact = Fraction(str(source.fraction or 1)) * usable
            count = (2 * exact.numerator + exact.denominator) // (2 * exact.denominator)
            count = min(count, source.max_count or count)
        if count == 0:
            raise UserError(f"{where}: fraction = {source.fraction} of {usable} usable rows is no row.", "Raise it.")
        if count > usable and not source.upsample:
            repeat = ", or set upsample = true to repeat rows" if source.task is None else ""
            raise UserError(
                f"{where}: {count} rows are asked for, but only {usable} are usable: {found}.",
                f"Lower {'num_rows or its weight' if source.weight else 'count'}{repeat}.\n{self._look_up()}",
            )
        if source.stratify is not None and not any(source.stratify in (row.value or {}) for row in reading.first):
            columns = ", ".join(dict.fromkeys(column for row in reading.first for column in row.value or {}))
            raise UserError(
                f"{where}: stratify names the column '{source.stratify}', which is not there.", f"Columns: {columns}."
            )
        return count

    def _tell(self, reading: _Reading) -> None:
        """Say which rows were dropped and changed, if any were."""
        name, where = reading.source.name, reading.opened.where
        for log, what, file in ((self._dropped, "dropped", DROPPED), (self._changed, "changed", CHANGED)):
            reasons = log.of(name)
            if reasons.counts:
                shown = reasons.shown(MAX_SHOWN_REASONS)
                console.print(f"{where}: of {reading.num_read} rows {what} (see {file}): {shown}", markup=False)

    def _reasons(self, source: str) -> str:
        reasons = self._dropped.of(source)
        if not reasons.counts:
            return "none was dropped"
        return f"{reasons.counts.total()} were dropped: {reasons.shown(MAX_SHOWN_REASONS)}"

    def _look_up(self) -> str:
        return f"Every dropped row with its reason is in {self._stage.folder / DROPPED}."


def duplicate_of(source: str, of: str) -> str:
    """The reason that drops a row of the source `of`: an equal row that another one gives, or its own."""
    return "duplicate within the source" if source == of else f"duplicate of a row of '{source}'"


def default_id(source: str, row: int) -> str:
    """The id of a row that has none of its own."""
    return f"{source}/{row}"


def _row_id(source: str, made: Made) -> str:
    """The row's own id, else its source and number."""
    return made.own_id or default_id(source, made.number)


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


def _unused_columns(source: Source, reading: _Reading) -> list[str]:
    columns = dict.fromkeys(column for row in reading.first for column in row.value or {})
    used = {*reading.way.format.columns, *source.where, source.stratify}
    return [column for column in columns if column not in used]
