"""The mirror: rows of every format, and fetching from a hub that this file serves over HTTP."""

import gzip
import hashlib
import io
import json
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import constants

from cameleer.core.errors import UserError
from cameleer.tasks import mirror
from cameleer.tasks.mirror import (
    CONVERTED,
    MEBIBYTE,
    DatasetSplit,
    content_digest,
    fetch,
    fetch_task,
    find_files,
    mirror_folder,
    read_rows,
    read_source,
)
from cameleer.tasks.task import Decoding, Split, Task, TaskRole

SPLIT = DatasetSplit("owner/name", "default", "test")
ROWS: list[dict[str, Any]] = [{"text": f"row {number}, “ü”", "label": str(number)} for number in range(5)]
REVISION = "c0ffee" + "0" * 34


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CAMELEER_MIRROR", str(tmp_path / "mirror"))
    return SPLIT.folder


def parquet(rows: Sequence[dict[str, Any]], row_group_size: int = 1_000) -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows)), stream, row_group_size=row_group_size)
    return stream.getvalue()


def written(rows: Sequence[dict[str, Any]], ending: str) -> bytes:
    if ending == ".parquet":
        return parquet(rows)
    if ending == ".jsonl":
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    if ending == ".json":
        return json.dumps(rows, ensure_ascii=False).encode()
    comma = "," if ending == ".csv" else "\t"
    quoted = [['"' + value.replace('"', '""') + '"' for value in row.values()] for row in rows]
    return "".join(comma.join(line) + "\r\n" for line in [["text", "label"], *quoted]).encode()


def put(name: str, content: bytes) -> Path:
    path = SPLIT.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def read() -> list[dict[str, Any]]:
    return list(read_rows(SPLIT, ["text", "label"]))


@pytest.mark.parametrize("ending", mirror.FORMATS)
def test_every_format_gives_the_same_rows(ending: str) -> None:
    put(f"test{ending}", written(ROWS, ending))
    assert read() == ROWS


@pytest.mark.parametrize("ending", [ending for ending in mirror.FORMATS if ending != ".parquet"])
def test_text_formats_may_be_gzipped_and_begin_with_a_byte_order_mark(ending: str) -> None:
    put(f"test{ending}.gz", gzip.compress(b"\xef\xbb\xbf" + written(ROWS, ending)))
    assert read() == ROWS


def test_the_files_of_a_folder_are_read_in_order_of_name() -> None:
    put("test/0001.parquet", parquet(ROWS[3:]))
    put("test/0000.parquet", parquet(ROWS[:3]))
    put("test/README.md", b"# Not data")
    assert read() == ROWS


def test_a_split_name_with_points_is_found() -> None:
    split = DatasetSplit("owner/name", "default", "v0.1.2")
    put("v0.1.2.jsonl", written(ROWS, ".jsonl"))
    put("v0.1.jsonl", b"")
    assert list(read_rows(split, ["text"])) == ROWS


def test_fields_keep_line_ends_quotes_and_more_characters_than_python_reads_by_default() -> None:
    rows = [{"text": 'a\r\nb "c", d\n', "label": "x" * 200_000}]
    put("test.csv", written(rows, ".csv"))
    assert read() == rows


def test_json_lines_may_be_blank_and_hold_typed_values() -> None:
    put("test.jsonl", b'{"text": ["a", null], "label": 1.5}\n\n{"text": {"k": true}, "label": null}')
    assert read() == [{"text": ["a", None], "label": 1.5}, {"text": {"k": True}, "label": None}]


def test_a_missing_split_is_an_error_that_says_how_to_get_it() -> None:
    with pytest.raises(UserError, match=r"no owner/name \(default, test\): nothing at .*/default/test\.\*") as caught:
        read()
    assert "cameleer fetch" in str(caught.value)
    assert find_files(SPLIT) == []


def test_a_file_and_a_folder_of_one_split_are_an_error() -> None:
    put("test.jsonl", written(ROWS, ".jsonl"))
    put("test/0000.parquet", parquet(ROWS))
    with pytest.raises(UserError, match=r"more than once: .*test\.jsonl, .*/test\."):
        read()


def test_two_formats_of_one_split_are_an_error() -> None:
    put("test.jsonl", written(ROWS, ".jsonl"))
    put("test.jsonl.gz", gzip.compress(written(ROWS, ".jsonl")))
    with pytest.raises(UserError, match="more than once"):
        read()


@pytest.mark.parametrize("ending", mirror.FORMATS)
def test_a_wrong_column_is_named_with_its_file_and_row(ending: str) -> None:
    path = put(f"test{ending}", written(ROWS, ending))
    with pytest.raises(UserError, match=r"row 1 has no column 'answer'; it has text, label") as caught:
        list(read_rows(SPLIT, ["text", "answer"]))
    assert str(path) in caught.value.what


