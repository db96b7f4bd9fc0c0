"""Problems for later stages: verifiable, and apart from what is trained on."""

import json
from pathlib import Path

import pytest

from cameleer.core.errors import UserError
from cameleer.core.mixture import MIXTURE
from cameleer.core.problems import PROBLEMS
from cameleer.core.types import Conversation
from cameleer.curate.config import ProblemSource
from cameleer.curate.problems import SeenPrompts, draw_problems
from cameleer.pipeline import read_recipe, run_recipe
from cameleer.tasks import find_task
from cameleer.verify import Outcome, verify

RECIPE = """
name = "x"
model = "unused"

[curate]

[[curate.sources]]
task = "word-arithmetic"
count = 30

[[curate.problems]]
task = "word-arithmetic"
count = 50

[[curate.problems]]
task = "precise-if"
count = 20
"""


def prompts_of(folder: Path) -> tuple[set[Conversation], list[Conversation]]:
    mixture = {example.messages[:-1] for example in MIXTURE.read(folder)}
    return mixture, [problem.messages for problem in PROBLEMS.read(folder)]


def test_a_recipe_makes_problems_that_are_verifiable_distinct_and_not_in_the_mixture(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE)
    run_recipe(read_recipe(recipe), tmp_path / "run")
    mixture, prompts = prompts_of(tmp_path / "run/curate")
    assert len(mixture) == 30 and len(prompts) == len(set(prompts)) == 70
    assert not mixture & set(prompts)
    for problem in PROBLEMS.read(tmp_path / "run/curate"):
        assert verify(problem.verifier, problem.gold, problem.target).outcome is Outcome.CORRECT, problem.id
    manifest = json.loads((tmp_path / "run/curate/manifest.json").read_text())
    assert manifest["counts"]["problems"] == 70


def test_the_same_seed_gives_the_mixtures_prompts_first_so_the_overlap_is_real() -> None:
    """Guards the test above: without the set of seen prompts the first 30 problems would be those of the mixture."""
    task = find_task("word-arithmetic")
    assert [each.messages for each in task.problems(30, 0)] == [each.messages for each in task.problems(80, 0)][:30]


def test_a_task_with_too_few_new_prompts_says_how_many_there_are() -> None:
    task = find_task("precise-if")
    seen = SeenPrompts()
    source = ProblemSource.parse({"task": "precise-if", "count": 10_000_000}, where="x")
    with pytest.raises(UserError, match="precise-if"):
        list(draw_problems([source], 0, seen))
    assert task.problems(1, 0)


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        ({"task": "gsm9k", "count": 1}, "Unknown task 'gsm9k'"),
        ({"task": "word-arithmetic-dev", "count": 1}, "nothing may be trained on it"),
        ({"task": "word-arithmetic", "count": 0}, "greater than 0"),
        ({"task": "word-arithmetic", "count": 1, "task_version": 99}, "remove task_version"),
    ],
)
def test_what_cannot_be_trained_on_is_refused_by_name(table: dict[str, object], fault: str) -> None:
    with pytest.raises(UserError, match=fault):
        ProblemSource.parse(table, where="[[curate.problems]]")
