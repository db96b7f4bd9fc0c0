"""Problems for later stages: verifiable, and apart from what is trained on."""

import json
from pathlib import Path

import pytest
from dev_suite_rows import suite_rows

from cameleer.core.errors import UserError
from cameleer.core.mixture import MIXTURE
from cameleer.core.problems import PROBLEMS
from cameleer.core.types import Conversation, Message
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
        assert verify(problem.gold, problem.verifier, problem.target).outcome is Outcome.CORRECT, problem.id
    manifest = json.loads((tmp_path / "run/curate/manifest.json").read_text())
    assert manifest["counts"]["problems"] == 70


def test_the_same_seed_gives_the_mixtures_prompts_first_so_the_overlap_is_real() -> None:
    """Guards the test above: without the set of seen prompts the first 30 problems would be those of the mixture."""
    task = find_task("word-arithmetic")
    assert [each.messages for each in task.problems(30, 0)] == [each.messages for each in task.problems(80, 0)][:30]


def test_a_task_with_too_few_new_prompts_says_how_many_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAMELEER_MIRROR", str(tmp_path))
    for split, rows in suite_rows().items():
        path = tmp_path / split.repo / split.config / f"{split.split}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    every = find_task("gsm8k-train").problems(None, 0)
    seen = SeenPrompts()
    source = ProblemSource.parse({"task": "gsm8k-train", "count": len(every)}, where="x")
    assert list(draw_problems([source], 0, SeenPrompts())) == every
    seen.add((*every[0].messages, Message("assistant", "seen in training")))
    with pytest.raises(UserError, match=f"only {len(every) - 1} of its {len(every)} prompts are not in the mixture"):
        list(draw_problems([source], 0, seen))


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        ({"task": "gsm9k", "count": 1}, "unknown task 'gsm9k'"),
        ({"task": "word-arithmetic-dev", "count": 1}, "nothing may be trained on it"),
        ({"task": "word-arithmetic", "count": 0}, "greater than 0"),
        ({"task": "word-arithmetic", "count": 1, "task_version": 99}, "remove task_version"),
    ],
)
def test_what_cannot_be_trained_on_is_refused_by_name(table: dict[str, object], fault: str) -> None:
    with pytest.raises(UserError, match=fault):
        ProblemSource.parse(table, where="[[curate.problems]]")
