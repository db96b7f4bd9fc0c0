import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cameleer.core.errors import UserError
from cameleer.curate import json_array
from cameleer.curate.config import Source
from cameleer.curate.json_array import ArrayError, array_items
from cameleer.curate.sources import Row, open_source
from cameleer.tasks import find_task

ROWS: list[dict[str, Any]] = [{"n": 1, "text": "a\u2028b"}, {"n": 2, "text": "é 😀"}, {"n": 3, "text": None}]


def rows_of(path: Path, **settings: Any) -> list[Row]:
    return list(open_source(Source(file=path.name, **settings), path, None, 0).rows)


def found(path: Path) -> list[tuple[int, Any]]:
    """(number, object or problem) of every row."""
    return [(row.number, row.problem if row.value is None else row.value) for row in rows_of(path)]


def lines(rows: list[dict[str, Any]], ascii: bool = True) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=ascii) + "\n" for row in rows).encode()


def parquet(rows: list[dict[str, Any]]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.jsonl", lines(ROWS)),
        ("rows.jsonl", lines(ROWS, ascii=False)),
        ("rows.jsonl", lines(ROWS).rstrip(b"\n")),
        ("rows.jsonl", lines(ROWS).replace(b"\n", b"\r\n")),
        ("rows.jsonl", b"\xef\xbb\xbf" + lines(ROWS)),
        ("rows.jsonl.gz", gzip.compress(lines(ROWS), mtime=0)),
        ("rows.json", json.dumps(ROWS).encode()),
        ("rows.json", b"\xef\xbb\xbf \n" + json.dumps(ROWS, indent=2, ensure_ascii=False).encode() + b"\n"),
        ("rows.json.gz", gzip.compress(json.dumps(ROWS).encode(), mtime=0)),
        ("rows.parquet", parquet(ROWS)),
        ("rows", parquet(ROWS)),
        ("rows.json", lines(ROWS)),
    ],
)
def test_every_kind_of_file_gives_the_same_rows(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert found(path) == list(enumerate(ROWS, start=1))


def test_rows_of_jsonl_are_numbered_by_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"n": 1}\n\n  \r\n{"n": 2}\n')
    assert found(path) == [(1, {"n": 1}), (4, {"n": 2})]


def test_a_bad_line_costs_only_its_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(
        b'{"n": 1}\n{"n": \n["n"]\n"\\ud800"\n{"n": "\xff"}\n' + b"[" * 100_000 + b"\n" + b"9" * 5000 + b'\n{"n": 8}\n'
    )
    assert found(path) == [
        (1, {"n": 1}),
        (2, "not JSON"),
        (3, "not a JSON object"),
        (4, "not a JSON object"),
        (5, "not UTF-8"),
        (6, "not JSON"),
        (7, "not JSON"),
        (8, {"n": 8}),
    ]
    assert rows_of(path)[1].text == '{"n": \n'
    assert rows_of(path)[4].text == '{"n": "\ufffd"}\n'
    assert len(rows_of(path)[5].text) < 1000


