"""The mixture artifact: conversations to train on, written by curation and read by fine-tuning.

`mixture.parquet` holds one conversation a row, in the order in which it was written: `id` (unique within `source`),
`source`, and `messages`, a list of structs of `role` and `content`. It is written and read in bounded memory. Equal
rows give equal bytes under one version of pyarrow. Rows are counted from 1 where an error names one.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cameleer.core.errors import UserError
from cameleer.core.types import ROLES, Example, Message

MIXTURE = "mixture.parquet"

MIXTURE_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        ("messages", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
    ]
)

ROWS_PER_GROUP = 4096
CHARACTERS_PER_GROUP = 1 << 26
"""A row group ends at either bound, so that long conversations do not pile up in memory."""

ROWS_PER_READ = 1024

# What pyarrow raises for damaged files; broken text in a footer comes through as a UnicodeDecodeError.
_DAMAGE = (pa.ArrowException, OSError, UnicodeDecodeError)

_MAKE_ANEW = "Run the stage that makes this mixture again."


def write_mixture(folder: Path, rows: Iterable[Example]) -> int:
    """Write `folder/mixture.parquet`, whole or not at all, and return the number of rows."""
    draft = folder / f".{MIXTURE}.draft"
    count = 0
    with pq.ParquetWriter(draft, MIXTURE_SCHEMA, compression="zstd", write_page_checksum=True) as writer:
        for group in _row_groups(rows):
            writer.write_batch(_to_batch(group))
            count += len(group)
    draft.replace(folder / MIXTURE)
    return count


def read_mixture(folder: Path) -> Iterator[Example]:
    """The conversations of a mixture in order.

    Raises UserError that names the file, and the row where one is at fault: at once for a file that cannot be opened
    or lacks a column, while reading for damaged data, a missing value or an unknown role.
    """
    path = folder / MIXTURE
    file = _open(path)
    _check_columns(path, file.schema_arrow)
    return _read_rows(path, file)


def count_rows(folder: Path) -> int:
    """The number of conversations in a mixture, from the file's footer. Raises UserError as `read_mixture` does."""
    path = folder / MIXTURE
    with _open(path) as file:
        return file.metadata.num_rows


def _row_groups(rows: Iterable[Example]) -> Iterator[list[Example]]:
    """Rows in runs that depend on the rows alone, as the file's bytes do."""
    group: list[Example] = []
    characters = 0
    for row in rows:
        group.append(row)
        characters += sum(len(message.content) for message in row.messages)
        if len(group) == ROWS_PER_GROUP or characters >= CHARACTERS_PER_GROUP:
            yield group
            group, characters = [], 0
    if group:
        yield group


def _to_batch(rows: list[Example]) -> pa.RecordBatch:
    """Built from flat columns: Arrow converts nested Python objects many times more slowly."""
    ends = [0]
    for row in rows:
        ends.append(ends[-1] + len(row.messages))
    messages = [message for row in rows for message in row.messages]
    roles = pa.array([message.role for message in messages], pa.string())
    contents = pa.array([message.content for message in messages], pa.string())
    turns = pa.StructArray.from_arrays([roles, contents], names=["role", "content"])
    columns = [
        pa.array([row.id for row in rows], pa.string()),
        pa.array([row.source for row in rows], pa.string()),
        pa.ListArray.from_arrays(pa.array(ends, pa.int32()), turns),
    ]
    return pa.record_batch(columns, schema=MIXTURE_SCHEMA)


def _open(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path, page_checksum_verification=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; {path.parent} is not a mixture.", _MAKE_ANEW) from None
    except _DAMAGE as failure:
        raise UserError(f"{path}: not a readable Parquet file: {failure}", _MAKE_ANEW) from None


def _check_columns(path: Path, schema: pa.Schema) -> None:
    for field in MIXTURE_SCHEMA:
        if schema.get_field_index(field.name) < 0:
            raise UserError(f"{path}: no column '{field.name}'. Columns: {', '.join(schema.names)}.", _MAKE_ANEW)
        found = schema.field(field.name).type
        if found != field.type:
            raise UserError(f"{path}: column '{field.name}' is {found}; expected {field.type}.", _MAKE_ANEW)


def _read_rows(path: Path, file: pq.ParquetFile) -> Iterator[Example]:
    count = 0
    for batch in _read_batches(path, file):
        try:
            columns = [batch.column(name).to_pylist() for name in MIXTURE_SCHEMA.names]
        except UnicodeDecodeError:
            raise UserError(f"{path}: damaged after row {count}: text that is not UTF-8", _MAKE_ANEW) from None
        for id, source, turns in zip(*columns, strict=True):
            count += 1
            try:
                example = _to_example(id, source, turns)
            except ValueError as failure:
                raise UserError(f"{path}: row {count}: {failure}.", _MAKE_ANEW) from None
            yield example


def _read_batches(path: Path, file: pq.ParquetFile) -> Iterator[pa.RecordBatch]:
    count = 0
    with file:
        batches = file.iter_batches(ROWS_PER_READ, columns=MIXTURE_SCHEMA.names)
        while True:
            try:
                batch = next(batches, None)
            except _DAMAGE as failure:
                raise UserError(f"{path}: damaged after row {count}: {failure}", _MAKE_ANEW) from None
            if batch is None:
                break
            yield batch
            count += batch.num_rows
        if count != file.metadata.num_rows:
            raise UserError(f"{path}: damaged: {count} rows instead of {file.metadata.num_rows}.", _MAKE_ANEW)


def _to_example(id: str | None, source: str | None, turns: list[dict[str, str | None] | None] | None) -> Example:
    """One row as an Example. Raises ValueError that says what is wrong with it."""
    if id is None or source is None or turns is None:
        missing = "id" if id is None else "source" if source is None else "messages"
        raise ValueError(f"no value in column '{missing}'")
    messages: list[Message] = []
    for turn in turns:
        if turn is None:
            raise ValueError("a message that is null")
        role, content = turn["role"], turn["content"]
        if role not in ROLES:
            raise ValueError(f"unknown role {role!r}")
        if content is None:
            raise ValueError("a message without content")
        messages.append(Message(role, content))
    return Example(id, source, tuple(messages))
