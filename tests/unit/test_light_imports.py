"""What must start at once loads no heavy library: `cameleer --help`, and everything that only handles plain data."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "peft", "datasets")


@pytest.mark.parametrize(
    "module",
    ["cameleer.cli", "cameleer.pipeline", "cameleer.core", "cameleer.core.hub", "cameleer.verify", "cameleer.tasks"],
)
def test_import_loads_no_heavy_library(module: str) -> None:
    """A process of its own, since this one may have imported torch long ago."""
    program = f"import sys, {module}; print(*sorted(set(sys.modules) & set({HEAVY!r})))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