def test_an_array_may_hold_what_is_no_object(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_bytes(b'[{"n": 1}, 12, null, "x", [{"n": 2}], {}]')
    bad = "not a JSON object"
    assert found(path) == [(1, {"n": 1}), (2, bad), (3, bad), (4, bad), (5, bad), (6, {})]


@pytest.mark.parametrize("bytes_per_read", [1, 2, 7, 64])
def test_array_items_are_the_same_whatever_is_read_at_once(
    monkeypatch: pytest.MonkeyPatch, bytes_per_read: int
) -> None:
    monkeypatch.setattr(json_array, "BYTES_PER_READ", bytes_per_read)
    items = [{"a": 'é😀\\" ]'}, [1, [2.5, -3e10]], "x,]", 12, 345678, True, None, {}, [], ""]
    for text in (json.dumps(items), json.dumps(items, indent=1, ensure_ascii=False), json.dumps(items) + " \n"):
        assert list(array_items(io.BytesIO(text.encode()))) == items
    assert list(array_items(io.BytesIO(b" [ ] "))) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'[{"a": 1},\n{"a": }]', "line 2, after 1 items: Expecting value"),
        (b'[{"a": 1}\n{"a": 2}]', "line 2, after 1 items: expected ',' or ']', found '{'"),
        (b'[{"a": 1},\n\n{"a": 2', "line 3, after 1 items: Expecting ',' delimiter"),
        (b'[{"a": 1},', "line 1, after 1 items: Expecting value"),
        (b'[{"a": 1}', "line 1, after 1 items: the file ends before ',' or ']'"),
        (b'[{"a": 1},]', "line 1, after 1 items: Expecting value"),
        (b'[{"a": 1}]\n[2]', "line 2, after 1 items: text after the array's end"),
        (b'[{"a": "x', "line 1, after 0 items: Unterminated string starting at"),
        (b'[{"a": "\xff"}]', "line 1, after 0 items: not UTF-8: invalid start byte"),
        (b'[{"a": "\xc3', "line 1, after 0 items: not UTF-8: unexpected end of data"),
        (b"[" * 100_000, "line 1, after 0 items: nested too deeply"),
    ],
)
@pytest.mark.parametrize("bytes_per_read", [1, 1 << 20])
def test_a_broken_array_says_where(
    monkeypatch: pytest.MonkeyPatch, text: bytes, message: str, bytes_per_read: int
) -> None:
    monkeypatch.setattr(json_array, "BYTES_PER_READ", bytes_per_read)
    with pytest.raises(ArrayError, match=r"^not a JSON array: ") as error:
        list(array_items(io.BytesIO(text)))
    assert str(error.value) == f"not a JSON array: {message}."


def test_a_broken_array_is_a_user_error_that_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_bytes(b'[{"n": 1},\n{"n": }]')
    with pytest.raises(UserError, match=rf"source 'rows' \({path}\): not a JSON array: line 2"):
        rows_of(path)


def test_position_reaches_the_total(tmp_path: Path) -> None:
    for name, content in (
        ("a.jsonl", lines(ROWS * 30_000)),
        ("b.parquet", parquet(ROWS)),
        ("c.json", json.dumps(ROWS * 30_000).encode()),
    ):
        (tmp_path / name).write_bytes(content)
        opened = open_source(Source(file=name), tmp_path / name, None, 0)
        positions = [row.position for row in opened.rows]
        assert positions == sorted(positions)
        assert opened.total - 1 <= positions[-1] <= opened.total, name


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"source 'x' \({tmp_path}/x.jsonl\): no such file"):
        rows_of(tmp_path / "x.jsonl")
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        open_source(Source(file="x"), tmp_path, None, 0)


@pytest.mark.parametrize("name", ["x.jsonl", "x.json", "x.parquet", "x.jsonl.gz"])
def test_an_empty_file_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(UserError, match=rf"{name}\): the file is empty"):
        rows_of(tmp_path / name)


@pytest.mark.parametrize("kept", [4, 50, -1, -20])
def test_a_truncated_parquet_file_is_named(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(parquet(ROWS)[:kept])
    with pytest.raises(UserError, match=rf"{path}\): not a readable Parquet file"):
        rows_of(path)


def test_damage_inside_a_parquet_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(
        pa.Table.from_pylist(ROWS * 2000), path, row_group_size=3000, compression="zstd", write_page_checksum=True
    )
    content = bytearray(path.read_bytes())
    second = pq.ParquetFile(path).metadata.row_group(1).column(1)
    start = second.dictionary_page_offset or second.data_page_offset
    content[start + 20 : start + 40] = b"x" * 20
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"{path}\): damaged after row \d+"):
        rows_of(path)


