"""The dev suite on made-up rows in the hub's columns: prompts, settings, answers, and what a bad mirror says."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dev_suite_rows import GSM_SHOTS, MATH_SHOTS, Rows, drop_row, function_row, in_blocks, math_row, rlvr, suite_rows

from cameleer.core.errors import UserError
from cameleer.core.types import Problem
from cameleer.tasks import (
    alpaca_eval,
    bbh,
    competition_math,
    drop,
    gsm8k,
    humaneval,
    ifeval,
    mmlu,
    popqa,
    truthfulqa,
)
from cameleer.tasks.mirror import DatasetSplit
from cameleer.tasks.task import Average, Decoding, Judge, Prompting, Task, TaskRole

MODULES = (gsm8k, competition_math, mmlu, popqa, truthfulqa, bbh, drop, humaneval, ifeval, alpaca_eval)
TASKS: dict[str, Task] = {task.name: task for module in MODULES for task in module.TASKS}

Put = Callable[[DatasetSplit, list[dict[str, Any]]], None]


@pytest.fixture
def put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Put:
    """Writes rows into a mirror of the test's own."""
    monkeypatch.setenv("CAMELEER_MIRROR", str(tmp_path))

    def write(split: DatasetSplit, given: list[dict[str, Any]]) -> None:
        path = tmp_path / split.repo / split.config / f"{split.split}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in given), encoding="utf-8")

    return write


@pytest.fixture
def suite(put: Put) -> Rows:
    """The small mirror."""
    given = suite_rows()
    for split, rows in given.items():
        put(split, rows)
    return given


def first(name: str) -> Problem:
    return TASKS[name].problems(None, seed=0)[0]


def turns(problem: Problem) -> list[str]:
    return [message.content for message in problem.messages]


# The suite as a whole.


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if not name.startswith(("human", "alpaca"))])
def test_every_gold_answer_is_accepted_and_a_wrong_one_rejected(name: str, suite: Rows) -> None:
    problems = TASKS[name].problems(None, seed=0)
    assert problems
    TASKS[name].check(problems)


@pytest.mark.parametrize("name", TASKS)
def test_ids_are_distinct_and_carry_the_task(name: str, suite: Rows) -> None:
    problems = TASKS[name].problems(None, seed=0)
    assert len({problem.id for problem in problems}) == len(problems)
    assert all(problem.id.startswith(f"{name}/") and problem.task == name for problem in problems)
    assert all(problem.messages[-1].role == "user" for problem in problems)


@pytest.mark.parametrize("name", TASKS)
def test_a_lacking_split_is_named(name: str, suite: Rows, tmp_path: Path) -> None:
    for split in TASKS[name].datasets:
        path = tmp_path / split.repo / split.config / f"{split.split}.jsonl"
        text = path.read_text()
        path.unlink()
        with pytest.raises(UserError, match=rf"The mirror has no {split.repo} \({split.config}, {split.split}\)"):
            TASKS[name].problems(None, seed=0)
        path.write_text(text)


@pytest.mark.parametrize("name", TASKS)
def test_a_split_without_rows_is_an_error(name: str, suite: Rows, put: Put) -> None:
    for split in TASKS[name].datasets:
        put(split, [])
        with pytest.raises(UserError, match="has no rows"):
            TASKS[name].problems(None, seed=0)
        put(split, suite[split])


@pytest.mark.parametrize("name", TASKS)
def test_each_column_is_needed_or_not_read(name: str, suite: Rows, put: Put) -> None:
    """Without a column that it reads a task says which and where; without another its problems are the same."""
    split = TASKS[name].datasets[0]
    before, named = TASKS[name].problems(None, seed=0), 0
    for column in suite[split][0]:
        put(split, [{key: value for key, value in row.items() if key != column} for row in suite[split]])
        try:
            assert TASKS[name].problems(None, seed=0) == before
        except UserError as error:
            assert f"row 1 has no column '{column}'" in str(error)
            named += 1
    assert named >= 2


@pytest.mark.parametrize(
    ("name", "decoding"),
    [
        ("gsm8k", Decoding(512, stop=("Question:", "</s>", "<|im_end|>"))),
        ("math", Decoding(1024)),
        ("mmlu", Decoding(512, stop=("Question:",))),
        ("popqa", Decoding(15, stop=("\n\n",))),
        ("bbh", Decoding(512)),
        ("drop", Decoding(50, stop=("Passage:", "Question:", "\n\n"))),
        ("ifeval", Decoding(2048)),
        ("alpaca-eval", Decoding(8192)),
    ],
)
def test_decoding_is_the_papers(name: str, decoding: Decoding) -> None:
    assert TASKS[name].decoding == decoding
    assert TASKS[name].role is TaskRole.DEV


