"""BIG-Bench Hard (Suzgun et al. 2022): 27 tasks that take several steps of reasoning, 3-shot with chain of thought.

The settings are OLMES' `bbh:cot-v1::tulu`: the authors' three worked examples of a task, each as an exchange `Q: …⏎A:
Let's think step by step.` and reasoning, the task's description before the first; greedy, 512 tokens, no stop text. The
mean is over items, as in OLMES' suite. For the extraction of answers see `verify.text`, rule `bbh`.

Questions are lukaemon/bbh's; descriptions and examples are the authors' prompts as Joschka/big_bench_hard holds them,
before its line of dashes the notice that benchmark data must not be trained on, which is not part of a prompt.

Departure: three questions (one of movie_recommendation, two of ruin_names) whose options were cut apart at commas have
an answer that is none of their letters. They are left out; in OLMES they are wrong whatever the response.
"""

import re
from collections.abc import Iterator

from cameleer.core.errors import UserError
from cameleer.core.types import Problem
from cameleer.tasks.benchmark import LETTERS, Row, Shot, rows, with_shots, wrong_letter
from cameleer.tasks.mirror import DatasetSplit
from cameleer.tasks.task import Decoding, Split, Task, TaskRole

FORMS = {
    "boolean_expressions": "true_false",
    "causal_judgement": "yes_no",
    "date_understanding": "letter",
    "disambiguation_qa": "letter",
    "dyck_languages": "brackets",
    "formal_fallacies": "valid_invalid",
    "geometric_shapes": "letter",
    "hyperbaton": "letter",
    "logical_deduction_five_objects": "letter",
    "logical_deduction_seven_objects": "letter",
    "logical_deduction_three_objects": "letter",
    "movie_recommendation": "letter",
    "multistep_arithmetic_two": "integer",
    "navigate": "yes_no",
    "object_counting": "integer",
    "penguins_in_a_table": "letter",
    "reasoning_about_colored_objects": "letter",
    "ruin_names": "letter",
    "salient_translation_error_detection": "letter",
    "snarks": "letter",
    "sports_understanding": "yes_no",
    "temporal_sequences": "letter",
    "tracking_shuffled_objects_five_objects": "letter",
    "tracking_shuffled_objects_seven_objects": "letter",
    "tracking_shuffled_objects_three_objects": "letter",
    "web_of_lies": "yes_no",
    "word_sorting": "words",
}
"""The tasks, and what their answers look like: a form of `verify.text`."""

TEST = {name: DatasetSplit("lukaemon/bbh", name, "test") for name in FORMS}
PROMPTS = DatasetSplit("Joschka/big_bench_hard", "few_shot_prompts", "few_shot_prompts")

NUM_SHOTS = 3
CUE = "Let's think step by step."

_DASHES = "-----\n"
_OPPOSITES = {
    "yes": "no", "no": "yes", "true": "false", "false": "true", "valid": "invalid", "invalid": "valid",
}  # fmt: skip
_LETTER = re.compile(r"\([A-Z]\)")


def _examples() -> dict[str, list[Shot]]:
    """The examples of each task as user and assistant turns."""
    found = {
        row.text("dataset_name"): _parsed(row) for row in rows(PROMPTS, ["dataset_name", "chain_of_thought_prompt"])
    }
    lacking = [name for name in FORMS if name not in found]
    if lacking:
        raise UserError(f"{PROMPTS} has no prompt of '{lacking[0]}'.", "Fetch it again.")
    return found


def _parsed(row: Row) -> list[Shot]:
    prompt = row.text("chain_of_thought_prompt")
    description, *blocks = (prompt.partition(_DASHES)[2] or prompt).strip().split("\n\nQ: ")
    shots: list[Shot] = []
    for block in blocks:
        question, _, reasoning = block.partition(f"\nA: {CUE}")
        shots.append((_asked(question), reasoning.strip()))
    if len(shots) != NUM_SHOTS or not description or not all(reasoning for _, reasoning in shots):
        raise row.fault("chain_of_thought_prompt", f"a description and {NUM_SHOTS} examples of reasoning step by step")
    return [(f"{description}\n\n{shots[0][0]}", shots[0][1]), *shots[1:]]


def _asked(question: str) -> str:
    return f"Q: {question}\nA: {CUE}"


def _problem(row: Row, shots: list[Shot]) -> Problem:
    name, answer = row.split.config, row.text("target").strip()
    target = {"rule": "bbh", "answers": [answer], "form": FORMS[name]}
    messages = with_shots(shots, _asked(row.text("input")))
    id, own_texts = f"bbh/{name}/{row.index}", (row.text("input"),)
    return Problem(id, "bbh", name, messages, "text", target, conclusion(answer), own_texts=own_texts)


def conclusion(answer: str) -> str:
    """The sentence with which the examples end."""
    return f"So the answer is {answer}."


def problems(seed: int) -> Iterator[Problem]:
    """The questions of all tasks, in order."""
    shots = _examples()
    for name, split in TEST.items():
        for row in rows(split, ["input", "target"]):
            if FORMS[name] != "letter" or _LETTER.fullmatch(row.text("target").strip()):
                yield _problem(row, shots[name])


def wrong_answer(problem: Problem) -> str:
    """The sentence with another answer of the same form."""
    answer, form = problem.target["answers"][0], problem.target["form"]
    if form == "letter":
        return conclusion(f"({wrong_letter(answer.strip('()'), len(LETTERS))})")
    if form == "integer":
        return conclusion(f"{answer}1")
    if form == "brackets":
        return conclusion(f"{answer} >")
    return conclusion(f"{answer} zebra" if form == "words" else _OPPOSITES[answer.lower()])


TASKS = (
    Task(
        name="bbh",
        version=1,
        role=TaskRole.DEV,
        split=Split.DEV,
        decoding=Decoding(512),
        description="27 tasks of several steps, 3-shot with chain of thought.",
        source=problems,
        wrong=wrong_answer,
        datasets=(*TEST.values(), PROMPTS),
        metric="exact match",
    ),
)
