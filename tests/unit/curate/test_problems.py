"""Problems for later stages: verifiable, and apart from what is trained on."""

import json
from collections import Counter
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
    assert list(draw_problems([source], 0, SeenPrompts(), {}, Counter())) == every
    seen.add((*every[0].messages, Message("assistant", "seen in training")))
    with pytest.raises(UserError, match=f"only {len(every) - 1} of its {len(every)} prompts are not in the mixture"):
        list(draw_problems([source], 0, seen, {}, Counter()))


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        ({"task": "gsm9k", "count": 1}, "unknown task 'gsm9k'"),
        ({"task": "word-arithmetic-dev", "count": 1}, "nothing may be trained on it"),
        ({"task": "word-arithmetic", "count": 0}, "greater than 0"),
        ({"task": "word-arithmetic", "count": 1, "task_version": 99}, "remove task_version"),
        ({"task": "word-arithmetic"}, "problems without end; set count"),
        ({"task": "word-arithmetic", "count": 1, "file": "a"}, "exactly one of task, problems, dataset and file"),
        ({"count": 1}, "none is set"),
    ],
)
def test_what_cannot_be_trained_on_is_refused_by_name(table: dict[str, object], fault: str) -> None:
    with pytest.raises(UserError, match=fault):
        ProblemSource.parse(table, where="[[curate.problems]]")


FUNCTION = json.dumps({"func_name": "validate_no_commas", "N": None})
RECORDED = [
    {"messages": [{"role": "user", "content": "2 + 2?"}], "dataset": "gsm8k", "ground_truth": "4"},
    {"messages": [{"role": "user", "content": "Half of 1?"}], "dataset": "MATH", "ground_truth": "\\frac{1}{2}"},
    {
        "messages": [{"role": "user", "content": "Name three animals. No commas."}],
        "dataset": "ifeval",
        "ground_truth": FUNCTION,
        "constraint_type": "No Commas",
    },
]
CHATS = [
    {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "yes"}], "part": part}
    for text, part in [("a", "one"), ("b", "two"), ("2 + 2?", "one")]
]


def curate_recorded(folder: Path, rows: list[dict[str, object]], source: str = "", problems: str = "") -> Path:
    """Run a recipe whose problems are these rows, its mixture CHATS; the stage's folder."""
    (folder / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in CHATS))
    recipe = folder / "recipe.toml"
    recipe.write_text(
        'name = "x"\nmodel = "unused"\n[curate]\n[[curate.sources]]\nfile = "chats.jsonl"\n'
        f'{source}\n[[curate.problems]]\nfile = "problems.jsonl"\n{problems}\n'
    )
    run_recipe(read_recipe(recipe), folder / "run")
    return folder / "run/curate"


def test_rows_in_tulus_format_are_problems_with_the_verifiers_that_they_name(tmp_path: Path) -> None:
    """Each gets the right answer accepted and a wrong one rejected; the prompt that the mixture has is left out."""
    made = curate_recorded(tmp_path, RECORDED, source='where = { part = "two" }')
    arithmetic, maths, instruction = PROBLEMS.read(made)
    assert [each.task for each in (arithmetic, maths, instruction)] == ["gsm8k", "math", "ifeval"]
    assert instruction.family == "No Commas" and instruction.messages == (
        Message("user", "Name three animals. No commas."),
    )
    answers = [(arithmetic, "so it is 4", "5"), (maths, "$0.5$", "$2$"), (instruction, "cats dogs ants", "cats, dogs")]
    for problem, right, wrong in answers:
        assert verify(right, problem.verifier, problem.target).outcome is Outcome.CORRECT
        assert verify(wrong, problem.verifier, problem.target).outcome is Outcome.WRONG
        assert not problem.gold or verify(problem.gold, problem.verifier, problem.target).outcome is Outcome.CORRECT

    (tmp_path / "all").mkdir()
    made = curate_recorded(tmp_path / "all", RECORDED)
    assert [problem.task for problem in PROBLEMS.read(made)] == ["math", "ifeval"]
    counts = json.loads((made / "manifest.json").read_text())["counts"]
    assert (counts["problems"], counts["problems_left_out"]) == (2, 1)


def test_only_the_rows_of_a_part_are_of_the_source(tmp_path: Path) -> None:
    made = curate_recorded(tmp_path, RECORDED, source='where = { part = "two" }')
    assert [example.messages[0].content for example in MIXTURE.read(made)] == ["b"]
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="where part = 'three': it holds no rows"):
        curate_recorded(tmp_path / "none", RECORDED, source='where = { part = "three" }')


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"dataset": "gsm8"}, "row 2: unknown dataset 'gsm8'. Did you mean 'gsm8k'"),
        ({"ground_truth": "none"}, "row 2: "),
        ({"ground_truth": 4}, "row 2: ground_truth is not a text"),
        ({"messages": "2 + 2?"}, "row 2: 'messages' is not a list of turns"),
        ({"messages": [*CHATS[0]["messages"]]}, "row 2: roles do not alternate"),
    ],
)
def test_a_row_that_is_no_problem_is_named(tmp_path: Path, change: dict[str, object], fault: str) -> None:
    with pytest.raises(UserError, match=fault):
        curate_recorded(tmp_path, [RECORDED[0], {**RECORDED[0], **change}], source='where = { part = "two" }')


def test_asking_for_more_recorded_problems_than_are_new_says_how_many_there_are(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="only 2 of its 3 prompts are neither in the mixture nor came before, but 3"):
        curate_recorded(tmp_path, RECORDED, problems="count = 3")