def test_a_column_lacking_in_a_later_row_is_found() -> None:
    put("test.jsonl", b'{"text": "a", "label": 1}\n{"text": "b"}\n')
    with pytest.raises(UserError, match="row 2 has no column 'label'"):
        read()


@pytest.mark.parametrize("ending", [*mirror.FORMATS, *(f"{e}.gz" for e in mirror.FORMATS if e != ".parquet")])
@pytest.mark.parametrize("kept", [0.999, 0.6])
def test_a_truncated_file_is_an_error(ending: str, kept: float) -> None:
    content = written([{"text": "x" * 50 + str(n), "label": str(n)} for n in range(2_000)], ending.removesuffix(".gz"))
    content = gzip.compress(content) if ending.endswith(".gz") else content
    path = put(f"test{ending}", content[: int(kept * len(content))])
    with pytest.raises(UserError, match="cannot be read after row") as caught:
        read()
    assert str(path) in caught.value.what


def test_a_damaged_gzip_is_an_error() -> None:
    content = bytearray(gzip.compress(written(ROWS * 500, ".jsonl")))
    content[len(content) // 2 : len(content) // 2 + 40] = b"\xff" * 40
    put("test.jsonl.gz", bytes(content))
    with pytest.raises(UserError, match="cannot be read"):
        read()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("test.jsonl", b'{"text": "a"'),
        ("test.jsonl", b'["a", "b"]\n'),
        ("test.jsonl", b"\xff\xfe"),
        ("test.json", b'{"text": "a", "label": 1}'),
        ("test.json", b'["a"]'),
        ("test.json", b""),
        ("test.csv", b"text,label\na,b,c\n"),
        ("test.csv", b"text,label\na\n"),
        ("test.csv", b'text,label\n"a,b\n'),
        ("test.tsv", b"text\tlabel\na\n"),
        ("test.parquet", b""),
        ("test.parquet", b"PAR1 and no more"),
        ("test.jsonl.gz", b'{"text": "a", "label": 1}'),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_an_error(name: str, content: bytes) -> None:
    put(name, content)
    with pytest.raises(UserError, match="cannot be read after row"):
        read()


@pytest.mark.parametrize(
    ("name", "content"),
    [("test.jsonl", b""), ("test.json", b"[]"), ("test.csv", b""), ("test.csv", b"text,label\n"), ("test.tsv", b"\n")],
)
def test_a_file_without_rows_is_an_error(name: str, content: bytes) -> None:
    put(name, content)
    with pytest.raises(UserError, match="has no rows"):
        read()


def test_an_empty_part_of_several_is_none() -> None:
    put("test/0.jsonl", b"")
    put("test/1.jsonl", written(ROWS, ".jsonl"))
    assert read() == ROWS


def test_the_digest_follows_the_content() -> None:
    put("test.jsonl", written(ROWS, ".jsonl"))
    before = content_digest(SPLIT)
    put("test.jsonl", written(ROWS[:4], ".jsonl"))
    assert content_digest(SPLIT) != before


def test_the_mirror_is_in_the_cache_unless_the_environment_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert mirror_folder() == tmp_path / "mirror"
    monkeypatch.delenv("CAMELEER_MIRROR")
    monkeypatch.setenv("CAMELEER_CACHE", str(tmp_path))
    assert mirror_folder() == tmp_path / "mirror"


@dataclass
class Hub:
    """What the served hub has, how it misbehaves, and what it was asked for.

    `broken` files answer with an error; `cut` ones end after so many bytes, once; `damaged` ones arrive with other
    bytes than announced.
    """

    repo: str = "owner/name"
    files: dict[str, bytes] = field(default_factory=dict)
    revision: str = REVISION
    denied: str = ""
    converted: bool = True
    broken: set[str] = field(default_factory=set)
    cut: dict[str, int] = field(default_factory=dict)
    damaged: set[str] = field(default_factory=set)
    downloads: list[tuple[str, str]] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        hub = self.hub
        if hub.denied:
            codes = {"GatedRepo": 403, "RepoNotFound": 401, "": 404}
            self.answer(codes[hub.denied], b"{}", {"X-Error-Code": hub.denied, "X-Error-Message": hub.denied})
        elif path == f"/api/datasets/{hub.repo}/revision/{CONVERTED}" and hub.converted:
            self.json({"id": hub.repo, "sha": hub.revision})
        elif path == f"/api/datasets/{hub.repo}/tree/{hub.revision}" and "recursive=true" in self.path.lower():
            self.json([self.entry(name, content) for name, content in hub.files.items()])
        elif path.startswith(f"/datasets/{hub.repo}/resolve/{hub.revision}/"):
            self.send_file(path.removeprefix(f"/datasets/{hub.repo}/resolve/{hub.revision}/"))
        else:
            code = "RevisionNotFound" if path.startswith(f"/api/datasets/{hub.repo}/") else "RepoNotFound"
            self.answer(404, b"{}", {"X-Error-Code": code})

    def entry(self, name: str, content: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        lfs = {"oid": digest, "size": len(content), "pointerSize": 130}
        return {"type": "file", "path": name, "size": len(content), "oid": digest[:40], "lfs": lfs}

    def send_file(self, name: str) -> None:
        content = self.hub.files[name]
        headers = {"X-Repo-Commit": self.hub.revision, "ETag": f'"{hashlib.sha256(content).hexdigest()}"'}
        if self.command == "HEAD":
            return self.answer(200, content, headers)
        asked = self.headers.get("Range", "")
        self.hub.downloads.append((name, asked))
        if name in self.hub.broken:
            return self.answer(500, b"", {})
        if name in self.hub.damaged:
            content = bytes(len(content))
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        self.answer(206 if asked else 200, content[start:], headers, self.hub.cut.pop(name, None))

    def json(self, value: Any) -> None:
        self.answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def answer(self, status: int, body: bytes, headers: dict[str, str], cut: int | None = None) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[:cut])
        self.close_connection = cut is not None

    def log_message(self, format: str, *args: Any) -> None:
        return


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    state = Hub(files={"default/test/0000.parquet": parquet(ROWS[:3]), "default/test/0001.parquet": parquet(ROWS[3:])})
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Served", (Handler,), {"hub": state}))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    # The library reads these from the environment when it is first imported, which is long ago.
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    yield state
    server.shutdown()
    server.server_close()


def in_mirror() -> list[str]:
    return sorted(path.name for path in SPLIT.folder.iterdir()) if SPLIT.folder.is_dir() else []


def test_a_split_is_fetched_with_its_revision(hub: Hub) -> None:
    hub.files["default/train/0000.parquet"] = parquet(ROWS * 3)
    assert [path.name for path in fetch(SPLIT)] == ["0000.parquet", "0001.parquet"]
    assert read() == ROWS
    assert in_mirror() == ["test"]
    content = hub.files["default/test/0001.parquet"]
    source = read_source(SPLIT)
    assert source is not None
    assert (source["repo"], source["config"], source["split"]) == ("owner/name", "default", "test")
    assert source["revision"] == REVISION
    assert source["files"]["0001.parquet"] == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def test_what_is_in_the_mirror_is_not_fetched_again(hub: Hub) -> None:
    first = fetch(SPLIT)
    hub.denied = "GatedRepo"
    assert fetch(SPLIT) == first
    assert len(hub.downloads) == 2


def test_a_publishers_file_is_kept_and_has_no_source(hub: Hub) -> None:
    path = put("test.jsonl", written(ROWS, ".jsonl"))
    assert fetch(SPLIT) == [path]
    assert read_source(SPLIT) is None and hub.downloads == []


def test_after_a_failure_half_way_the_split_is_absent_and_the_rest_is_fetched_later(hub: Hub) -> None:
    hub.broken = {"default/test/0001.parquet"}
    with pytest.raises(UserError, match=r"owner/name \(default, test\) cannot be fetched from http://.*: .*500"):
        fetch(SPLIT)
    assert find_files(SPLIT) == []
    with pytest.raises(UserError, match="has no owner/name") as caught:
        read()
    assert "broken off" in str(caught.value)
    hub.broken, hub.downloads = set(), []
    fetch(SPLIT)
    assert [name for name, _ in hub.downloads] == ["default/test/0001.parquet"]
    assert read() == ROWS and in_mirror() == ["test"]


def test_a_file_of_an_older_revision_is_not_mixed_with_new_ones(hub: Hub) -> None:
    hub.broken = {"default/test/0001.parquet"}
    with pytest.raises(UserError):
        fetch(SPLIT)
    hub.broken, hub.revision = set(), "beef" + "0" * 36
    hub.files = {"default/test/0000.parquet": parquet(ROWS[4:])}
    fetch(SPLIT)
    assert read() == ROWS[4:]
    source = read_source(SPLIT)
    assert source is not None and source["revision"] == hub.revision and list(source["files"]) == ["0000.parquet"]


def test_a_connection_cut_within_a_file_is_made_again(hub: Hub) -> None:
    hub.cut = {"default/test/0000.parquet": 100}
    fetch(SPLIT)
    assert [name for name, _ in hub.downloads] == ["default/test/0000.parquet"] * 2 + ["default/test/0001.parquet"]
    assert read() == ROWS


def test_damaged_content_never_reaches_the_mirror(hub: Hub) -> None:
    hub.damaged = {"default/test/0000.parquet"}
    with pytest.raises(UserError, match=r"default/test/0000\.parquet arrived damaged"):
        fetch(SPLIT)
    assert find_files(SPLIT) == []
    hub.damaged = set()
    fetch(SPLIT)
    assert read() == ROWS


def test_a_gated_dataset_says_how_to_get_access(hub: Hub) -> None:
    hub.denied = "GatedRepo"
    with pytest.raises(UserError, match="is gated") as caught:
        fetch(SPLIT)
    assert f"{os.environ['HF_ENDPOINT']}/datasets/owner/name" in str(caught.value)
    assert "hf auth login" in str(caught.value)


def test_an_unknown_or_private_dataset_is_named(hub: Hub) -> None:
    hub.denied = "RepoNotFound"
    with pytest.raises(UserError, match="no dataset owner/name for you"):
        fetch(SPLIT)


def test_a_dataset_that_was_never_converted_says_where_to_put_the_publishers_files(hub: Hub) -> None:
    hub.converted = False
    with pytest.raises(UserError, match=r"keeps no Parquet files of owner/name") as caught:
        fetch(SPLIT)
    assert str(SPLIT.folder / "test.jsonl") in str(caught.value)


def test_a_missing_configuration_names_those_that_exist(hub: Hub) -> None:
    hub.files["other/test/0000.parquet"] = b""
    with pytest.raises(UserError, match=r"no configuration 'defualt'\. Did you mean 'default'\?\n.*: default, other\."):
        fetch(DatasetSplit("owner/name", "defualt", "test"))


def test_a_missing_split_names_those_that_exist(hub: Hub) -> None:
    hub.files["default/train/0000.parquet"] = b""
    with pytest.raises(UserError, match=r"no split 'validation'\.\nThey have: test, train\."):
        fetch(DatasetSplit("owner/name", "default", "validation"))


def test_a_partial_conversion_is_not_taken_for_the_whole(hub: Hub) -> None:
    hub.files = {"default/partial-test/0000.parquet": parquet(ROWS)}
    with pytest.raises(UserError, match="only a part of owner/name"):
        fetch(SPLIT)


def test_no_network_is_the_users_to_mend(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"cannot be fetched from http://127\.0\.0\.1:\d+: .*offline mode") as caught:
        fetch(SPLIT)
    assert "Check the network" in str(caught.value)


@pytest.mark.parametrize("harm", ["missing", "short"])
def test_a_fetched_split_that_lost_a_file_or_a_part_of_one_is_an_error(hub: Hub, harm: str) -> None:
    second = fetch(SPLIT)[1]
    if harm == "missing":
        second.unlink()
    else:
        second.write_bytes(second.read_bytes()[:-1])
    match = r"only a part of owner/name .*: .*0001\.parquet " + ("is missing" if harm == "missing" else "has .* bytes")
    for action in (read, lambda: fetch(SPLIT)):
        with pytest.raises(UserError, match=match):
            action()


def test_progress_of_large_splits_is_shown(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"text": os.urandom(MEBIBYTE // 2).hex(), "label": str(n)} for n in range(4)]
    hub.files = {f"default/test/000{n}.parquet": parquet([row]) for n, row in enumerate(rows)}
    fetch(SPLIT)
    assert "fetch" not in capsys.readouterr().err
    size = sum(map(len, hub.files.values()))
    monkeypatch.setattr(mirror, "SHOWN_BYTES", MEBIBYTE)
    fetch_again = DatasetSplit("owner/name", "again", "test")
    hub.files = {name.replace("default", "again"): content for name, content in hub.files.items()}
    fetch(fetch_again)
    mebibytes = -(-size // MEBIBYTE)
    assert f"fetch owner/name (again, test) {mebibytes}/{mebibytes}" in capsys.readouterr().err


def test_a_task_brings_all_its_splits(hub: Hub) -> None:
    hub.files["default/train/0000.parquet"] = parquet(ROWS)
    splits = (DatasetSplit("owner/name", "default", "train"), SPLIT)
    settings = ("toy", 1, TaskRole.DEV, Split.DEV, Decoding(8), "Rows.", lambda seed: (), lambda problem: "")
    task = Task(*settings, datasets=splits)
    places = [path.relative_to(SPLIT.folder).as_posix() for path in fetch_task(task)]
    assert places == ["train/0000.parquet", "test/0000.parquet", "test/0001.parquet"]
    assert fetch_task(Task(*settings)) == []
