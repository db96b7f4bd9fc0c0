"""Readers: every row of a source in order, as an object or with the reason why it is none.

A file is told apart by its first bytes, whatever its name: gzip, Parquet, else a JSON array if it begins with `[`, else
JSONL. A row's number is its line in JSONL and its position elsewhere, both from 1. A bad line or cell costs its row; a
file that cannot be read on at some point, such as a truncated one, is a UserError.

A source comes in blocks of some rows, lines and Parquet's columns as they are: whoever gets a block makes its rows of
it (`rows_of`), in this process or in another.
"""

import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from io import BufferedIOBase
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from cameleer.core.errors import UserError
from cameleer.core.hub import open_split
from cameleer.core.mixture import MIXTURE
from cameleer.core.parquet import PARQUET_MAGIC, ROWS_PER_READ
from cameleer.core.types import Message, Problem
from cameleer.curate.config import Source
from cameleer.curate.json_array import ArrayError, array_items
from cameleer.tasks import find_task

BYTES_PER_BLOCK = 1 << 20
"""Of lines; a block ends at either bound."""
MAX_EXCERPT_BYTES = 800

GZIP_MAGIC = b"\x1f\x8b"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Row(NamedTuple):
    """One row: its object in `value`, or in `problem` why there is none and in `text` how it begins.

    `position` says how far its source has been read, in the source's unit.
    """

    number: int
    value: dict[str, Any] | None
    problem: str
    text: str
    position: int


class Lines(NamedTuple):
    """Lines of JSONL, of which the first has the number `first`."""

    first: int
    lines: list[bytes]
    position: int


class Batch(NamedTuple):
    """Rows as columns, of which the first has the number `first`."""

    first: int
    columns: pa.RecordBatch


Block = Lines | Batch | list[Row]


@dataclass(frozen=True)
class OpenSource:
    """A source to read once. `where` names it in errors; `total` is the last row's position, in `unit`s.

    `only` are the values that its rows' columns hold; the blocks have others too.
    """

    where: str
    blocks: Iterator[Block]
    total: int
    unit: str
    revision: str | None = None
    license: str | None = None
    only: Mapping[str, str] = field(default_factory=dict[str, str])

    @cached_property
    def rows(self) -> Iterator[Row]:
        return (row for block in self.blocks for row in rows_of(block, self.only))


def open_source(source: Source, path: Path | None, count: int | None, seed: int) -> OpenSource:
    """Open a source: a file's or mixture's `path` on this machine, or `count` problems of a task under a seed.

    Raises UserError for a source that is missing, empty or unreadable, or that the hub does not give.
    """
    if source.task is not None:
        assert count is not None, source
        return _open_task(source, source.task, count, seed)
    if source.dataset is not None:
        opened = _open_dataset(source, source.dataset)
    else:
        assert path is not None, source
        opened = _open_file(source, path if source.mixture is None else path / MIXTURE.name)
    return _only_where(opened, source.where) if source.where else opened


def _only_where(opened: OpenSource, where: Mapping[str, str]) -> OpenSource:
    words = ", ".join(f"{column} = '{value}'" for column, value in where.items())
    return replace(opened, only=where, where=f"{opened.where} where {words}")


def rows_of(block: Block, only: Mapping[str, str]) -> Iterator[Row]:
    """The rows of a block whose columns hold some values. What is no object cannot be told to belong elsewhere."""
    if isinstance(block, Lines):
        rows = _line_rows(block)
    else:
        rows = _batch_rows(block) if isinstance(block, Batch) else iter(block)
    for row in rows:
        if row.value is None or all(row.value.get(column) == value for column, value in only.items()):
            yield row


