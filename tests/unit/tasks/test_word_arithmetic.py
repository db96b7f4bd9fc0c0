"""Word arithmetic: the working is right, the language is sane, and no question crosses from dev to train."""

import operator
import re
from collections.abc import Iterator
from functools import cache

import pytest

from cameleer.core.types import Problem
from cameleer.tasks import SealedReader, find_task
from cameleer.tasks.generate import NEXT_QUESTION
from cameleer.tasks.word_arithmetic import CONTINUATIONS, REQUESTS
from cameleer.tasks.word_arithmetic_families import HELD_OUT_FAMILIES, SHAPES, TRAINED_FAMILIES

NAMES = ("word-arithmetic", "word-arithmetic-dev", "word-arithmetic-unseen")
STEP = re.compile(r"(\d+) ([+*/-]) (\d+)(?: \+ (\d+))? = (\d+)")
OPERATIONS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
CONSTANTS = {2, 3, 4, 60}
"""Numbers that a working may take from the world: sides of a square, legs, minutes of an hour."""


@cache
def problems_of(name: str) -> list[Problem]:
    return find_task(name, SealedReader.EVALS).problems(1_000, seed=0)


def answers_of(problem: Problem) -> list[str]:
    earlier = [message.content for message in problem.messages if message.role == "assistant"]
    return [*earlier, problem.gold]


def steps_of(answer: str) -> list[tuple[list[int], int]]:
    """Each equation of an answer as its operands and its result, after checking that it is true."""
    found: list[tuple[list[int], int]] = []
    for left, sign, right, third, result in STEP.findall(answer):
        assert OPERATIONS[sign](int(left), int(right)) + int(third or 0) == int(result), answer
        found.append(([int(left), int(right)] + ([int(third)] if third else []), int(result)))
    return found


@pytest.mark.parametrize("name", NAMES)
def test_every_working_is_true_and_ends_in_its_answer(name: str) -> None:
    for problem in problems_of(name):
        for answer in answers_of(problem):
            steps = steps_of(answer)
            assert answer.endswith(f" The answer is {steps[-1][1]}."), answer
            assert answer.count("=") == len(steps)
        assert problem.gold.endswith(f" The answer is {problem.target}.")
        assert problem.metadata["num_steps"] == len(steps_of(problem.gold))


@pytest.mark.parametrize("name", NAMES)
def test_a_working_uses_the_numbers_of_its_question(name: str) -> None:
    """And every number of the question, so that none is there for nothing."""
    for problem in problems_of(name):
        if problem.metadata["form"] == "continued":
            continue
        given = {int(number) for number in re.findall(r"\d+", problem.messages[-1].content)}
        steps = steps_of(problem.gold)
        used = {number for operands, _ in steps for number in operands}
        results = {result for _, result in steps}
        spelled = {int(number) for number in re.findall(r"\d+", problem.gold.split("=")[0])}
        assert given <= used, problem
        assert used <= given | results | CONSTANTS | spelled, problem


@pytest.mark.parametrize("name", NAMES)
def test_numbers_stay_small_and_golds_short(name: str) -> None:
    small = 0
    for problem in problems_of(name):
        numbers = [result for answer in answers_of(problem) for _, result in steps_of(answer)]
        assert min(numbers) >= 2 and max(numbers) <= 1_000, problem
        small += max(numbers) <= 100
        assert len(re.findall(r"\d|[A-Za-z]+|[^\w\s]", problem.gold)) <= 48, problem.gold
    assert small > 0.7 * len(problems_of(name))


@pytest.mark.parametrize("name", NAMES)
def test_the_language_is_sane(name: str) -> None:
    for problem in problems_of(name):
        for text in [message.content for message in problem.messages] + answers_of(problem):
            assert not re.search(r"[{}]|  |\.\.", text), text
            assert not re.search(r"\b[Aa] [aeiouAEIOU]|\b[Aa]n [^aeiouAEIOU]", text), text
            assert not re.search(r"\b1 [a-z]+s\b", text), text


def core(turn: str) -> str:
    """A question without the request around it."""
    for wrapper in (*NEXT_QUESTION, *REQUESTS):
        before, after = wrapper.split("{}")
        if before + after and turn.startswith(before) and turn.endswith(after):
            return turn.removeprefix(before).removesuffix(after)
    return turn


def questions_of(name: str) -> Iterator[str]:
    for problem in problems_of(name):
        turns = [message.content for message in problem.messages if message.role == "user"]
        yield from map(core, turns[:-1] if problem.metadata["form"] == "continued" else turns)


def test_no_question_is_in_train_and_dev_whatever_stands_around_it() -> None:
    train, dev = set(questions_of(NAMES[0])), set(questions_of(NAMES[1]))
    assert len(train) > 1_000 and len(dev) > 950
    assert not train & dev


def test_the_families_are_many_and_all_are_used() -> None:
    assert len(TRAINED_FAMILIES) >= 10
    assert sum(len(family.templates) for family in TRAINED_FAMILIES) >= 40
    assert len(HELD_OUT_FAMILIES) >= 4
    for name, families in ((NAMES[0], TRAINED_FAMILIES), (NAMES[1], TRAINED_FAMILIES), (NAMES[2], HELD_OUT_FAMILIES)):
        used = {problem.metadata["template"] for problem in problems_of(name)}
        assert used == {f"{family.name}-{i + 1}" for family in families for i in range(len(family.templates))}
    shapes = {template.shape for family in (*TRAINED_FAMILIES, *HELD_OUT_FAMILIES) for template in family.templates}
    assert shapes == set(SHAPES)


def test_continuations_are_not_in_unseen() -> None:
    forms = {problem.metadata["form"] for problem in problems_of(NAMES[2])}
    assert forms == {"single", "system", "second question"}
    assert len(CONTINUATIONS) >= 4
