"""What the docs say of the code is generated from it, or held against it; every shipped recipe is read and checked."""

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from cameleer import pipeline
from cameleer.core.recipe import load_recipe
from cameleer.core.stage import InputKind

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
RECIPES = sorted((ROOT / "recipes").rglob("*.toml"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
STAGE_PAGES = ("curate", "synth", "sft", "prefs", "dpo", "rm", "rlvr", "evaluation")

SETTINGS = 'name = "example"\nmodel = "tiny:llama"\n\n'
SOURCE = '[[curate.sources]]\ntask = "last-letter"\ncount = 1\n'
STAGES = {
    "curate": SOURCE,
    "synth": '[[synth.prompts]]\nkind = "math_hard"\ncount = 1\n[[synth.models]]\nmodel = "base"\n',
    "sft": "[sft]\n",
    "prefs": '[[prefs.prompts]]\nproblems = "curate"\n[[prefs.models]]\nmodel = "sft"\n',
    "dpo": "[dpo]\n",
    "rm": "[rm]\n",
}
"""What an example leaves out, since it is about another stage."""


def examples() -> Iterator[tuple[str, str]]:
    """Every TOML block of the docs, by its page and number there."""
    for page in PAGES:
        for number, block in enumerate(re.findall(r"^```toml\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)):
            yield f"{page.stem}-{number}", block


EXAMPLES = dict(examples())


def completed(example: str) -> str:
    """An example as a whole recipe: with the recipe's own settings, and with the stages that it may refer to."""
    if "[curate." in example and "[[curate.sources]]" not in example:
        example += SOURCE
    missing = [table for name, table in STAGES.items() if not re.search(rf"^\[+{name}[.\]]", example, re.MULTILINE)]
    return ("" if re.search("^name = .*\nmodel = ", example) else SETTINGS) + "\n".join([example, *missing])


def anchors(page: Path) -> set[str]:
    """The fragments that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> list[tuple[Path, str]]:
    """The files that a page links to, and the fragment in each; links to the web left out."""
    found = re.findall(r"\]\(([^)\s]*)\)", page.read_text())
    parts = [target.partition("#") for target in found if "://" not in target]
    return [((page.parent / path).resolve() if path else page, fragment) for path, _, fragment in parts]


def test_settings_page_is_current() -> None:
    spec = importlib.util.spec_from_file_location("settings_page", ROOT / "scripts" / "settings_page.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (DOCS / "settings.md").read_text() == module.page(), "run scripts/settings_page.py"


def test_there_are_recipes() -> None:
    assert len(RECIPES) >= 1


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipes_are_valid(path: Path) -> None:
    assert pipeline.read_recipe(path).stages


@pytest.mark.parametrize("page", STAGE_PAGES)
def test_a_stage_s_page_begins_with_an_example(page: str) -> None:
    before_the_first_section = (DOCS / f"{page}.md").read_text().partition("\n## ")[0]
    assert "```toml" in before_the_first_section


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= len(STAGE_PAGES) + 2


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_are_valid(name: str, tmp_path: Path) -> None:
    """Each is read like a recipe, references and all; the files that it names are there."""
    recipe = tmp_path / "example.toml"
    recipe.write_text(completed(EXAMPLES[name]))
    kinds = {name: kind.config for name, kind in pipeline.KINDS.items()}
    for stage in load_recipe(recipe, kinds).stages:
        for each in stage.config.inputs():
            if each.kind is InputKind.FILE:
                (tmp_path / each.reference).touch()
    assert pipeline.read_recipe(recipe).stages


def test_every_kind_of_stage_is_in_the_table() -> None:
    rows = re.findall(r"^\| `(\w+)` \| .*\]\((\w+)\.md\)", (DOCS / "recipe.md").read_text(), re.MULTILINE)
    assert sorted(kind for kind, _ in rows) == sorted(pipeline.KINDS)
    assert {page for _, page in rows} == set(STAGE_PAGES)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for target, fragment in links(page):
        assert target.exists(), target
        assert not fragment or fragment in anchors(target), f"{target}#{fragment}"


def test_every_page_is_reached_from_the_readme() -> None:
    reached, waiting = set[Path](), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page not in reached and page.suffix == ".md":
            reached.add(page)
            waiting += [target for target, _ in links(page)]
    assert set(PAGES) <= reached, sorted(set(PAGES) - reached)