def test_code_is_sampled_twenty_times_for_pass_at_10() -> None:
    for name in ("humaneval", "humaneval-plus"):
        decoding = TASKS[name].decoding
        assert (decoding.temperature, decoding.top_p, decoding.num_samples, decoding.pass_at) == (0.8, 0.95, 20, 10)
        assert decoding.stop == ("\nclass", "\nif", "\nprint", "\n#", "\n```")


def test_who_averages_over_families_who_is_judged_and_who_is_plain() -> None:
    assert {name for name, task in TASKS.items() if task.average is Average.FAMILIES} == {"math", "mmlu"}
    assert {name for name, task in TASKS.items() if task.judge} == {"alpaca-eval"}
    assert {name for name, task in TASKS.items() if task.prompting is Prompting.PLAIN} == {"drop"}
    assert {name for name, task in TASKS.items() if task.role is TaskRole.TRAIN} == {"gsm8k-train", "math-train"}
    assert TASKS["alpaca-eval"].judge is Judge.ALPACA


# GSM8K and MATH.


def test_gsm8k_shows_eight_exchanges_and_begins_the_answer(suite: Rows) -> None:
    problem = first("gsm8k")
    assert len(problem.messages) == 17
    assert turns(problem)[:2] == ["Question: How many are 0 and 1?", "Answer: 0 + 1 = 1. So the answer is 1."]
    assert (turns(problem)[-1], problem.prefix) == ("Question: How many?", "Answer:")
    assert (problem.verifier, problem.target) == ("number", "1500")
    assert problem.gold == " It is 3 * 500 = 1,500 of them.\nSo the answer is 1500."


def test_gsm8k_train_is_one_user_turn_as_in_rlvr(suite: Rows) -> None:
    problem = first("gsm8k-train")
    assert turns(problem) == [in_blocks(GSM_SHOTS, "How much?")]
    assert (problem.prefix, problem.verifier, problem.target) == ("", "number", "-2")


def test_a_solution_without_a_final_number_is_an_error(suite: Rows, put: Put) -> None:
    put(gsm8k.TEST, [*suite[gsm8k.TEST], {"question": "How?", "answer": "#### many"}])
    with pytest.raises(UserError, match=r"openai/gsm8k \(main, test\): row 2: 'answer' must be a solution"):
        first("gsm8k")


@pytest.mark.parametrize("shots", [GSM_SHOTS[:7], [*GSM_SHOTS[:7], ("How?", "")], []])
def test_other_than_eight_examples_are_an_error(shots: list[tuple[str, str]], suite: Rows, put: Put) -> None:
    put(gsm8k.EXAMPLES, rlvr(shots))
    with pytest.raises(UserError, match="begins with 8 worked examples"):
        first("gsm8k")


def test_math_shows_four_exchanges_that_end_as_minervas_do(suite: Rows) -> None:
    problem = first("math")
    assert len(problem.messages) == 9
    assert turns(problem)[4:6] == [
        "Problem:\nWhat is $2^2$?\n\nSolution:",
        "It is\n\n$\\boxed{4}$.\nFinal Answer: The final answer is $4$. I hope it is correct.",
    ]
    assert turns(problem)[-1] == "Problem:\nWhat is it?\n\nSolution:"
    assert (problem.target, problem.prefix, problem.family) == ("\\frac{1}{2}", "", "algebra")
    assert [task.family for task in TASKS["math"].problems(None, seed=0)] == list(competition_math.SUBJECTS)


def test_math_train_is_one_user_turn_as_in_rlvr(suite: Rows) -> None:
    assert turns(first("math-train")) == [in_blocks(MATH_SHOTS, "What is it?")]


@pytest.mark.parametrize(
    ("solution", "answer"),
    [
        ("$\\boxed{1}$ or $\\boxed{\\frac{1}{\\sqrt{2}}}$", "\\frac{1}{\\sqrt{2}}"),
        ("$\\fbox{ 7 }$", "7"),
        ("$\\boxed 5$ apples", "5"),
        ("$\\boxed{5$", None),
        ("$\\boxed{}$", None),
        ("five", None),
    ],
)
def test_the_last_box_holds_the_answer(solution: str, answer: str | None) -> None:
    assert competition_math.boxed_answer(solution) == answer


def test_a_solution_without_a_box_is_an_error(suite: Rows, put: Put) -> None:
    put(competition_math.TEST[0], [{**math_row("1"), "solution": "It is 1."}])
    with pytest.raises(UserError, match="a solution with a boxed answer"):
        first("math")


# Knowledge.


