"""Every dropped row with its reason, on disk and counted."""

import json
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple, Self

import pyarrow as pa
import pyarrow.parquet as pq

DROPPED = "dropped.parquet"

DROPPED_SCHEMA = pa.schema(
    [
        ("source", pa.string()),
        ("id", pa.string()),
        ("row", pa.int64()),
        ("reason", pa.string()),
        ("excerpt", pa.string()),
    ]
)

MAX_EXCERPT_CHARACTERS = 200
ROWS_PER_GROUP = 4096


class DroppedRow(NamedTuple):
    """A line of `dropped.parquet`: `row` is the line number in JSONL and the position elsewhere, both from 1."""

    source: str
    id: str
    row: int
    reason: str
    excerpt: str


def excerpt(value: Any) -> str:
    """The beginning of a row, as JSON."""
    return value[:MAX_EXCERPT_CHARACTERS] if isinstance(value, str) else _json(value)[:MAX_EXCERPT_CHARACTERS]


def _json(value: Any) -> str:
    # Parquet holds dates, bytes and decimals, which JSON does not know.
    return json.dumps(value, ensure_ascii=False, default=str)


class Dropped:
    """`dropped.parquet` in the writing, and per source how many rows were dropped for which reason."""

    def __init__(self, folder: Path) -> None:
        self.reasons: dict[str, Counter[str]] = {}
        self._writer = pq.ParquetWriter(folder / DROPPED, DROPPED_SCHEMA, compression="zstd", write_page_checksum=True)
        self._waiting: list[DroppedRow] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        # After a failure too: what was dropped until then often explains it.
        self._flush()
        self._writer.close()

    def add(self, row: DroppedRow, kind: str | None = None) -> None:
        """Write a row; it is counted by its reason, or by the kind of reason where one is given."""
        self.reasons.setdefault(row.source, Counter())[kind or row.reason] += 1
        self._waiting.append(row)
        if len(self._waiting) == ROWS_PER_GROUP:
            self._flush()

    def _flush(self) -> None:
        if not self._waiting:
            return
        columns = zip(*self._waiting, strict=True)
        arrays = [pa.array(map(_storable, column)) for column in columns]
        self._writer.write_batch(pa.record_batch(arrays, schema=DROPPED_SCHEMA))
        self._waiting.clear()


def _storable(value: str | int) -> str | int:
    """Text that UTF-8 can hold: half of a surrogate pair becomes a question mark."""
    return value.encode(errors="replace").decode() if isinstance(value, str) else value
