"""Make the project's environment in .venv from requirements.lock, with the standard library alone.

`python3 scripts/setup.py` creates or updates the environment and does nothing, in well under a second, when it is
already as the lock says. `--lock` first resolves pyproject.toml anew and writes requirements.lock.
"""

from __future__ import annotations

import argparse

from environment import PROJECT, ROOT, Uv, digest_of, require_python

LOCK = ROOT / "requirements.lock"
PROJECT_FILE = ROOT / "pyproject.toml"


def install() -> None:
    """Bring the environment to what the lock says."""
    print("setup: installing the pinned packages into .venv (about two minutes the first time)", flush=True)
    uv = Uv()
    uv.install(PROJECT, "--requirement", LOCK)
    uv.install(PROJECT, "--quiet", "--no-deps", "--editable", ROOT)
    PROJECT.mark_built_from(digest_of(LOCK, PROJECT_FILE))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lock", action="store_true", help="resolve anew and write requirements.lock")
    arguments = parser.parse_args()
    require_python()
    PROJECT.create(with_pip=True)
    if arguments.lock:
        Uv().lock(PROJECT_FILE, LOCK, "--extra", "dev")
    if not PROJECT.is_built_from(digest_of(LOCK, PROJECT_FILE)):
        install()


if __name__ == "__main__":
    main()
