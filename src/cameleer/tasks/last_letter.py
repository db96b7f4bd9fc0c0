"""Last letter: a list of letters, of which the answer is the last. What a model learns from nothing in a minute.

    user: k d a f        assistant: f

It is there to run the whole line on a model that knows nothing (`recipes/tiny.toml`): an answer is a letter and the end
of the turn, a guess is right once in sixteen, so that reinforcement learning has something to go on from the first step
on, and a model of two layers can get every list right. A list belongs to train or dev by a hash of its text.
"""

import random
from collections.abc import Iterator
from functools import partial

from cameleer.core.types import Message, Problem
from cameleer.tasks.generate import make_problem, seeded, split_of
from cameleer.tasks.task import Decoding, Split, Task, TaskRole

LETTERS = "abcdefghijklmnop"
"""All letters that occur; those of a list are distinct."""
LENGTHS = (4, 5, 6)
"""Letters of a list."""

_VERSION = 1


def _lists(rng: random.Random, split: Split) -> Iterator[list[str]]:
    """Endless lists of a split."""
    while True:
        letters = rng.sample(LETTERS, rng.choice(LENGTHS))
        if split_of(" ".join(letters)) is split:
            yield letters


def generate(seed: int, task: str, split: Split) -> Iterator[Problem]:
    """Endless problems of a split; prompts may repeat. A family is a length."""
    for letters in _lists(seeded(task, seed), split):
        gold = letters[-1]
        answer = ("text", {"rule": "exact", "answers": [gold]}, gold)
        yield make_problem(task, f"{len(letters)} letters", (Message("user", " ".join(letters)),), answer, {})


def wrong_answer(problem: Problem) -> str:
    """The first letter of the list."""
    return problem.messages[-1].content[0]


def _task(name: str, role: TaskRole, split: Split, description: str) -> Task:
    source = partial(generate, task=name, split=split)
    return Task(name, _VERSION, role, split, Decoding(4), description, source, wrong_answer)


TASKS = (
    _task("last-letter", TaskRole.TRAIN, Split.TRAIN, "The last of a list of letters."),
    _task("last-letter-dev", TaskRole.DEV, Split.DEV, "Other lists of letters than those of last-letter."),
)
