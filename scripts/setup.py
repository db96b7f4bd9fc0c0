"""Make the project's environment in .venv from requirements.lock, with the standard library alone.

`python3 scripts/setup.py` creates or updates the environment and does nothing, in well under a second, when it is
already as the lock says. `--lock` resolves pyproject.toml anew and writes requirements.lock.

The machine's own pip configuration (index, extra indexes, find-links, certificate) is honoured: uv does not read it, so
it is read here through `pip config` and handed on. uv is taken from PATH, else brought into the environment by pip.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".venv"
LOCK = ROOT / "requirements.lock"
STAMP = ENVIRONMENT / "cameleer-setup.sha256"
PYTHON = ENVIRONMENT / "bin" / "python"


def run(*command: str | Path, environment: dict[str, str] | None = None) -> None:
    """Run a command and leave with its exit status if it fails."""
    status = subprocess.run([str(part) for part in command], env=environment).returncode
    if status:
        print(f"setup: `{' '.join(str(part) for part in command)}` failed with exit status {status}", file=sys.stderr)
        sys.exit(status)


def pip_settings() -> dict[str, list[str]]:
    """pip's effective settings as lists of words, the environment's overriding the files', as pip itself resolves them."""
    listing = subprocess.run([PYTHON, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True).stdout
    settings: dict[str, list[str]] = {}
    for line in listing.splitlines():
        key, _, value = line.partition("=")
        section, _, name = key.rpartition(".")
        words = value.strip().strip("'\"").replace("\\n", " ").split()
        if section in ("global", "install") and name not in settings:
            settings[name] = words
        elif section == ":env:":
            settings[name] = words
    return settings


def uv_options(settings: dict[str, list[str]]) -> list[str]:
    """The uv flags that mean what pip's settings mean."""
    options = ["--index-strategy", "unsafe-best-match"]
    for name, flag in [("index-url", "--default-index"), ("extra-index-url", "--index"), ("find-links", "--find-links")]:
        for word in settings.get(name, []):
            options += [flag, word]
    return options


def uv_command() -> tuple[list[str], dict[str, str]]:
    """uv's path and the environment to call it with; installs uv into the environment if the machine has none."""
    path = shutil.which("uv")
    local = ENVIRONMENT / "bin" / "uv"
    if path is None and not local.exists():
        run(PYTHON, "-m", "pip", "install", "--quiet", "uv")
    settings = pip_settings()
    environment = dict(os.environ)
    if settings.get("cert"):
        environment.setdefault("SSL_CERT_FILE", settings["cert"][0])
    return [str(path or local)], environment


def wanted_digest() -> str:
    """What the environment must have been built from: lock, project file, interpreter."""
    parts = [LOCK.read_bytes(), (ROOT / "pyproject.toml").read_bytes(), sys.version.encode(), str(ROOT).encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def install() -> None:
    """Bring the environment to what the lock says."""
    print("setup: installing the pinned packages into .venv (about two minutes the first time)", flush=True)
    uv, environment = uv_command()
    options = uv_options(pip_settings())
    run(*uv, "pip", "install", "--python", PYTHON, *options, "--requirement", LOCK, environment=environment)
    run(*uv, "pip", "install", "--quiet", "--python", PYTHON, *options, "--no-deps", "--editable", ROOT, environment=environment)
    STAMP.write_text(wanted_digest())


def lock() -> None:
    """Resolve pyproject.toml with all of what development needs and write the pinned versions, without addresses."""
    uv, environment = uv_command()
    options = uv_options(pip_settings())
    with_dev = ["--extra", "dev", "--no-annotate", "--no-header", "--no-emit-index-url", "--no-emit-find-links"]
    run(*uv, "pip", "compile", "--quiet", *options, *with_dev, ROOT / "pyproject.toml", "--output-file", LOCK, environment=environment)
    # A build's local tag (torch 2.13.0+cpu) exists on one index only; the public version exists on all.
    lines = [line.split("+")[0] if "==" in line else line for line in LOCK.read_text().splitlines()]
    LOCK.write_text("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lock", action="store_true", help="resolve anew and write requirements.lock")
    arguments = parser.parse_args()
    if sys.version_info < (3, 11):
        sys.exit(f"setup: Cameleer needs Python 3.11 or newer; this is {sys.version.split()[0]}. Try: make PYTHON=python3.11 …")
    if not PYTHON.exists():
        venv.create(ENVIRONMENT, with_pip=True)
    if arguments.lock:
        lock()
    if not STAMP.exists() or STAMP.read_text() != wanted_digest():
        install()


if __name__ == "__main__":
    main()
