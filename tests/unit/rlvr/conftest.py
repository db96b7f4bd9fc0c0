"""What files of these tests share as fixtures; see `rlvr_support` for the rest."""

from pathlib import Path

import pytest
from rlvr_support import write_inputs


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Path]:
    return write_inputs(tmp_path)