def _open_file(source: Source, path: Path) -> OpenSource:
    where = f"source '{source.name}' ({path})"
    try:
        size = path.stat().st_size
        with path.open("rb") as raw:
            magic = raw.read(len(PARQUET_MAGIC))
    except FileNotFoundError:
        raise UserError(f"{where}: no such file.") from None
    except OSError as failure:
        raise UserError(f"{where}: cannot be read: {failure.strerror}.") from None
    if size == 0:
        raise UserError(f"{where}: the file is empty.")
    if magic == PARQUET_MAGIC:
        return _open_parquet(source, path, where)
    # Progress in whole megabytes of the file as it is stored, which is known before it is read, compressed or not.
    return OpenSource(where, _read_json(path, where), size // 1_000_000 + 1, "MB", license=source.license)


def _read_json(path: Path, where: str) -> Iterator[Block]:
    """The blocks of a JSONL file or of a JSON array, gzipped or not."""
    with path.open("rb") as raw:
        zipped = raw.read(len(GZIP_MAGIC)) == GZIP_MAGIC
        raw.seek(0)
        stream = gzip.GzipFile(fileobj=raw) if zipped else raw
        try:
            if _begins_array(stream):
                yield from _row_blocks(_array_rows(stream, lambda: raw.tell() // 1_000_000, where))
            else:
                yield from _line_blocks(stream, lambda: raw.tell() // 1_000_000)
        except (EOFError, gzip.BadGzipFile, zlib.error) as failure:
            raise UserError(f"{where}: damaged gzip file: {failure}") from None


def _begins_array(stream: BufferedIOBase) -> bool:
    """Whether the first character that is no space is `[`; the stream is at its start before and after."""
    first = b""
    while not first and (chunk := stream.read(1 << 16)):
        first = chunk.removeprefix(BYTE_ORDER_MARK).lstrip()[:1]
    stream.seek(0)
    return first == b"["


def _line_blocks(stream: BufferedIOBase, position: Callable[[], int]) -> Iterator[Lines]:
    lines: list[bytes] = []
    first, size = 1, 0
    for line in stream:
        lines.append(line)
        size += len(line)
        if len(lines) == ROWS_PER_READ or size >= BYTES_PER_BLOCK:
            yield Lines(first, lines, position())
            first, size, lines = first + len(lines), 0, []
    if lines:
        yield Lines(first, lines, position())


def _row_blocks(rows: Iterable[Row]) -> Iterator[list[Row]]:
    rows = iter(rows)
    while block := list(islice(rows, ROWS_PER_READ)):
        yield block


def _line_rows(block: Lines) -> Iterator[Row]:
    for number, line in enumerate(block.lines, start=block.first):
        text = line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line
        if not text.isspace():
            yield _line_row(number, text, block.position)


def _line_row(number: int, line: bytes, position: int) -> Row:
    try:
        value = json.loads(line.decode())
    except UnicodeDecodeError:
        return _problem(number, "not UTF-8", line, position)
    except (ValueError, RecursionError):
        return _problem(number, "not JSON", line, position)
    return _object_row(number, value, position)


def _object_row(number: int, value: Any, position: int) -> Row:
    if isinstance(value, dict):
        return Row(number, value, "", "", position)
    return _problem(number, "not a JSON object", json.dumps(value).encode(), position)


def _problem(number: int, problem: str, text: bytes, position: int) -> Row:
    return Row(number, None, problem, text[:MAX_EXCERPT_BYTES].decode(errors="replace"), position)


def _array_rows(stream: BufferedIOBase, position: Callable[[], int], where: str) -> Iterator[Row]:
    try:
        for number, value in enumerate(array_items(stream), start=1):
            yield _object_row(number, value, position())
    except ArrayError as failure:
        raise UserError(
            f"{where}: {failure}",
            "A JSON array cannot be read on after a fault. Repair it, or write one object a line (JSONL).",
        ) from None


def _open_parquet(source: Source, path: Path, where: str) -> OpenSource:
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as failure:
        raise UserError(f"{where}: not a readable Parquet file: {failure}") from None
    blocks = _batches(_parquet_batches(file, where))
    return OpenSource(where, blocks, max(file.metadata.num_rows, 1), "rows", license=source.license)


def _parquet_batches(file: pq.ParquetFile, where: str) -> Iterator[pa.RecordBatch]:
    count = 0
    with file:
        batches = file.iter_batches(ROWS_PER_READ)
        while True:
            try:
                batch = next(batches, None)
            except (pa.ArrowException, OSError) as failure:
                raise UserError(f"{where}: damaged after row {count}: {failure}") from None
            if batch is None:
                return
            yield batch
            count += batch.num_rows


def _batches(some: Iterable[pa.RecordBatch]) -> Iterator[Batch]:
    first = 1
    for columns in some:
        yield Batch(first, columns)
        first += columns.num_rows


def _batch_rows(block: Batch) -> Iterator[Row]:
    batch = block.columns
    try:
        values = batch.to_pylist()
    except UnicodeDecodeError:
        values = [_value_or_none(batch, i) for i in range(batch.num_rows)]
    for number, value in enumerate(values, start=block.first):
        yield _problem(number, "not UTF-8", b"", number) if value is None else Row(number, value, "", "", number)


def _value_or_none(batch: pa.RecordBatch, i: int) -> dict[str, Any] | None:
    try:
        return batch.slice(i, 1).to_pylist()[0]
    except UnicodeDecodeError:
        return None


def _open_task(source: Source, task: str, count: int, seed: int) -> OpenSource:
    """A task's problems with their gold answers, as rows of the format `messages`."""
    where = f"source '{source.name}' (task {task})"
    try:
        problems = find_task(task).problems(count, seed)
    except UserError as failure:
        raise UserError(f"{where}: {failure.what}", failure.hint) from None
    rows = (Row(number, _problem_value(each), "", "", number) for number, each in enumerate(problems, start=1))
    license = source.license or "generated by Cameleer"
    return OpenSource(where, _row_blocks(rows), count, "rows", license=license)


def _problem_value(problem: Problem) -> dict[str, Any]:
    messages = (*problem.messages, Message("assistant", problem.gold))
    return {"id": problem.id, "messages": [{"role": each.role, "content": each.content} for each in messages]}


def _open_dataset(source: Source, dataset: str) -> OpenSource:
    """A split of a hub dataset, downloaded into the hub's cache or found there."""
    where = f"source '{source.name}' (hub dataset {dataset})"
    opened = open_split(where, dataset, source.split or "train", source.revision, source.config)
    license = source.license or opened.license
    return OpenSource(where, _batches(opened.batches), max(opened.num_rows, 1), "rows", opened.commit, license)
