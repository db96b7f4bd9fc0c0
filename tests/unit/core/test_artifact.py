"""Artifacts: whole or absent, current exactly as long as nothing they come from changed."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from cameleer.core import artifact, digest
from cameleer.core.errors import UserError

INPUTS = {"data": {"name": "x", "digest": "d"}}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMELEER_CACHE", str(tmp_path / "cache"))


def make(target: Path, key: str, content: str = "hello") -> None:
    draft = artifact.open_draft(target, key)
    (draft / "data.txt").write_text(content)
    manifest = artifact.complete_manifest(kind="k", name=target.name, key=key, config={}, inputs=INPUTS, seed=1)
    artifact.commit_draft(target, replace(manifest, content_digest=artifact.content_digest(draft)))


def test_staleness(tmp_path: Path) -> None:
    target = tmp_path / "made"
    assert artifact.staleness(target, "key") == "not made yet"
    make(target, "key")
    assert artifact.staleness(target, "key") is None
    assert artifact.staleness(target, "other") == "its config or an input changed"
    (target / "data.txt").write_text("hellO")
    assert artifact.staleness(target, "key") == "its files were changed after it was made"


def test_key_depends_on_content_not_on_names() -> None:
    key = artifact.artifact_key("sft", {"a": 1}, {"data": {"name": "x", "digest": "1"}})
    assert key == artifact.artifact_key("sft", {"a": 1}, {"data": {"name": "y", "digest": "1"}})
    assert key != artifact.artifact_key("sft", {"a": 1}, {"data": {"name": "x", "digest": "2"}})
    assert key != artifact.artifact_key("sft", {"a": 2}, {"data": {"name": "x", "digest": "1"}})
    assert key != artifact.artifact_key("dpo", {"a": 1}, {"data": {"name": "x", "digest": "1"}})


def test_manifest_says_where_it_came_from(tmp_path: Path) -> None:
    make(tmp_path / "made", "key")
    manifest = artifact.read_manifest(tmp_path / "made")
    assert (
        manifest is not None and manifest.inputs == INPUTS and manifest.packages["torch"] and manifest.code["cameleer"]
    )


def test_a_draft_is_kept_for_the_same_key_only(tmp_path: Path) -> None:
    target = tmp_path / "made"
    (artifact.open_draft(target, "one") / "half.txt").write_text("half")
    assert (artifact.open_draft(target, "one") / "half.txt").exists()
    assert not (artifact.open_draft(target, "two") / "half.txt").exists()


def test_replacing_keeps_the_old_one_until_the_new_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "made"
    make(target, "one", "first")
    artifact.open_draft(target, "two")
    assert (target / "data.txt").read_text() == "first"
    make(target, "two", "second")
    assert (target / "data.txt").read_text() == "second"
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "cache") == ["made"]


KILLED_WRITER = """
import sys
from dataclasses import replace
from pathlib import Path
from cameleer.core import artifact
target, number = Path(sys.argv[1]), 0
while True:
    number += 1
    draft = artifact.open_draft(target, str(number))
    for part in range(20):
        (draft / f"part-{part}.txt").write_text(str(number))
    manifest = artifact.complete_manifest(kind="k", name="made", key=str(number), config={}, inputs={}, seed=1)
    artifact.commit_draft(target, replace(manifest, content_digest=artifact.content_digest(draft)))
    print(number, flush=True)
"""


def test_killed_at_random_moments_an_artifact_is_whole_or_absent(tmp_path: Path) -> None:
    """kill -9 a process that replaces an artifact over and over; what stands there is always of one piece."""
    target = tmp_path / "made"
    whole = 0
    for attempt in range(8):
        with subprocess.Popen([sys.executable, "-c", KILLED_WRITER, str(target)], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None and writer.stdout.readline()
            time.sleep(0.011 * attempt)
            os.kill(writer.pid, signal.SIGKILL)
        if target.exists():
            manifest = artifact.read_manifest(target)
            assert manifest is not None and manifest.content_digest == artifact.content_digest(target)
            assert {(target / f"part-{part}.txt").read_text() for part in range(20)} == {manifest.key}
            whole += 1
    assert whole >= 4


def test_an_unreadable_manifest_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(UserError, match="not a manifest"):
        artifact.read_manifest(tmp_path)


def test_json_is_strict(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        artifact.write_json(tmp_path / "x.json", {"loss": float("nan")})
    assert list(tmp_path.glob("x.json")) == []


def test_a_run_folder_is_held_by_one_process(tmp_path: Path) -> None:
    with artifact.locked(tmp_path), pytest.raises(UserError, match="another cameleer"), artifact.locked(tmp_path):
        pass


def test_digest_sees_one_changed_byte_of_a_large_file_with_its_old_times(tmp_path: Path) -> None:
    """Size and modification time put back as they were: the change time still gives it away."""
    path = tmp_path / "large.bin"
    path.write_bytes(bytes(3 << 20))
    time.sleep(0.2)
    before, times = digest.digest_path(path), path.stat()
    assert digest.digest_path(path) == before
    with path.open("r+b") as stream:
        stream.seek(12345)
        stream.write(b"\x01")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert digest.digest_path(path) != before


def test_large_files_are_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "large.bin"
    path.write_bytes(bytes(3 << 20))
    time.sleep(0.2)
    first = digest.digest_path(path)
    monkeypatch.setattr(digest, "read_digest", lambda path: pytest.fail("read again"))
    assert digest.digest_path(path) == first


def test_folder_digest_depends_on_names_and_content(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a").write_text("1")
    (tmp_path / "manifest.json").write_text(json.dumps({}))
    first = artifact.content_digest(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({"time": 1}))
    assert artifact.content_digest(tmp_path) == first
    (tmp_path / "sub" / "a").rename(tmp_path / "sub" / "b")
    assert artifact.content_digest(tmp_path) != first
