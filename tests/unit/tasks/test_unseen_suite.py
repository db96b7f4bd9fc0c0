"""Tülu 3's unseen suite: settings, prompts and proofs, on made-up rows in the hub's columns."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from cameleer.core.errors import UserError
from cameleer.core.types import Problem
from cameleer.tasks import agieval, bigcodebench, deepmind_math, gpqa, href, ifeval_ood, mmlu_pro
from cameleer.tasks.mirror import DatasetSplit
from cameleer.tasks.task import Average, Judge, Prompting, Split, Task, TaskRole
from cameleer.verify import Outcome, verify
from cameleer.verify.choice import verify_choice

MODULES = (mmlu_pro, gpqa, agieval, deepmind_math, bigcodebench, ifeval_ood, href)
(MMLU_PRO, GPQA, AGIEVAL, DEEPMIND_MATH, BIGCODEBENCH, IFEVAL_OOD, HREF) = (module.TASKS[0] for module in MODULES)
SUITE = (MMLU_PRO, GPQA, AGIEVAL, DEEPMIND_MATH, BIGCODEBENCH, IFEVAL_OOD, HREF)

MMLU_PRO_ROWS = [
    {"question_id": 7, "question": "What is 2 + 3?", "options": ["4", "5", "6"], "answer": "B", "category": "math"},
    {"question_id": 9, "question": "Name it.", "options": ["Anoxia"], "answer": "A", "category": "health"},
    {"question_id": 8, "question": "Ten?", "options": list("abcdefghij"), "answer": "J", "category": "math"},
]
GPQA_ROWS = [
    {
        "Record ID": f"rec{number}",
        "Question": f"  Which one is number {number}?\n",
        "Correct Answer": " bicyclo[2.2.1]heptane\n",
        "Incorrect Answer 1": "first wrong",
        "Incorrect Answer 2": "second wrong",
        "Incorrect Answer 3": "third wrong",
        "High-level domain": "Chemistry" if number % 2 else "Physics",
    }
    for number in range(20)
]
AGIEVAL_ROWS = [
    {"passage": "A long text.", "question": "What is long?", "options": ["(A)day", "(B)text"], "label": "B"},
    {"passage": "A long text.", "question": "What is a text?", "options": ["(A)words", "(B)water"], "label": "A"},
    {"passage": None, "question": "And 1 + 1?", "options": ["(A)2", "(B)3", "(C)4"], "label": "A"},
]
BIGCODEBENCH_ROWS = [
    {
        "task_id": "BigCodeBench/1",
        "instruct_prompt": "Write a function that doubles a number.\n```\nimport math\ndef task_func(x):\n```",
        "code_prompt": "import math\ndef task_func(x):\n",
        "canonical_solution": "    return math.prod([x, 2])",
        "test": "import unittest\nclass TestCases(unittest.TestCase):\n"
        "    def test_case_1(self):\n        self.assertEqual(task_func(3), 6)\n",
        "entry_point": "task_func",
    }
]
IFEVAL_OOD_ROWS = [
    {
        "key": "0",
        "prompt": "Say something. Include exactly 3 numbers.",
        "instruction_id_list": ["count:numbers"],
        "kwargs": [{"N": 3, "keyword": None, "sep": None}],
    }
]
HREF_ROWS = [
    {"instruction": "Sum up: x", "category": "Summarize", "reference": "x", "output": "It is x."},
    {"instruction": "Who?", "category": "Open QA", "reference": "She.", "output": ""},
]


def put(split: DatasetSplit, rows: Sequence[dict[str, Any]]) -> None:
    split.folder.mkdir(parents=True, exist_ok=True)
    (split.folder / f"{split.split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def deepmind_rows(count: int, answer: str = "{}") -> list[dict[str, str]]:
    return [{"question": f"What is {n} + 0?", "answer": answer.format(n)} for n in range(count)]


@pytest.fixture(autouse=True)
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMELEER_MIRROR", str(tmp_path))
    put(mmlu_pro.TEST, MMLU_PRO_ROWS)
    put(gpqa.MAIN, GPQA_ROWS)
    for split in agieval.DATASETS:
        put(split, AGIEVAL_ROWS)
    for split in deepmind_math.DATASETS:
        put(split, deepmind_rows(7))
    put(bigcodebench.HARD, BIGCODEBENCH_ROWS)
    put(ifeval_ood.TRAIN, IFEVAL_OOD_ROWS)
    put(href.DEV, HREF_ROWS)


def read(task: Task) -> list[Problem]:
    return task.problems(None, seed=0)


def prompt_of(problem: Problem) -> str:
    (message,) = problem.messages
    assert message.role == "user"
    return message.content


@pytest.mark.parametrize(
    ("task", "tokens", "metric", "average", "families"),
    [
        (MMLU_PRO, 2048, "exact match", Average.FAMILIES, {"math", "health"}),
        (GPQA, 2048, "exact match", Average.ITEMS, {"Chemistry", "Physics"}),
        (AGIEVAL, 2048, "exact match", Average.FAMILIES, set(agieval.SUBSETS)),
        (DEEPMIND_MATH, 2048, "exact match", Average.FAMILIES, set(deepmind_math.CATEGORIES)),
        (BIGCODEBENCH, 1280, "pass@1", Average.ITEMS, {"bigcodebench-hard"}),
        (IFEVAL_OOD, 2048, "prompt-level loose accuracy", Average.ITEMS, {"count"}),
        (HREF, 8192, "win rate", Average.ITEMS, {"Summarize", "Open QA"}),
    ],
    ids=lambda value: value.name if isinstance(value, Task) else "",
)
def test_settings(task: Task, tokens: int, metric: str, average: Average, families: set[str]) -> None:
    assert (task.role, task.split, task.prompting) == (TaskRole.UNSEEN, Split.UNSEEN, Prompting.CHAT)
    assert (task.decoding.max_new_tokens, task.decoding.temperature) == (tokens, 0.0)
    assert (task.decoding.num_samples, task.decoding.pass_at, task.decoding.stop) == (1, 1, ())
    assert (task.metric, task.average) == (metric, average)
    assert {problem.family for problem in read(task)} == families
    assert task.judge is (Judge.HREF if task is HREF else None)


@pytest.mark.parametrize("task", SUITE, ids=lambda task: task.name)
def test_items_are_the_same_under_every_seed_and_have_ids_of_their_own(task: Task) -> None:
    problems = read(task)
    assert task.problems(None, seed=1) == problems
    assert len({problem.id for problem in problems}) == len(problems)
    assert {problem.task for problem in problems} == {task.name}
    assert all(problem.id.startswith(f"{task.name}/") for problem in problems)
    for problem in problems:
        assert json.loads(json.dumps([problem.target, problem.metadata])) == [problem.target, problem.metadata]


@pytest.mark.parametrize("task", [task for task in SUITE if task.judge is None], ids=lambda task: task.name)
def test_every_gold_is_accepted_and_a_wrong_answer_rejected(task: Task) -> None:
    task.check(read(task))


@pytest.mark.parametrize("task", SUITE, ids=lambda task: task.name)
def test_a_split_that_the_mirror_lacks_is_named(task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMELEER_MIRROR", str(tmp_path / "empty"))
    with pytest.raises(UserError, match=f"The mirror has no {task.datasets[0].repo}"):
        read(task)


def test_the_prompt_of_multiple_choice_is_the_reports() -> None:
    assert prompt_of(read(MMLU_PRO)[0]) == (
        "Answer the following multiple-choice question by giving the correct answer letter in parentheses. Provide "
        'CONCISE reasoning for the answer, and make sure to finish the response with "Therefore, the answer is '
        '(ANSWER_LETTER)" where (ANSWER_LETTER) is one of (A), (B), (C), (D), (E), etc.\n\n'
        "Question: What is 2 + 3?\n (A) 4\n (B) 5\n (C) 6\n\n"
        "Answer the above question and REMEMBER to finish your response with the exact phrase "
        '"Therefore, the answer is (ANSWER_LETTER)" where (ANSWER_LETTER) is one of (A), (B), (C), (D), (E), etc.'
    )


def test_gpqa_names_its_four_letters() -> None:
    assert all(prompt_of(problem).count("is one of (A), (B), (C), (D).") == 2 for problem in read(GPQA))


def test_mmlu_pro_takes_letters_up_to_its_last_choice() -> None:
    problems = read(MMLU_PRO)
    assert [problem.target["answer"] for problem in problems] == ["B", "A", "J"]
    assert [problem.target["num_choices"] for problem in problems] == [3, 1, 10]
    assert [problem.id for problem in problems] == ["mmlu-pro/7", "mmlu-pro/9", "mmlu-pro/8"]
    assert all(problem.target["ladder"] == "unseen" for problem in problems)


@pytest.mark.parametrize(
    "change", [{"answer": "D"}, {"answer": "b"}, {"answer": ""}, {"options": []}, {"question": " "}]
)
def test_a_row_of_mmlu_pro_that_cannot_be_asked_is_named(change: dict[str, Any]) -> None:
    put(mmlu_pro.TEST, [MMLU_PRO_ROWS[0], {**MMLU_PRO_ROWS[0], **change}])
    with pytest.raises(UserError, match=f"row 2: '{next(iter(change))}' must be"):
        read(MMLU_PRO)


def right_choice(problem: Problem) -> str:
    line = next(line for line in prompt_of(problem).splitlines() if line.startswith(f" ({problem.target['answer']}) "))
    return line[len(" (A) ") :]


def test_gpqas_right_choice_stays_right_wherever_it_is_put() -> None:
    problems = read(GPQA)
    assert {right_choice(problem) for problem in problems} == {"bicyclo[2.2.1]heptane"}
    assert {problem.target["answer"] for problem in problems} == set("ABCD")
    assert "Question: Which one is number 3?\n" in prompt_of(problems[3])


def test_the_order_of_gpqas_choices_does_not_hang_on_other_rows() -> None:
    before = {problem.id: problem.messages for problem in read(GPQA)}
    put(gpqa.MAIN, GPQA_ROWS[:4:-1])
    after = {problem.id: problem.messages for problem in read(GPQA)}
    assert len(after) == 15 and after.items() < before.items()


def test_agievals_passage_stands_above_the_question_and_makes_a_cluster() -> None:
    problems = [problem for problem in read(AGIEVAL) if problem.family == "sat-en"]
    assert "\n\nA long text.\n\nQuestion: What is long?\n (A) day\n (B) text\n\n" in prompt_of(problems[0])
    assert ", etc.\n\nQuestion: And 1 + 1?\n" in prompt_of(problems[2])
    assert problems[0].cluster == problems[1].cluster != problems[2].cluster == ""
    clusters = {problem.cluster for problem in read(AGIEVAL)}
    assert len(clusters) == len(agieval.SUBSETS) + 1


@pytest.mark.parametrize(
    ("options", "choices"),
    [
        (["(A)5", "(B) 6", "(C)\t7"], ["5", "6", "7"]),
        ([" A. one  ", "    B .two", "C.3"], ["one", "two", "3"]),
        (["A one", "B two", "C three"], ["one", "two", "three"]),
        (["A? one", "B? two"], ["one", "two"]),
        (["A A cat sat", "(B)A dog ran"], ["A cat sat", "A dog ran"]),
        (["(A)first", "(C)third", "(B)second", "(D)fourth"], ["first", "second", "third", "fourth"]),
        (["(A)(B) and (C)", "(B)A. Smith"], ["(B) and (C)", "A. Smith"]),
        (["A cat sat", "Two dogs ran"], ["A cat sat", "Two dogs ran"]),
        (["City A.B", "(B)City B", "(C)City C", "City D.B"], ["City A.B", "City B", "City C", "City D.B"]),
        (["(A)one", "(A)two"], ["one", "(A)two"]),
        (["(A)", "(B)2"], ["(A)", "2"]),
        ([" plain ", "texts"], ["plain", "texts"]),
    ],
)
def test_agievals_letters_are_cut_off_and_decide_the_order(options: list[str], choices: list[str]) -> None:
    assert agieval.choices_in_order(options) == choices


def test_agievals_label_means_the_printed_letter() -> None:
    row = {"passage": "", "question": "Which?", "options": ["(A)red", "(C)blue", "(B)green"], "label": "B"}
    put(agieval.DATASETS[0], [row])
    assert right_choice(read(AGIEVAL)[0]) == "green"
    put(agieval.DATASETS[0], [{**row, "label": "D"}])
    with pytest.raises(UserError, match="row 1: 'label' must be a letter from A to C"):
        read(AGIEVAL)


def test_deepmind_math_has_56_categories_and_asks_100_problems_of_each() -> None:
    assert len(set(deepmind_math.CATEGORIES)) == 56
    put(deepmind_math.DATASETS[0], deepmind_rows(200))
    problems = [problem for problem in read(DEEPMIND_MATH) if problem.family == deepmind_math.CATEGORIES[0]]
    assert [problem.target for problem in problems] == [str(number) for number in range(100)]


def test_the_prompt_of_deepmind_math_is_the_reports_with_examples_that_are_not_asked() -> None:
    put(deepmind_math.DATASETS[0], [*deepmind_rows(2), *deepmind_rows(5, "{}**2 + 7")])
    problems = list(deepmind_math.category_problems(deepmind_math.DATASETS[0]))
    assert len(problems) == 2
    assert prompt_of(problems[1]) == (
        "Solve the following math problem efficiently:\nWhat is 1 + 0?\n\n"
        'Show your work and conclude with the exact phrasing "Therefore, the final answer is [answer]. I hope it is '
        'correct." where [answer] is just the final number, expression, or answer label representing the solution.  '
        "Some example answers from this question category:\n"
        '- If the answer is 0**2 + 7, conclude with "Therefore, the final answer is 0**2 + 7. I hope it is correct."\n'
        '- If the answer is 2**2 + 7, conclude with "Therefore, the final answer is 2**2 + 7. I hope it is correct."\n'
        '- If the answer is 4**2 + 7, conclude with "Therefore, the final answer is 4**2 + 7. I hope it is correct."\n'
        "\nNote the formatting for the following answer types:\n"
        "- If the answer is a list (e.g., when there are two solutions to an equation), unless otherwise specified, "
        "present the solutions in a list separated by commas ordering them from the smallest to biggest  e.g.: 2, 10\n"
        "- Powers should be written with **, for instance x to the power of 2 should be written as x**2\n"
        "- Use * for multiplication, e.g.: 2*x\n"
        "- For fractions, separate the numerator and denominator with a slash (/) e.g.: -2/7"
    )


@pytest.mark.parametrize(
    ("answers", "examples"),
    [
        (["10", "9", "-3", "100", "9"], ["9", "10", "100"]),
        (["True", "False", "True"], ["True", "False"]),
        (["4", "4"], ["4"]),
        (["d", "c", "b", "a"], ["a", "c", "d"]),
    ],
)
def test_example_answers_are_distinct_and_cover_the_lengths(answers: list[str], examples: list[str]) -> None:
    assert deepmind_math.example_answers(answers) == examples


def test_deepmind_math_reads_the_hubs_notation_of_bytes() -> None:
    rows = [{"question": f"b'Solve {n}*x = {n}.\\n'", "answer": 'b"it\'s 1\\n"'} for n in range(6)]
    put(deepmind_math.DATASETS[0], rows)
    (problem,) = deepmind_math.category_problems(deepmind_math.DATASETS[0])
    assert problem.target == "it's 1"
    assert "efficiently:\nSolve 0*x = 0.\n\nShow" in prompt_of(problem)


def test_a_category_with_too_few_rows_is_an_error() -> None:
    put(deepmind_math.DATASETS[3], deepmind_rows(5))
    with pytest.raises(
        UserError, match=r"algebra__linear_2d_composed, test\) has 5 rows, but 5 are needed as examples"
    ):
        read(DEEPMIND_MATH)


def test_bigcodebench_grades_the_response_after_the_code_that_it_began_with() -> None:
    (problem,) = read(BIGCODEBENCH)
    assert prompt_of(problem) == BIGCODEBENCH_ROWS[0]["instruct_prompt"]
    assert problem.target["prefix"] == "import math\ndef task_func(x):\n\n    pass\n"
    assert problem.target["libraries"] is True
    forgetful = "```python\ndef task_func(x):\n    return math.prod([x, 2])\n```"
    BIGCODEBENCH.check([Problem(**{**as_fields(problem), "gold": forgetful})])


def as_fields(problem: Problem) -> dict[str, Any]:
    return {name: getattr(problem, name) for name in Problem.__slots__}


def test_a_problem_whose_packages_are_not_installed_cannot_be_judged() -> None:
    solution = "    import nowhere_to_be_found.part\n    from pytest import mark\n    import os.path\n"
    test = "import unittest\nfrom not_here_either import x\n"
    put(bigcodebench.HARD, [{**BIGCODEBENCH_ROWS[0], "canonical_solution": solution, "test": test}])
    (problem,) = read(BIGCODEBENCH)
    assert problem.target["requires"] == ["not_here_either", "nowhere_to_be_found", "pytest"]
    verdict = verify(problem.gold, problem.verifier, problem.target)
    assert verdict.outcome is Outcome.ERROR and verdict.score is None
    assert verdict.detail["error"].endswith("not installed: not_here_either, nowhere_to_be_found")


def test_ifeval_oods_target_is_its_row_without_the_hubs_empty_columns() -> None:
    (problem,) = read(IFEVAL_OOD)
    assert problem.target == {
        "prompt": "Say something. Include exactly 3 numbers.",
        "instruction_id_list": ["count:numbers"],
        "kwargs": [{"N": 3}],
    }
    assert problem.verifier == "ifeval_ood"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"instruction_id_list": ["count:number"]}, "Unknown IFEval-OOD instruction 'count:number'. Did you mean"),
        ({"kwargs": [{"M": 3}]}, "takes the arguments ['N'], but was given {'M': 3}"),
        ({"kwargs": [{"N": "three"}]}, "must be a whole number of at least 0, but is 'three'"),
    ],
)
def test_an_instruction_that_no_verifier_knows_is_named_with_its_row(change: dict[str, Any], words: str) -> None:
    put(ifeval_ood.TRAIN, [IFEVAL_OOD_ROWS[0], {**IFEVAL_OOD_ROWS[0], **change}])
    with pytest.raises(UserError, match=r"IFBench_test \(default, train\): row 2: ") as caught:
        read(IFEVAL_OOD)
    assert words in caught.value.what


@pytest.mark.parametrize("kwargs", [None, [], [{}, {}], ["N"]])
def test_ifeval_oods_arguments_must_match_its_instructions(kwargs: Any) -> None:
    put(ifeval_ood.TRAIN, [{**IFEVAL_OOD_ROWS[0], "kwargs": kwargs}])
    with pytest.raises(UserError, match="'kwargs' must be 1 tables"):
        read(IFEVAL_OOD)


def test_hrefs_target_holds_what_the_judge_needs() -> None:
    assert len(set(href.CATEGORIES)) == 11
    first, second = read(HREF)
    assert first.target == {
        "instruction": "Sum up: x",
        "category": "Summarize",
        "reference": "x",
        "baseline": "It is x.",
    }
    assert second.target["baseline"] == ""
    assert (first.verifier, first.gold) == ("href", "x")


def test_an_unknown_kind_of_href_is_an_error() -> None:
    put(href.DEV, [{**HREF_ROWS[0], "category": "Poetry"}])
    with pytest.raises(UserError, match="row 1: 'category' must be one of Brainstorm"):
        read(HREF)


def test_a_choice_problem_with_26_choices_can_be_answered() -> None:
    row = {**MMLU_PRO_ROWS[0], "options": [f"choice {n}" for n in range(26)], "answer": "Z"}
    put(mmlu_pro.TEST, [row])
    (problem,) = read(MMLU_PRO)
    assert verify_choice(problem.gold, problem.target).detail == {"answer": "Z", "rung": "exact"}