def test_text_that_is_not_utf8_costs_only_its_row_in_parquet(tmp_path: Path) -> None:
    binary = pa.array([b"fine", b"\xff\xfe", b"fine too"], pa.binary())
    table = pa.table({"text": pa.Array.from_buffers(pa.string(), 3, binary.buffers())})
    pq.write_table(table, tmp_path / "x.parquet")
    assert found(tmp_path / "x.parquet") == [(1, {"text": "fine"}), (2, "not UTF-8"), (3, {"text": "fine too"})]


@pytest.mark.parametrize(
    "content",
    [gzip.compress(lines(ROWS * 100), mtime=0)[:60], gzip.compress(lines(ROWS), mtime=0)[:-4] + b"xxxx", b"\x1f\x8b?"],
)
def test_a_damaged_gzip_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.jsonl.gz").write_bytes(content)
    with pytest.raises(UserError, match=r"x.jsonl.gz\): damaged gzip file"):
        rows_of(tmp_path / "x.jsonl.gz")


def test_a_task_gives_problems_with_their_gold_answers() -> None:
    opened = open_source(Source(task="word-arithmetic", count=20), None, 20, 3)
    problems = find_task("word-arithmetic").problems(20, 3)
    assert [row.number for row in opened.rows] == list(range(1, 21))
    for row, problem in zip(
        open_source(Source(task="word-arithmetic", count=20), None, 20, 3).rows, problems, strict=True
    ):
        assert row.value is not None
        assert row.value["id"] == problem.id
        spoken = [(turn["role"], turn["content"]) for turn in row.value["messages"]]
        assert spoken == [*((each.role, each.content) for each in problem.messages), ("assistant", problem.gold)]


class Hub:
    """A hub that knows one dataset, and is told whether it can be reached."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.online = True
        self.asked: list[tuple[Any, ...]] = []
        monkeypatch.setattr(datasets, "load_dataset", self.load_dataset)
        monkeypatch.setattr(
            huggingface_hub.HfApi, "dataset_info", lambda _, *given, **named: self.info(*given, **named)
        )

    def info(self, dataset: str, revision: str | None) -> huggingface_hub.DatasetInfo:
        if not self.online:
            raise ConnectionError("no network")
        commit = f"commit-of-{revision or 'main'}"
        return huggingface_hub.DatasetInfo(id=dataset, sha=commit, card_data={"license": ["odc-by", "mit"]})

    def load_dataset(self, *given: Any, **named: Any) -> datasets.Dataset:
        self.asked.append((*given, named["split"], named["revision"]))
        if given[0] != "org/known":
            raise ConnectionError("Couldn't reach 'org/unknown' on the Hub")
        return datasets.Dataset.from_list(ROWS)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    yield Hub(monkeypatch)


def test_a_hub_dataset_is_read_at_the_commit_that_its_revision_means(hub: Hub) -> None:
    opened = open_source(Source(dataset="org/known", revision="v2", split="test", config="en"), None, None, 0)
    assert [row.value for row in opened.rows] == ROWS
    assert hub.asked == [("org/known", "en", "test", "commit-of-v2")]
    assert (opened.revision, opened.license, opened.total) == ("commit-of-v2", "odc-by, mit", 3)


def test_a_hub_dataset_in_the_cache_needs_no_network(hub: Hub) -> None:
    hub.online = False
    opened = open_source(Source(dataset="org/known", license="mine"), None, None, 0)
    assert [row.number for row in opened.rows] == [1, 2, 3]
    assert hub.asked == [("org/known", None, "train", None)]
    assert (opened.revision, opened.license) == (None, "mine")


def test_a_hub_dataset_that_cannot_be_had_says_so(hub: Hub) -> None:
    hub.online = False
    with pytest.raises(UserError, match=r"\(hub dataset org/unknown\): cannot be loaded: Couldn't reach") as error:
        open_source(Source(dataset="org/unknown"), None, None, 0)
    assert "HF_HUB_OFFLINE" in str(error.value.hint)
