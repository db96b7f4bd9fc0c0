"""One Parquet file of typed rows, as stages hand it on: written whole or not at all, read with every fault named.

Written and read in bounded memory. Equal rows give equal bytes under one version of pyarrow. Rows are counted from 1
where an error names one.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from cameleer.core.errors import UserError
from cameleer.core.types import ROLES, Conversation, Message

ROWS_PER_GROUP = 4096
CHARACTERS_PER_GROUP = 1 << 26
"""A row group ends at either bound, so that long texts do not pile up in memory."""

ROWS_PER_READ = 1024

MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
"""The type of a column of conversations."""

# What pyarrow raises for damaged files; broken text in a footer comes through as a UnicodeDecodeError.
_DAMAGE = (pa.ArrowException, OSError, UnicodeDecodeError)

Row = TypeVar("Row")


@dataclass(frozen=True)
class Table(Generic[Row]):
    """A kind of file: its name in a folder, its columns, and how rows become columns and values become a row.

    `noun` is what errors call it. `to_columns` gives the columns of some rows in the schema's order. `to_row` takes a
    row's values in that order and raises ValueError that says what is wrong with them. `size` is a row's characters.
    Columns not named in `optional` have a value in every row.
    """

    name: str
    noun: str
    schema: pa.Schema
    to_columns: Callable[[list[Row]], list[pa.Array]]
    to_row: Callable[..., Row]
    size: Callable[[Row], int]
    optional: frozenset[str] = frozenset()

    @property
    def _remedy(self) -> str:
        return f"Run the stage that makes this {self.noun} again."

    def write(self, folder: Path, rows: Iterable[Row]) -> int:
        """Write the file in `folder`, whole or not at all, and return the number of rows."""
        draft = folder / f".{self.name}.draft"
        count = 0
        with pq.ParquetWriter(draft, self.schema, compression="zstd", write_page_checksum=True) as writer:
            for group in self._groups(rows):
                writer.write_batch(pa.record_batch(self.to_columns(group), schema=self.schema))
                count += len(group)
        draft.replace(folder / self.name)
        return count

    def read(self, folder: Path) -> Iterator[Row]:
        """The rows in order.

        Raises UserError that names the file, and the row where one is at fault: at once for a file that cannot be
        opened or lacks a column, while reading for damaged data and for values that make no row.
        """
        path = folder / self.name
        file = self._open(path)
        self._check_columns(path, file.schema_arrow)
        return self._read_rows(path, file)

    def count(self, folder: Path) -> int:
        """The number of rows, from the file's footer. Raises UserError as `read` does."""
        with self._open(folder / self.name) as file:
            return file.metadata.num_rows

    def _groups(self, rows: Iterable[Row]) -> Iterator[list[Row]]:
        """Rows in runs that depend on the rows alone, as the file's bytes do."""
        group: list[Row] = []
        characters = 0
        for row in rows:
            group.append(row)
            characters += self.size(row)
            if len(group) == ROWS_PER_GROUP or characters >= CHARACTERS_PER_GROUP:
                yield group
                group, characters = [], 0
        if group:
            yield group

    def _open(self, path: Path) -> pq.ParquetFile:
        try:
            return pq.ParquetFile(path, page_checksum_verification=True)
        except FileNotFoundError:
            raise UserError(f"{path}: no such file; {path.parent} is not a {self.noun}.", self._remedy) from None
        except _DAMAGE as failure:
            raise UserError(f"{path}: not a readable Parquet file: {failure}", self._remedy) from None

    def _check_columns(self, path: Path, schema: pa.Schema) -> None:
        for field in self.schema:
            if schema.get_field_index(field.name) < 0:
                raise UserError(f"{path}: no column '{field.name}'. Columns: {', '.join(schema.names)}.", self._remedy)
            found = schema.field(field.name).type
            if found != field.type:
                raise UserError(f"{path}: column '{field.name}' is {found}; expected {field.type}.", self._remedy)

    def _read_rows(self, path: Path, file: pq.ParquetFile) -> Iterator[Row]:
        count = 0
        for batch in self._read_batches(path, file):
            try:
                columns = [batch.column(name).to_pylist() for name in self.schema.names]
            except UnicodeDecodeError:
                raise UserError(f"{path}: damaged after row {count}: text that is not UTF-8", self._remedy) from None
            for values in zip(*columns, strict=True):
                count += 1
                try:
                    row = self._to_row(values)
                except ValueError as failure:
                    raise UserError(f"{path}: row {count}: {failure}.", self._remedy) from None
                yield row

    def _to_row(self, values: tuple[Any, ...]) -> Row:
        for field, value in zip(self.schema, values, strict=True):
            if value is None and field.name not in self.optional:
                raise ValueError(f"no value in column '{field.name}'")
        return self.to_row(*values)

    def _read_batches(self, path: Path, file: pq.ParquetFile) -> Iterator[pa.RecordBatch]:
        count = 0
        with file:
            batches = file.iter_batches(ROWS_PER_READ, columns=self.schema.names)
            while True:
                try:
                    batch = next(batches, None)
                except _DAMAGE as failure:
                    raise UserError(f"{path}: damaged after row {count}: {failure}", self._remedy) from None
                if batch is None:
                    break
                yield batch
                count += batch.num_rows
            if count != file.metadata.num_rows:
                raise UserError(f"{path}: damaged: {count} rows instead of {file.metadata.num_rows}.", self._remedy)


def strings(values: Iterable[str]) -> pa.Array:
    """A column of text."""
    return pa.array(list(values), pa.string())


def conversations(rows: Iterable[Conversation]) -> pa.Array:
    """A column of type `MESSAGES`, built from flat columns: Arrow converts nested objects many times more slowly."""
    ends = [0]
    messages: list[Message] = []
    for row in rows:
        messages.extend(row)
        ends.append(len(messages))
    turns = pa.StructArray.from_arrays(
        [strings(message.role for message in messages), strings(message.content for message in messages)],
        names=["role", "content"],
    )
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), turns)


def to_conversation(turns: list[dict[str, str | None] | None]) -> Conversation:
    """A value of a column of conversations. Raises ValueError that says what is wrong with it."""
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
    return tuple(messages)
