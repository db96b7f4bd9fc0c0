"""What the docs say of the code is generated from it, and is current; every shipped recipe is read and checked."""

import importlib.util
from pathlib import Path

import pytest

from cameleer import pipeline

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted((ROOT / "recipes").rglob("*.toml"))


def test_settings_page_is_current() -> None:
    spec = importlib.util.spec_from_file_location("settings_page", ROOT / "scripts" / "settings_page.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (ROOT / "docs" / "settings.md").read_text() == module.page(), "run scripts/settings_page.py"


def test_there_are_recipes() -> None:
    assert len(RECIPES) >= 1


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipes_are_valid(path: Path) -> None:
    assert pipeline.read_recipe(path).stages
