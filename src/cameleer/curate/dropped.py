"""Rows that rules and checks dropped or changed, each with its reason: on disk, whole, and counted.

    dropped.parquet   source, id, row, reason, excerpt, messages: the conversation, null where the row is none; as it
                      was read where rules change it into none
    changed.parquet   the same columns: the rules that changed a row, and what it was before

`row` is the line number in JSONL and the position elsewhere, both from 1.
"""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

import pyarrow as pa
import pyarrow.parquet as pq

from cameleer.core.spool import decode
from cameleer.core.table import CHARACTERS_PER_GROUP, MESSAGES, ROWS_PER_GROUP

DROPPED = "dropped.parquet"
CHANGED = "changed.parquet"

SCHEMA = pa.schema(
    [
        ("source", pa.string()),
        ("id", pa.string()),
        ("row", pa.int64()),
        ("reason", pa.string()),
        ("excerpt", pa.string()),
        ("messages", MESSAGES),
    ]
)

MAX_EXCERPT_CHARACTERS = 200


class LoggedRow(NamedTuple):
    """A line of the file; `record` is the conversation as a spool keeps it. Without an excerpt its prompt gives one."""

    source: str
    id: str
    row: int
    reason: str
    excerpt: str = ""
    record: bytes | None = None


@dataclass
class Reasons:
    """How many rows of a source have which reason, and the number of the first of each."""

    counts: Counter[str] = field(default_factory=Counter[str])
    first: dict[str, int] = field(default_factory=dict[str, int])

    def add(self, reason: str, row: int) -> None:
        self.counts[reason] += 1
        self.first.setdefault(reason, row)

    def shown(self, most: int) -> str:
        """The commonest reasons in words."""
        parts = [f"{each} ({times}, first in row {self.first[each]})" for each, times in self.counts.most_common(most)]
        others = len(self.counts) - len(parts)
        return ", ".join(parts + ([f"{others} other reasons"] if others else []))


def excerpt(value: Any) -> str:
    """The beginning of a row, as JSON."""
    return value[:MAX_EXCERPT_CHARACTERS] if isinstance(value, str) else _json(value)[:MAX_EXCERPT_CHARACTERS]


def _json(value: Any) -> str:
    # Parquet holds dates, bytes and decimals, which JSON does not know.
    return json.dumps(value, ensure_ascii=False, default=str)


class RowLog:
    """One of the two files in the writing, and its reasons by source."""

    def __init__(self, path: Path) -> None:
        self.reasons: dict[str, Reasons] = {}
        self._writer = pq.ParquetWriter(path, SCHEMA, compression="zstd", write_page_checksum=True)
        self._waiting: list[LoggedRow] = []
        self._size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        # After a failure too: what was dropped until then often explains it.
        self._flush()
        self._writer.close()

    def of(self, source: str) -> Reasons:
        return self.reasons.setdefault(source, Reasons())

    def add(self, row: LoggedRow, *kinds: str) -> None:
        """Write a row; it is counted by its reason, or by the kinds of reason where some are given."""
        for kind in kinds or (row.reason,):
            self.of(row.source).add(kind, row.row)
        self._waiting.append(row)
        self._size += len(row.record or b"")
        if len(self._waiting) == ROWS_PER_GROUP or self._size >= CHARACTERS_PER_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            rows = [_columns(row) for row in self._waiting]
            self._writer.write_batch(pa.RecordBatch.from_pylist(rows, SCHEMA))
        self._waiting, self._size = [], 0


def _columns(row: LoggedRow) -> dict[str, Any]:
    turns = None if row.record is None else decode(row.record)
    messages = None if turns is None else [{"role": turn.role, "content": turn.content} for turn in turns]
    prompt = next((turn.content for turn in turns or () if turn.role == "user"), "")
    return {
        "source": row.source,
        "id": _storable(row.id),
        "row": row.row,
        "reason": _storable(row.reason),
        "excerpt": _storable(row.excerpt or prompt[:MAX_EXCERPT_CHARACTERS]),
        "messages": messages,
    }


def _storable(value: str) -> str:
    """Text that UTF-8 can hold: half of a surrogate pair becomes a question mark."""
    return value.encode(errors="replace").decode()
