"""Content digests of files and folders, remembered per file so that gigabytes are hashed once.

The memory is keyed by what the system says of a file (device, inode, size, modification and change time in
nanoseconds). The change time moves with every write and cannot be set by a program, so a changed byte is seen even when
the modification time was put back.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

SMALL_BYTES = 1 << 20


def cache_folder() -> Path:
    """Where Cameleer keeps what can be made again: `$CAMELEER_CACHE`, else `~/.cache/cameleer`."""
    return Path(os.environ.get("CAMELEER_CACHE") or Path.home() / ".cache" / "cameleer")


def digest_json(value: Any) -> str:
    """SHA-256 of a JSON-serialisable value, independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def digest_path(path: Path, ignore: frozenset[str] = frozenset()) -> str:
    """SHA-256 of a file's bytes, or of a folder's files by relative name and content (`ignore`: names left out)."""
    if not path.is_dir():
        return _digest_file(path)
    files = sorted(found for found in path.rglob("*") if found.is_file())
    kept = [found for found in files if found.relative_to(path).parts[0] not in ignore]
    return digest_json({found.relative_to(path).as_posix(): _digest_file(found) for found in kept})


def _digest_file(path: Path) -> str:
    status = path.stat()
    if status.st_size <= SMALL_BYTES:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    identity = [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
    memory = cache_folder() / "digests" / digest_json(identity)
    try:
        return memory.read_text()
    except OSError:
        pass
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    after = path.stat()
    # A file that changed while it was read, or so recently that the clock may not tell two writes apart, is not remembered.
    if [after.st_mtime_ns, after.st_ctime_ns] == identity[3:]:
        _remember(memory, digest)
    return digest


def _remember(memory: Path, digest: str) -> None:
    """Best effort: a cache that cannot be written costs time, never correctness."""
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        draft = memory.with_name(f"{memory.name}.{os.getpid()}")
        draft.write_text(digest)
        draft.replace(memory)
    except OSError:
        return
