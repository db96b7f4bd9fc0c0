"""Make the environments of the systems that Cameleer is measured against, in .peers/NAME.

One file benchmarks/peers/NAME.txt of pinned requirements makes one peer; its packages are never Cameleer's.

    python3 scripts/peers.py                 # bring every peer's environment to what its file pins
    python3 scripts/peers.py trl             # only this one
    python3 scripts/peers.py --lock trl trl==1.16.0 torch==2.13.0    # resolve these and write the file
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from environment import PROJECT, ROOT, Environment, Uv, digest_of, require_python

REQUIREMENTS = ROOT / "benchmarks" / "peers"
ENVIRONMENTS = ROOT / ".peers"


def requirements_of(name: str) -> Path:
    return REQUIREMENTS / f"{name}.txt"


def known_peers() -> list[str]:
    return sorted(path.stem for path in REQUIREMENTS.glob("*.txt"))


def build(name: str) -> None:
    """Bring one peer's environment to what its file pins."""
    environment = Environment(ENVIRONMENTS / name)
    digest = digest_of(requirements_of(name))
    if environment.is_built_from(digest):
        return
    print(f"peers: installing {name} into {environment.folder.relative_to(ROOT)}", flush=True)
    environment.create()
    Uv().install(environment, "--exact", "--requirement", requirements_of(name))
    environment.mark_built_from(digest)


def lock(name: str, requirements: list[str]) -> None:
    """Resolve the requirements and write them, pinned with all that they need, as the peer's file."""
    target = requirements_of(name)
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder) / "wanted.txt"
        wanted.write_text("\n".join(requirements) + "\n")
        Uv().lock(wanted, target, "--upgrade")
    header = f"# Written by: python3 scripts/peers.py --lock {name} {' '.join(requirements)}\n"
    target.write_text(header + target.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lock", metavar="NAME", help="resolve the requirements that follow and write its file")
    parser.add_argument("words", nargs="*", help="peers to build (default: all); with --lock: requirements")
    arguments = parser.parse_args()
    require_python()
    PROJECT.create(with_pip=True)
    if arguments.lock:
        lock(arguments.lock, arguments.words)
    names = [arguments.lock] if arguments.lock else arguments.words or known_peers()
    unknown = sorted(set(names) - set(known_peers()))
    if unknown:
        sys.exit(f"peers: no file for {', '.join(unknown)} in benchmarks/peers; known: {', '.join(known_peers())}")
    for name in names:
        build(name)


if __name__ == "__main__":
    main()
