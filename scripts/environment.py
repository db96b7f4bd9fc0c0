"""Environments built from files of pinned requirements, with the standard library alone.

uv does the installing: it is taken from PATH, else brought into the project's environment by pip. It does not read
pip's configuration (index, extra indexes, find-links, certificate, timeout), so that is read here through
`pip config list` and handed on.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# pip's name of a setting, uv's flag for it. uv prefers the indexes named by --index over the default one; with
# `unsafe-best-match` it takes the best version of all, as pip does.
UV_FLAGS = [
    ("index-url", "--default-index"),
    ("extra-index-url", "--index"),
    ("find-links", "--find-links"),
    ("trusted-host", "--allow-insecure-host"),
]

# Packages that a CUDA build of torch brings along. A lock leaves them out: it serves machines with and without.
CUDA_ONLY = ("cuda-", "nvidia-", "triton==")


def run(*command: str | Path, environment: dict[str, str] | None = None) -> None:
    """Run a command and leave with its exit status if it fails."""
    status = subprocess.run([str(part) for part in command], env=environment).returncode
    if status:
        print(f"`{' '.join(str(part) for part in command)}` failed with exit status {status}", file=sys.stderr)
        sys.exit(status)


def require_python() -> None:
    """Leave with advice if this interpreter is too old for Cameleer."""
    if sys.version_info < (3, 11):  # noqa: UP036 - the project's bound binds pip, not whoever runs a script
        version = ".".join(str(part) for part in sys.version_info[:3])
        sys.exit(f"Cameleer needs Python 3.11 or newer; this is {version}. Try: make PYTHON=python3.11 …")


@dataclass(frozen=True)
class Environment:
    """A virtual environment in `folder`, stamped with the digest of what it was built from."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def _stamp(self) -> Path:
        return self.folder / "built-from.sha256"

    def create(self, with_pip: bool = False) -> None:
        """Create the environment if there is none."""
        if self.python.exists():
            return
        try:
            venv.create(self.folder, with_pip=with_pip, clear=True)
        except subprocess.CalledProcessError:
            sys.exit("Python's venv could not install pip; on Debian and Ubuntu: apt install python3-venv")

    def is_built_from(self, digest: str) -> bool:
        return self._stamp.exists() and self._stamp.read_text() == digest

    def mark_built_from(self, digest: str) -> None:
        self._stamp.write_text(digest)


PROJECT = Environment(ROOT / ".venv")


def digest_of(*files: Path) -> str:
    """The digest of the files, the interpreter and the project's place: what an environment is built from."""
    parts = [*(file.read_bytes() for file in files), sys.version.encode(), str(ROOT).encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def pip_settings() -> dict[str, list[str]]:
    """pip's effective settings as lists of words, the environment's overriding the files', as pip resolves them."""
    command = [str(PROJECT.python), "-m", "pip", "config", "list"]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    settings: dict[str, list[str]] = {}
    for line in listing.splitlines():
        key, _, value = line.partition("=")
        section, _, name = key.rpartition(".")
        words = value.strip().strip("'\"").replace("\\n", " ").split()
        if section == ":env:" or (section in ("global", "install") and name not in settings):
            settings[name] = words
    return settings


class Uv:
    """uv, called with the flags and variables that mean what pip's settings mean. Needs the project's environment."""

    def __init__(self) -> None:
        settings = pip_settings()
        self._path = shutil.which("uv") or str(PROJECT.folder / "bin" / "uv")
        if not Path(self._path).exists():
            run(PROJECT.python, "-m", "pip", "install", "--quiet", "uv")
        self._options = ["--index-strategy", "unsafe-best-match"]
        for name, flag in UV_FLAGS:
            for word in settings.get(name, []):
                self._options += [flag, word]
        self._environment = dict(os.environ)
        if settings.get("cert"):
            self._environment.setdefault("SSL_CERT_FILE", settings["cert"][0])
        timeout = settings.get("timeout") or settings.get("default-timeout")
        if timeout:
            self._environment.setdefault("UV_HTTP_TIMEOUT", timeout[0])

    def install(self, environment: Environment, *arguments: str | Path) -> None:
        """`uv pip install` into the environment, compiled now: else every first import of torch costs half a minute."""
        command = [
            self._path,
            "pip",
            "install",
            "--compile-bytecode",
            "--python",
            environment.python,
            *self._options,
            *arguments,
        ]
        run(*command, environment=self._environment)

    def lock(self, requirements: Path, lock: Path, *arguments: str) -> None:
        """Resolve `requirements` and write the pinned versions, without addresses; pins of an old `lock` are kept."""
        plain = ["--quiet", "--no-annotate", "--no-header", "--no-emit-index-url", "--no-emit-find-links"]
        command = [self._path, "pip", "compile", *plain, *self._options, *arguments, requirements, "-o", lock]
        run(*command, environment=self._environment)
        lines = [portable(line) for line in lock.read_text().splitlines() if not line.startswith(CUDA_ONLY)]
        lock.write_text("\n".join(lines) + "\n")


def portable(pin: str) -> str:
    """The pin without a build's local tag: torch 2.13.0+cpu exists on one index only, 2.13.0 on all."""
    return pin.split("+")[0]
