"""What is asked: problems as prompts of token ids, those held out, and the order in which training takes the others.

    place 0, 1, 2, … of the whole run  ->  a prompt          step s takes the places after those of step s - 1

Without weights each epoch is a new order of all problems. With weights every task has epochs of its own, and each place
goes to the task that is furthest behind its share. Both are functions of the seed alone, so a resumed run needs no
stored state to lose and repeat no prompt.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np

from cameleer.core.errors import UserError, did_you_mean
from cameleer.core.problems import PROBLEMS
from cameleer.core.render import Renderer
from cameleer.core.types import Problem
from cameleer.verify.verifiers import find_verifier

HOLD_OUT = 0xE7A1
"""Sets the draw of what is held out apart from the orders of epochs."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A problem and the ids after which its answer begins."""

    problem: Problem
    ids: tuple[int, ...]


def load_prompts(folder: Path, renderer: Renderer) -> list[Prompt]:
    """The problems of an artifact as prompts. Raises UserError for one whose verifier is unknown."""
    return as_prompts(list(PROBLEMS.read(folder)), renderer, str(folder))


def as_prompts(problems: Sequence[Problem], renderer: Renderer, where: str) -> list[Prompt]:
    """Problems rendered, prefixes of the assistant's turn included. Raises UserError, which begins with `where`, for
    one that no verifier can judge."""
    for verifier, problem in {problem.verifier: problem for problem in problems}.items():
        try:
            find_verifier(verifier)
        except UserError as error:
            raise UserError(f"{where}: problem {problem.id}: {error.what}", error.hint) from None
    return [Prompt(each, (*renderer.prompt(each.messages), *renderer.continuation(each.prefix))) for each in problems]


def within(prompts: Sequence[Prompt], max_tokens: int) -> list[Prompt]:
    """The prompts of at most `max_tokens` tokens."""
    return [prompt for prompt in prompts if len(prompt.ids) <= max_tokens]


def hold_out(prompts: Sequence[Prompt], num_held_out: int, seed: int) -> tuple[list[Prompt], list[Prompt]]:
    """(to train on, held out): a random part of the problems, the same for a seed; both in the order given."""
    chosen = set(np.random.default_rng([seed, HOLD_OUT]).permutation(len(prompts))[:num_held_out].tolist())
    trained = [prompt for row, prompt in enumerate(prompts) if row not in chosen]
    return trained, [prompts[row] for row in sorted(chosen)]


class PromptOrder:
    """Which prompt stands at each place. `easy_first` gives a rank by which every epoch is ordered, lowest first."""

    def __init__(
        self,
        prompts: Sequence[Prompt],
        weights: Mapping[str, float],
        seed: int,
        easy_first: Sequence[float] | None = None,
    ) -> None:
        self._seed, self._easy_first = seed, easy_first
        self._taken: list[int] = []
        rows_of: defaultdict[str, list[int]] = defaultdict(list)
        for row, prompt in enumerate(prompts):
            rows_of[prompt.problem.task if weights else ""].append(row)
        for task in weights:
            if task not in rows_of:
                raise UserError(
                    f"task_weights: there are no problems of task '{task}'.{did_you_mean(task, rows_of)}",
                    f"Tasks with problems: {', '.join(sorted(rows_of))}.",
                )
        if weights and (unnamed := sorted(rows_of.keys() - weights)):
            raise UserError(
                f"task_weights: there are problems of {', '.join(unnamed)}, which have no weight.",
                "Give every task one, or leave its problems out of the mixture.",
            )
        # Sorted: the order of a table's keys, by which ties would go, is no part of a recipe.
        self._shares = {task: weights[task] / sum(weights.values()) for task in sorted(weights)} or {"": 1.0}
        self._streams = {task: self._endless(rows_of[task], number) for number, task in enumerate(self._shares)}
        self.num_prompts = sum(len(rows_of[task]) for task in self._shares)
        self._given = dict.fromkeys(self._shares, 0)

    def row(self, place: int) -> int:
        """The index of the prompt at a place."""
        while len(self._taken) <= place:
            due = len(self._taken) + 1
            task = max(self._shares, key=lambda each: self._shares[each] * due - self._given[each])
            self._given[task] += 1
            self._taken.append(next(self._streams[task]))
        return self._taken[place]

    def _endless(self, rows: list[int], stream: int) -> Iterator[int]:
        for epoch in count():
            order = [rows[each] for each in np.random.default_rng([self._seed, stream, epoch]).permutation(len(rows))]
            rank = self._easy_first
            yield from order if rank is None else sorted(order, key=rank.__getitem__)