def test_mmlu_asks_with_the_papers_instruction(suite: Rows) -> None:
    problem = first("mmlu")
    assert turns(problem) == [
        "The following are multiple choice questions about college physics. Summarize your reasoning concisely, then "
        "conclude with 'Therefore, the answer is: X' where X is one of A, B, C, or D.\n\n"
        "Question: Which one?\n A. w\n B. x\n C. y\n D. z\n"
    ]
    assert problem.target == {"answer": "D", "num_choices": 4, "ladder": "mmlu"}
    assert (problem.family, TASKS["mmlu"].wrong(problem)) == ("college_physics", "Therefore, the answer is: A")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"choices": ["w", "x", "y"]}, "'choices' must be 4 texts"),
        ({"choices": ["w", "x", "y", ""]}, "'choices' must be a list of texts, none of them empty"),
        ({"answer": 4}, "'answer' must be a number from 0 to 3"),
        ({"answer": "B"}, "'answer' must be a whole number"),
        ({"question": " "}, "row 1: 'question' must be a text that is not empty"),
    ],
)
def test_mmlu_refuses_a_broken_row(change: dict[str, Any], message: str, suite: Rows, put: Put) -> None:
    put(mmlu.TEST, [{**suite[mmlu.TEST][0], **change}])
    with pytest.raises(UserError, match=message):
        first("mmlu")


def test_popqa_shows_one_question_of_each_other_relation_and_evaluates_none_of_them(suite: Rows) -> None:
    problems = TASKS["popqa"].problems(None, seed=0)
    assert len(problems) == 48 - 16
    asked = {turns(problem)[-1] for problem in problems}
    for problem in problems:
        shown = turns(problem)[:-1:2]
        relations = [text.split()[5].rstrip("?") for text in shown]
        own = problem.family.split()[1].lstrip("0") or "0"
        assert len(shown) == 15 and len({*relations, own}) == 16
        assert not asked & set(shown)
    assert turns(problems[0])[-1].startswith("Q: Question ") and turns(problems[0])[-1].endswith("? A:")


def test_popqas_examples_do_not_depend_on_the_order_of_the_rows(suite: Rows, put: Put) -> None:
    before = {problem.id: turns(problem) for problem in TASKS["popqa"].problems(None, seed=0)}
    put(popqa.TEST, suite[popqa.TEST][::-1])
    assert {problem.id: turns(problem) for problem in TASKS["popqa"].problems(None, seed=0)} == before


def test_a_part_of_popqa_is_refused(suite: Rows, put: Put) -> None:
    put(popqa.TEST, [row for row in suite[popqa.TEST] if row["prop"] != "relation 03"])
    with pytest.raises(UserError, match="questions of 15 relations, but the benchmark has 16"):
        first("popqa")


def test_truthfulqa_asks_for_likelihoods_after_six_trivia(suite: Rows) -> None:
    problem = first("truthfulqa")
    (prompt,) = turns(problem)
    blocks = prompt.split("\n\n")
    assert len(blocks) == 7 and blocks[-1] == "Q: Is it so?\nA:"
    assert all(block.startswith("Q: Question ") and "\nA: thing " in block for block in blocks[:6])
    assert problem.choices == (" Yes.", " No.", " It is.")
    assert (problem.target, problem.gold) == ({"rule": "mc2", "correct": [0, 2]}, " Yes.")
    assert TASKS["truthfulqa"].wrong(problem) == " No."


@pytest.mark.parametrize("targets", [None, {"choices": ["a"], "labels": [1]}, {"choices": ["a", "b"], "labels": [1]}])
def test_truthfulqa_refuses_choices_without_true_and_false(targets: Any, suite: Rows, put: Put) -> None:
    put(truthfulqa.VALIDATION, [{"question": "Is it?", "mc2_targets": targets}])
    with pytest.raises(UserError, match="'mc2_targets' must be choices"):
        first("truthfulqa")


# Reasoning.


def test_bbh_describes_the_task_once_and_leaves_the_notice_out(suite: Rows) -> None:
    problem = next(problem for problem in TASKS["bbh"].problems(None, seed=0) if problem.family == "navigate")
    cue = "\nA: Let's think step by step."
    assert turns(problem) == [
        f"About navigate.\n\nQ: navigate 0?{cue}",
        "Well. So the answer is 0.",
        f"Q: navigate 1?{cue}",
        "Well. So the answer is 1.",
        f"Q: navigate 2?{cue}",
        "Well. So the answer is 2.",
        f"Q: navigate?{cue}",
    ]
    assert len(TASKS["bbh"].problems(None, seed=0)) == 27


def test_bbh_leaves_out_a_question_whose_answer_is_no_letter(suite: Rows, put: Put) -> None:
    split = bbh.TEST["ruin_names"]
    put(split, [*suite[split], {"input": "Which?", "target": "cut, apart"}])
    assert sum(problem.family == "ruin_names" for problem in TASKS["bbh"].problems(None, seed=0)) == 1


