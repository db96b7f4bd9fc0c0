"""Artifacts: the folders through which stages meet.

An artifact is its data files, `metrics.jsonl` and `manifest.json`. It is made in a draft folder beside its place and
renamed into it, so it is whole or absent. The draft of an interrupted stage stays, with the key of what it was made
from; the stage resumes in it as long as the key is the same.

    key     = digest(kind, resolved config, digest of every input)
    current = manifest present, same key, and the content digest still what the manifest says
"""

import fcntl
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cameleer.core.digest import digest_json, digest_path
from cameleer.core.errors import UserError

MANIFEST = "manifest.json"
METRICS = "metrics.jsonl"
KEY = "key.json"
CHECKPOINTS = "checkpoints"
RECORDED_PACKAGES = ("torch", "transformers", "safetensors", "peft", "pyarrow", "polars", "numpy", "pydantic")
# Files of an artifact that tell how it was made rather than what it is; they hold times, so equal runs differ in them.
NOT_CONTENT = frozenset({MANIFEST, METRICS, KEY, CHECKPOINTS})


@dataclass(frozen=True)
class Manifest:
    """What an artifact is and where it came from. `inputs` maps a role to `{"name", "digest"}`."""

    kind: str
    name: str
    key: str
    config: dict[str, Any]
    inputs: dict[str, dict[str, str]]
    content_digest: str
    seed: int
    template_fingerprint: str | None = None
    counts: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    code: dict[str, str] = field(default_factory=dict)
    packages: dict[str, str] = field(default_factory=dict)
    wall_seconds: float = 0.0
    created: str = ""


@dataclass(frozen=True)
class Outcome:
    """What a stage tells of its work, for the manifest: `counts` of rows or tokens, a `summary` of results."""

    counts: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    template_fingerprint: str | None = None


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of an artifact folder, or None where there is none. Raises UserError for an unreadable one."""
    path = folder / MANIFEST
    if not path.exists():
        return None
    try:
        return Manifest(**json.loads(path.read_text()))
    except (ValueError, TypeError) as failure:
        raise UserError(
            f"{path}: not a manifest of this version: {failure}", f"Delete {folder} to make it anew."
        ) from None


def artifact_key(kind: str, config: Mapping[str, Any], inputs: Mapping[str, Mapping[str, str]]) -> str:
    """What an artifact's identity depends on; names and paths of inputs do not count, their content does."""
    return digest_json(
        {"kind": kind, "config": config, "inputs": {role: each["digest"] for role, each in inputs.items()}}
    )


def staleness(folder: Path, key: str) -> str | None:
    """Why the artifact must be made: None when it is current, else the reason in a few words."""
    manifest = read_manifest(folder)
    if manifest is None:
        return "not made yet"
    if manifest.key != key:
        return "its config or an input changed"
    if manifest.content_digest != content_digest(folder):
        return "its files were changed after it was made"
    return None


def content_digest(folder: Path) -> str:
    """The digest of an artifact's data files."""
    return digest_path(folder, NOT_CONTENT)


def draft_folder(target: Path) -> Path:
    """Where the artifact for `target` is in the making."""
    return target.parent / f".{target.name}.draft"


def open_draft(target: Path, key: str) -> Path:
    """The draft folder for `target`: the interrupted one of the same key, else an empty one."""
    draft = draft_folder(target)
    if not draft_has_key(target, key):
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        write_json(draft / KEY, {"key": key})
    return draft


def draft_has_key(target: Path, key: str) -> bool:
    """Whether an interrupted draft for `target` was made from the same config and inputs."""
    try:
        return json.loads((draft_folder(target) / KEY).read_text())["key"] == key
    except (OSError, ValueError, KeyError, TypeError):
        return False


def commit_draft(target: Path, manifest: Manifest) -> None:
    """Complete the draft with its manifest and put it in its place; an older artifact there is replaced whole."""
    draft = draft_folder(target)
    for file in draft.rglob("*"):
        if file.is_file():
            _flush_to_disk(file)
    write_json(draft / MANIFEST, asdict(manifest))
    old = target.parent / f".{target.name}.old"
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    draft.rename(target)
    _flush_to_disk(target.parent)
    # Only now: had a kill come before, the draft's checkpoints would have led back here.
    shutil.rmtree(old, ignore_errors=True)
    shutil.rmtree(target / CHECKPOINTS, ignore_errors=True)


def complete_manifest(
    *, kind: str, name: str, key: str, config: dict[str, Any], inputs: dict[str, dict[str, str]], seed: int
) -> Manifest:
    """A manifest with what the machine knows of itself filled in."""
    return Manifest(
        kind=kind,
        name=name,
        key=key,
        config=config,
        inputs=inputs,
        content_digest="",
        seed=seed,
        code=code_version(),
        packages=package_versions(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that results can depend on."""
    versions = {"python": platform.python_version()}
    for package in RECORDED_PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def code_version() -> dict[str, str]:
    """Cameleer's version and, in a git checkout, its commit and whether the sources were changed since."""
    version = {"cameleer": importlib.metadata.version("cameleer")}
    source = Path(__file__).resolve().parent.parent
    commands = {"commit": ["rev-parse", "HEAD"], "changed": ["status", "--porcelain", "--", str(source)]}
    for key, command in commands.items():
        result = subprocess.run(["git", "-C", str(source), *command], capture_output=True, text=True)
        if result.returncode != 0:
            return version
        version[key] = result.stdout.strip() if key == "commit" else str(bool(result.stdout.strip())).lower()
    return version


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole or not at all, and onto the disk. NaN is refused: it is not JSON."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    _flush_to_disk(draft)
    draft.replace(path)


def json_line(value: Any) -> str:
    """A line of JSON with its end. NaN is refused: it is not JSON."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n"


def write_jsonl(path: Path, rows: Iterable[Any]) -> None:
    """Write a file of one JSON value a line."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(map(json_line, rows))


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked(folder: Path) -> Generator[None]:
    """Hold a run folder: a second process that wants it is refused instead of writing into the same drafts."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f"{folder}: another cameleer process is running in this folder.") from None
        yield
