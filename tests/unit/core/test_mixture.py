from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cameleer.core import table
from cameleer.core.errors import UserError
from cameleer.core.mixture import MIXTURE
from cameleer.core.types import Example, Message


def example(number: int, content: str = "") -> Example:
    turns = (
        Message("system", " be brief\n"),
        Message("user", f"{number}?"),
        Message("assistant", content or "yes\u2028"),
    )
    return Example(f"row {number}", "source", turns[number % 2 :])


def test_reads_back_exactly_what_was_written(tmp_path: Path) -> None:
    rows = [example(i) for i in range(2500)]
    rows.append(Example("", "", (Message("user", "\x00 \r\n"), Message("assistant", "😀" * 10))))
    assert MIXTURE.write(tmp_path, iter(rows)) == 2501
    assert MIXTURE.count(tmp_path) == 2501
    assert list(MIXTURE.read(tmp_path)) == rows


def test_a_mixture_may_be_empty(tmp_path: Path) -> None:
    assert MIXTURE.write(tmp_path, []) == 0
    assert MIXTURE.count(tmp_path) == 0
    assert list(MIXTURE.read(tmp_path)) == []


def test_equal_rows_give_equal_bytes_however_they_arrive(tmp_path: Path) -> None:
    for name, rows in (("list", [example(i) for i in range(5000)]), ("stream", (example(i) for i in range(5000)))):
        (tmp_path / name).mkdir()
        MIXTURE.write(tmp_path / name, rows)
    assert (tmp_path / "list" / MIXTURE.name).read_bytes() == (tmp_path / "stream" / MIXTURE.name).read_bytes()


def test_long_conversations_do_not_pile_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a bound of 1000 characters, groups end after the third row of 400 and after the second of 600."""
    monkeypatch.setattr(table, "CHARACTERS_PER_GROUP", 1000)
    contents = ["a" * 400] * 3 + ["b" * 600] * 2
    rows = [Example(str(i), "s", (Message("assistant", text),)) for i, text in enumerate(contents)]
    MIXTURE.write(tmp_path, rows)
    metadata = pq.ParquetFile(tmp_path / MIXTURE.name).metadata
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [3, 2]
    assert list(MIXTURE.read(tmp_path)) == rows


def test_an_interrupted_write_leaves_the_old_mixture(tmp_path: Path) -> None:
    MIXTURE.write(tmp_path, [example(1)])

    def broken():
        yield example(2)
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        MIXTURE.write(tmp_path, broken())
    assert list(MIXTURE.read(tmp_path)) == [example(1)]


@pytest.mark.parametrize("read", [MIXTURE.read, MIXTURE.count])
def test_no_mixture_is_named(tmp_path: Path, read: Callable[[Path], object]) -> None:
    with pytest.raises(UserError, match=f"{tmp_path / MIXTURE.name}: no such file"):
        read(tmp_path)


@pytest.mark.parametrize("kept", [0, 3, 100, -1])
def test_a_truncated_file_is_named(tmp_path: Path, kept: int) -> None:
    MIXTURE.write(tmp_path, [example(i) for i in range(100)])
    path = tmp_path / MIXTURE.name
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match=f"{path}: not a readable Parquet file"):
        MIXTURE.read(tmp_path)


def test_no_flipped_bit_changes_a_row_unseen(tmp_path: Path) -> None:
    rows = [example(i) for i in range(20)]
    MIXTURE.write(tmp_path, rows)
    path = tmp_path / MIXTURE.name
    whole = path.read_bytes()
    refused = 0
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        try:
            assert list(MIXTURE.read(tmp_path)) == rows, place
        except UserError as error:
            assert str(path) in error.what
            refused += 1
    assert refused > 100


def write_table(folder: Path, columns: dict[str, list[object]], schema: pa.Schema = MIXTURE.schema) -> None:
    pq.write_table(pa.table(columns, schema=schema), folder / MIXTURE.name)


GOOD = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]


@pytest.mark.parametrize(
    ("id", "messages", "fault"),
    [
        (None, GOOD, "no value in column 'id'"),
        ("x", None, "no value in column 'messages'"),
        ("x", [{"role": "tool", "content": "a"}], "unknown role 'tool'"),
        ("x", [{"role": None, "content": "a"}], "unknown role None"),
        ("x", [{"role": "user", "content": None}], "a message without content"),
        ("x", [None], "a message that is null"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, id: str | None, messages: list[object] | None, fault: str) -> None:
    write_table(tmp_path, {"id": ["1", id], "source": ["s", "s"], "messages": [GOOD, messages]})
    rows = MIXTURE.read(tmp_path)
    assert next(rows).id == "1"
    with pytest.raises(UserError, match=rf"{MIXTURE.name}: row 2: {fault}\."):
        next(rows)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    write_table(tmp_path, {"id": ["1"], "source": ["s"]}, pa.schema([("id", pa.string()), ("source", pa.string())]))
    with pytest.raises(UserError, match=r"no column 'messages'\. Columns: id, source\."):
        MIXTURE.read(tmp_path)


def test_a_column_of_another_type_is_named(tmp_path: Path) -> None:
    schema = pa.schema([("id", pa.int64()), *((field.name, field.type) for field in list(MIXTURE.schema)[1:])])
    write_table(tmp_path, {"id": [1], "source": ["s"], "messages": [GOOD]}, schema)
    with pytest.raises(UserError, match="column 'id' is int64; expected string"):
        MIXTURE.read(tmp_path)
