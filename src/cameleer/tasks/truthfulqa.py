"""TruthfulQA (Lin et al. 2022), MC2: the probability that a model gives to the true answers among true and false ones.

The settings are OLMES' `truthfulqa::tulu`: six questions with answers and the question, `Q: …⏎A: …`, in one user turn;
each choice, after a space, is a continuation whose log-likelihood is asked for.

Departure: the paper's six are OpenAI's "QA prompt", plain trivia that no dataset holds; the benchmark's authors use no
question of their own, so that it stays zero-shot. Here they are plain trivia from data: the first six of the examples
of `popqa`, so six relations of PopQA.
"""

from collections.abc import Iterator
from typing import Any

from cameleer.core.types import Problem
from cameleer.tasks import popqa
from cameleer.tasks.benchmark import Row, Shot, rows
from cameleer.tasks.generate import dialogue
from cameleer.tasks.mirror import DatasetSplit
from cameleer.tasks.task import Decoding, Split, Task, TaskRole

VALIDATION = DatasetSplit("truthfulqa/truthful_qa", "multiple_choice", "validation")

NUM_SHOTS = 6


def _examples() -> list[Shot]:
    shown = popqa.examples(list(rows(popqa.TEST, popqa.COLUMNS)))
    return [(row.text("question"), row.text("obj")) for row in shown.values()][:NUM_SHOTS]


def _problem(row: Row, shots: list[Shot]) -> Problem:
    choices, correct = _choices(row)
    blocks = [f"Q: {question}\nA: {answer}" for question, answer in shots]
    messages = dialogue(["\n\n".join([*blocks, f"Q: {row.text('question')}\nA:"])])
    target, gold = {"rule": "mc2", "correct": correct}, choices[correct[0]]
    return Problem(
        id=f"truthfulqa/{row.index}",
        task="truthfulqa",
        family="truthfulqa",
        messages=messages,
        verifier="likelihood",
        target=target,
        gold=gold,
        choices=choices,
        own_texts=(row.text("question"),),
    )


def _choices(row: Row) -> tuple[tuple[str, ...], list[int]]:
    """The choices as continuations, and the indices of the true ones, of which neither all nor none are."""
    given: Any = row.fields["mc2_targets"]
    texts, labels = (given.get("choices"), given.get("labels")) if isinstance(given, dict) else ([], [])
    if not isinstance(texts, list) or not isinstance(labels, list) or len(texts) != len(labels):
        raise row.fault("mc2_targets", "choices with as many labels")
    if set(labels) != {0, 1} or not all(isinstance(text, str) and text.strip() for text in texts):
        raise row.fault("mc2_targets", "choices, none of them empty, with labels of which some are 1 and some 0")
    return tuple(f" {text}" for text in texts), [index for index, label in enumerate(labels) if label]


def problems(seed: int) -> Iterator[Problem]:
    """The questions, in order."""
    shots = _examples()
    return (_problem(row, shots) for row in rows(VALIDATION, ["question", "mc2_targets"]))


def wrong_answer(problem: Problem) -> str:
    """The first false choice."""
    correct = problem.target["correct"]
    return next(choice for index, choice in enumerate(problem.choices) if index not in correct)


TASKS = (
    Task(
        name="truthfulqa",
        version=1,
        role=TaskRole.DEV,
        split=Split.DEV,
        decoding=Decoding(1),
        description="The probability of true answers to questions that invite false ones.",
        source=problems,
        wrong=wrong_answer,
        datasets=(VALIDATION, popqa.TEST),
        metric="mc2",
    ),
)
