"""Make the environments of the systems that Cameleer is measured against, in .peers/NAME.

One file benchmarks/peers/NAME.txt of pinned requirements makes one peer; its packages are never Cameleer's.

    python3 scripts/peers.py                 # bring every peer's environment to what its file pins
    python3 scripts/peers.py trl             # only this one
    python3 scripts/peers.py --lock trl trl==1.16.0 torch==2.13.0    # resolve these and write the file
    python3 scripts/peers.py --lock NAME … --without torchvision     # the same, but for what breaks on this machine

What a file is without stands in its line `# Without: …`, and is not installed though another package asks for it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from environment import PROJECT, ROOT, Environment, Uv, digest_of, require_python

REQUIREMENTS = ROOT / "benchmarks" / "peers"
ENVIRONMENTS = ROOT / ".peers"
WITHOUT = "# Without: "


def requirements_of(name: str) -> Path:
    return REQUIREMENTS / f"{name}.txt"


def known_peers() -> list[str]:
    return sorted(path.stem for path in REQUIREMENTS.glob("*.txt"))


def excluded_from(name: str) -> list[str]:
    """The packages that a peer is to be without."""
    lines = requirements_of(name).read_text().splitlines()
    return [word for line in lines if line.startswith(WITHOUT) for word in line.removeprefix(WITHOUT).split()]


def build(name: str) -> None:
    """Bring one peer's environment to what its file pins."""
    environment = Environment(ENVIRONMENTS / name)
    digest = digest_of(requirements_of(name))
    if environment.is_built_from(digest):
        return
    print(f"peers: installing {name} into {environment.folder.relative_to(ROOT)}", flush=True)
    environment.create()
    with written(excluded_from(name)) as excluded:
        Uv().install(environment, "--exact", "--requirement", requirements_of(name), "--excludes", excluded)
    environment.mark_built_from(digest)


def lock(name: str, requirements: list[str], without: list[str]) -> None:
    """Resolve the requirements and write them, pinned with all that they need, as the peer's file."""
    target = requirements_of(name)
    with written(requirements) as wanted, written(without) as excluded:
        Uv().lock(wanted, target, "--upgrade", "--excludes", str(excluded))
    words = [name, *requirements, *(["--without", *without] if without else [])]
    header = [f"# Written by: python3 scripts/peers.py --lock {' '.join(words)}"]
    if without:
        header.append(WITHOUT + " ".join(without))
    target.write_text("\n".join(header) + "\n" + target.read_text())


@contextmanager
def written(lines: list[str]) -> Iterator[Path]:
    """A temporary file of these lines."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "lines.txt"
        file.write_text("".join(f"{line}\n" for line in lines))
        yield file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lock", metavar="NAME", help="resolve the requirements that follow and write its file")
    parser.add_argument("words", nargs="*", help="peers to build (default: all); with --lock: requirements")
    parser.add_argument("--without", nargs="+", default=[], metavar="PACKAGE", help="with --lock: leave these out")
    arguments = parser.parse_args()
    require_python()
    PROJECT.create(with_pip=True)
    if arguments.lock:
        lock(arguments.lock, arguments.words, arguments.without)
    names = [arguments.lock] if arguments.lock else arguments.words or known_peers()
    unknown = sorted(set(names) - set(known_peers()))
    if unknown:
        sys.exit(f"peers: no file for {', '.join(unknown)} in benchmarks/peers; known: {', '.join(known_peers())}")
    for name in names:
        build(name)


if __name__ == "__main__":
    main()
