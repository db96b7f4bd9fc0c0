"""From a block of a source's rows to what each becomes: a function of the block alone, in this process or another.

A row becomes a conversation by the source's format and rules, or gets the reason why it is none. What depends on other
rows (duplicates, samples, overlaps) is decided by whoever gets the results, in the order of the rows: so they are the
same however many processes there are and wherever one block ends and the next begins.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NamedTuple

from cameleer.core.prompt_range import in_range
from cameleer.core.spool import encode
from cameleer.core.types import Conversation
from cameleer.curate.config import Rules
from cameleer.curate.dropped import excerpt
from cameleer.curate.formats import Format, RowError, check, convert, own_id, recognised
from cameleer.curate.rules import changed, objection
from cameleer.curate.sample import random_key
from cameleer.curate.sources import Block, Row, rows_of


@dataclass(frozen=True)
class Way:
    """What turns a source's rows into conversations."""

    source: str
    seed: int
    format: Format
    is_recognised: bool
    """Whether the format was found by the rows' columns and not named by the recipe."""
    only: Mapping[str, str]
    rules: Rules
    prompt_range: tuple[float, float] | None
    stratify: str | None


class Made(NamedTuple):
    """What a row became. `record` is its conversation (`core.spool`); None where it is none, for the `reason`.

    A conversation that a rule drops has both; one that rules change into none is recorded as it was read. `before` is
    the record before rules `changed` it, and `digest` the record's.
    """

    number: int
    position: int
    own_id: str | None
    record: bytes | None = None
    reason: str = ""
    excerpt: str = ""
    digest: bytes = b""
    key: int = 0
    stratum: str = ""
    before: bytes | None = None
    changed: tuple[str, ...] = ()
    is_outside: bool = False
    """Whether its prompt is not in the source's range: it is none of the source's rows."""


def convert_block(way: Way, block: Block) -> list[Made]:
    """What the rows of a block become, in order."""
    return list(_made(way, block))


def _made(way: Way, block: Block) -> Iterator[Made]:
    for row in rows_of(block, way.only):
        id = own_id(row.value, way.format) if row.value is not None else None
        try:
            yield _usable(way, row, id)
        except RowError as error:
            begins = excerpt(row.text if row.value is None else row.value)
            yield Made(row.number, row.position, id, reason=error.reason, excerpt=begins)


def _usable(way: Way, row: Row, id: str | None) -> Made:
    """The row's conversation, which a rule may yet drop. Raises RowError where there is none."""
    if row.value is None:
        raise RowError(row.problem)
    read = _converted(way, row.value)
    if not in_range(read, way.prompt_range):
        return Made(row.number, row.position, id, is_outside=True)
    conversation, names = changed(read, way.rules)
    before = _record(read) if names else None
    if before is not None and (fault := _fault(conversation)):
        return Made(row.number, row.position, id, before, fault, digest=_digest(before))
    record = _record(conversation)
    return Made(
        row.number,
        row.position,
        id,
        record,
        objection(conversation, way.rules) or "",
        digest=_digest(record),
        key=random_key(way.seed, "sample", way.source, row.number),
        stratum="" if way.stratify is None else str(row.value.get(way.stratify)),
        before=before,
        changed=tuple(names),
    )


def _converted(way: Way, value: Mapping[str, Any]) -> Conversation:
    try:
        return convert(value, way.format)
    except RowError as error:
        other = recognised(value) if way.is_recognised else None
        if other in (None, way.format):
            raise
        raise RowError(f"mixed schemas: {other.name}, where the source has {way.format.name}") from error


def _fault(conversation: Conversation) -> str:
    """Why a conversation is none; nothing for one that is."""
    try:
        check(conversation)
    except RowError as error:
        return error.reason
    return ""


def _digest(record: bytes) -> bytes:
    return blake2b(record, digest_size=16).digest()


def _record(conversation: Conversation) -> bytes:
    try:
        return encode(conversation)
    except UnicodeEncodeError:
        raise RowError("content is not valid Unicode") from None
