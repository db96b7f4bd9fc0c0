"""One object per task, the same for training, reward and evaluation.

A task reads its problems from a `source`, which may be a generator or a benchmark's file, and proves itself: `check`
holds every gold answer and a wrong answer of its own making against the verifier.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from cameleer.core.errors import UserError
from cameleer.core.types import Conversation, Problem
from cameleer.verify import Outcome, Verdict, verify

MAX_CONSECUTIVE_REPEATS = 2_000
"""A source that repeats itself this often in a row is taken to have nothing new to give."""


class TaskRole(StrEnum):
    """What a task is for, and so who may read it. Tasks with role `unseen` are sealed (see `registry`)."""

    TRAIN = "train"
    DEV = "dev"
    UNSEEN = "unseen"
    SAFETY = "safety"


class Split(StrEnum):
    """Which part of a task's material its problems come from. The parts share no problem."""

    TRAIN = "train"
    DEV = "dev"
    UNSEEN = "unseen"


@dataclass(frozen=True, slots=True)
class Task:
    """A named, versioned set of problems. The version rises with any edit that can change a score.

    `source` turns a seed into problems, endless or not, possibly with repeated prompts, the same for the same seed on
    every machine. `wrong` makes from a problem a response that its verifier must reject. `max_new_tokens` is what a
    response to it needs at most.
    """

    name: str
    version: int
    role: TaskRole
    split: Split
    max_new_tokens: int
    description: str
    source: Callable[[int], Iterable[Problem]]
    wrong: Callable[[Problem], str]

    def problems(self, count: int, seed: int) -> list[Problem]:
        """The first `count` problems of the source with distinct prompts, or a UserError where it has fewer."""
        if count < 0:
            raise UserError(f"The number of problems must not be negative, but is {count}.")
        found: dict[Conversation, Problem] = {}
        repeats = 0
        for problem in self.source(seed) if count else ():
            repeats = repeats + 1 if problem.messages in found else 0
            found.setdefault(problem.messages, problem)
            if len(found) == count or repeats > MAX_CONSECUTIVE_REPEATS:
                break
        if len(found) < count:
            raise UserError(
                f"The task '{self.name}' gave only {len(found)} distinct prompts, but {count} were asked for.",
                f"Ask for at most {len(found)}.",
            )
        return list(found.values())

    def check(self, problems: Iterable[Problem]) -> None:
        """An AssertionError unless every gold answer is accepted, and a wrong one rejected, by the verifier."""
        for problem in problems:
            self._expect(problem, problem.gold, "gold", (Outcome.CORRECT,))
            self._expect(problem, self.wrong(problem), "wrong", (Outcome.WRONG, Outcome.UNPARSEABLE))

    def _expect(self, problem: Problem, response: str, kind: str, outcomes: tuple[Outcome, ...]) -> None:
        verdict: Verdict = verify(response, problem.verifier, problem.target)
        if verdict.outcome not in outcomes:
            raise AssertionError(f"{problem.id}: the {kind} answer {response!r} is judged {verdict}")