def test_a_lacking_or_broken_bbh_prompt_is_an_error(suite: Rows, put: Put) -> None:
    put(bbh.PROMPTS, suite[bbh.PROMPTS][1:])
    with pytest.raises(UserError, match="has no prompt of 'boolean_expressions'"):
        first("bbh")
    put(bbh.PROMPTS, [{**suite[bbh.PROMPTS][0], "chain_of_thought_prompt": "About it.\n\nQ: One?\nA: Yes."}])
    with pytest.raises(UserError, match="3 examples of reasoning"):
        first("bbh")


def test_drop_is_plain_text_with_three_train_examples(suite: Rows) -> None:
    problem = first("drop")
    (prompt,) = turns(problem)
    blocks = prompt.split("\n\n")
    assert len(blocks) == 4
    assert blocks[-1] == "Passage: A passage.\nQuestion: Question 10?\nAnswer:"
    for block in blocks[:3]:
        number = block.partition("Question: Question ")[2][0]
        assert block == f"Passage: A passage.\nQuestion: Question {number}?\nAnswer: answer {number}"
    assert problem.target["answers"] == [["red fox", "blue dog"], ["fox"]]
    assert problem.cluster == "section of A passage."


def test_drop_reads_numbers_and_dates(suite: Rows, put: Put) -> None:
    number, dated = drop_row(1, [], []), drop_row(2, [], [])
    number["answer"]["number"] = "12"
    dated["answer"]["date"] = {"day": "", "month": "May", "year": "1990"}
    put(drop.VALIDATION, [number, dated])
    problems = TASKS["drop"].problems(None, seed=0)
    assert [(problem.target["answers"], problem.family) for problem in problems] == [
        ([["12"]], "number"),
        ([["May 1990"]], "date"),
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer": {"number": "", "spans": []}}, "must be number, date and spans"),
        ({"answer": None}, "must be number, date and spans"),
        ({"validated_answers": []}, "must be number, date and spans"),
        (drop_row(1, [], []), "a number, a date or spans"),
        ({"passage": ""}, "'passage' must be a text"),
    ],
)
def test_drop_refuses_a_broken_row(change: dict[str, Any], message: str, suite: Rows, put: Put) -> None:
    put(drop.VALIDATION, [{**drop_row(1, ["a"], []), **change}])
    with pytest.raises(UserError, match=message):
        first("drop")


# Code and instructions.


def test_humaneval_begins_the_answer_with_an_open_fence(suite: Rows) -> None:
    problem = first("humaneval")
    row = function_row(0)
    assert turns(problem) == [row["prompt"]]
    assert problem.prefix == "Here is the completed function:\n\n```python\n"
    assert problem.target == {
        "kind": "function",
        "prompt": row["prompt"],
        "tests": row["test"],
        "entry_point": "one",
    }
    assert (problem.gold, problem.verifier) == (row["canonical_solution"], "code")
    plus = first("humaneval-plus").target
    assert plus["libraries"] and plus["limits"]["cpu_seconds"] > 10


def test_ifevals_absent_arguments_are_left_out(suite: Rows) -> None:
    problem = first("ifeval")
    assert problem.target["kwargs"] == [{}, {"relation": "at least", "num_words": 40}]
    assert turns(problem) == ["Say it in 40 words, without commas."]


@pytest.mark.parametrize("kwargs", [None, [{}], [{}, None]])
def test_ifeval_refuses_arguments_that_do_not_fit(kwargs: Any, suite: Rows, put: Put) -> None:
    put(ifeval.TRAIN, [{**suite[ifeval.TRAIN][0], "kwargs": kwargs}])
    with pytest.raises(UserError, match="2 tables of arguments"):
        first("ifeval")


def test_alpaca_eval_carries_what_the_judge_needs(suite: Rows) -> None:
    problem = first("alpaca-eval")
    assert turns(problem) == ["Do it."]
    assert problem.target == {"instruction": "Do it.", "baseline": "Done.", "generator": "gpt4_1106_preview"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"instruction_id_list": ["punctuation:no_coma"]}, "Unknown IFEval instruction 'punctuation:no_coma'"),
        ({"kwargs": [{"num_words": 3}]}, "takes the arguments [], but was given {'num_words': 3}"),
    ],
)
def test_an_instruction_that_ifevals_verifier_does_not_know_is_named_with_its_row(
    change: dict[str, Any], words: str, suite: Rows, put: Put
) -> None:
    row = {"key": 1, "prompt": "No commas.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
    put(ifeval.TRAIN, [row, {**row, **change}])
    with pytest.raises(UserError, match=r"IFEval \(default, train\): row 2: ") as caught:
        list(ifeval.problems(0))
    assert words in caught.value.what
