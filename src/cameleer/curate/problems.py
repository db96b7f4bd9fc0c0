"""Problems with verifiers, for preference synthesis and reinforcement learning: apart from what is trained on.

No problem's prompt is that of a conversation of the mixture or of an earlier problem: what a model has been shown the
answer to says little about what it can do.

A dataset or file of problems has the columns of Tülu's (allenai/RLVR-GSM-MATH-IF-Mixed-Constraints):

    messages         the prompt, one user turn or more
    dataset          which verifier judges, and the problem's task: gsm8k -> number, math -> math (in any case),
                     ifeval -> ifeval_function
    ground_truth     the verifier's target: the answer, or for ifeval the function with its arguments as JSON
    constraint_type  the problem's family, if there is such a column

A row that is none is an error: a verifier without a sound target would reward chance. ifeval's rows name no accepted
answer, so their `gold` is empty.
"""

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

from cameleer.core.errors import UserError, did_you_mean
from cameleer.core.problems import PROBLEMS
from cameleer.core.prompt_range import in_range
from cameleer.core.types import Conversation, Problem
from cameleer.curate.config import ProblemSource, Source
from cameleer.curate.formats import Format, RowError, convert
from cameleer.curate.sources import Row, open_source
from cameleer.tasks import find_task
from cameleer.verify import verify


class _Kind(NamedTuple):
    """What a value of the column `dataset` means: its verifier, and a response that it accepts, % being the target."""

    verifier: str
    gold: str


_KINDS = {
    "gsm8k": _Kind("number", "%"),
    "math": _Kind("math", "\\boxed{%}"),
    "ifeval": _Kind("ifeval_function", ""),
}


class SeenPrompts:
    """Prompts that are taken, as 16 bytes each, and which sources gave them."""

    def __init__(self) -> None:
        self._sources: dict[bytes, int] = {}
        """By digest, one bit for each source."""
        self._bits: dict[str, int] = {}
        self.shared: Counter[tuple[str, str]] = Counter()
        """Distinct prompts that two sources gave, in the order in which the sources were met."""

    def add(self, messages: Conversation, source: str = "") -> bool:
        """Take the prompt of a conversation, all up to its last answer; False if it was taken before."""
        prompt = messages[:-1] if messages and messages[-1].role == "assistant" else messages
        digest = blake2b(repr([(each.role, each.content) for each in prompt]).encode(), digest_size=16).digest()
        bit = self._bits.setdefault(source, 1 << len(self._bits))
        before = self._sources.get(digest, 0)
        if not before & bit:
            self._sources[digest] = before | bit
            if before:
                self._note(source, before)
        return before == 0

    def _note(self, source: str, before: int) -> None:
        for other, bit in self._bits.items():
            if before & bit:
                pair = (other, source) if self._bits[other] < self._bits[source] else (source, other)
                self.shared[pair] += 1


def draw_problems(
    sources: Sequence[ProblemSource],
    seed: int,
    seen: SeenPrompts,
    files: Mapping[str, Path],
    left_out: Counter[str],
) -> Iterator[Problem]:
    """The problems of all sources in order. `files` are those of this machine by role; `left_out` counts by source the
    prompts of datasets and files that are in the mixture or came before.

    Raises UserError where a source has too few new ones, or a row that is no problem.
    """
    for source in sources:
        if source.task is not None:
            yield from _drawn(source, source.task, seed, seen)
        elif source.problems is not None:
            where = f"problems '{source.name}' ({files[source.role]})"
            every = [each for each in PROBLEMS.read(files[source.role]) if in_range(each.messages, source.prompt_range)]
            yield from _new(source, every, where, seed, seen, left_out)
        else:
            yield from _recorded(source, files.get(source.role), seed, seen, left_out)


def _drawn(source: ProblemSource, name: str, seed: int, seen: SeenPrompts) -> list[Problem]:
    """The first new problems of a task."""
    task, taken, looked_at = find_task(name), list[Problem](), 0
    count = asked = source.count or 0
    while len(taken) < count:
        try:
            problems = task.problems(asked, seed)
        except UserError as failure:
            raise UserError(f"problems of task '{name}': {failure.what}", failure.hint) from None
        new = [problem for problem in problems[looked_at:] if seen.add(problem.messages)]
        taken += new[: count - len(taken)]
        if len(problems) < asked and len(taken) < count:
            raise UserError(
                f"problems of task '{name}': only {len(taken)} of its {len(problems)} prompts are not in the mixture, "
                f"but {count} were asked for.",
                "Ask for fewer, or take fewer of them into the mixture.",
            )
        looked_at, asked = len(problems), asked + count - len(taken)
    return taken


def _recorded(
    source: ProblemSource, path: Path | None, seed: int, seen: SeenPrompts, left_out: Counter[str]
) -> list[Problem]:
    """The new problems of a dataset or file."""
    origin = Source(
        name=source.name,
        dataset=source.dataset,
        file=source.file,
        split=source.split if source.dataset else None,
        revision=source.revision,
    )
    opened = open_source(origin, path, None, seed)
    where = opened.where.replace("source", "problems", 1)
    problems = (to_problem(row, source.name, where) for row in opened.rows)
    every = [each for each in problems if in_range(each.messages, source.prompt_range)]
    return _new(source, every, where, seed, seen, left_out)


def _new(
    source: ProblemSource, every: list[Problem], where: str, seed: int, seen: SeenPrompts, left_out: Counter[str]
) -> list[Problem]:
    """The new ones of some problems in their order: `count` of them, drawn at random, or all."""
    new = [problem for problem in every if seen.add(problem.messages)]
    left_out[source.name] += len(every) - len(new)
    if not new or len(new) < (source.count or 0):
        raise UserError(
            f"{where}: only {len(new)} of its {len(every)} prompts are neither in the mixture nor came before, but "
            f"{source.count or 'some'} were asked for.",
            "Ask for fewer, or take fewer of them into the mixture.",
        )
    if source.count is None:
        return new
    chosen = random.Random(f"{seed}/problems/{source.name}").sample(range(len(new)), source.count)
    return [new[index] for index in sorted(chosen)]


def to_problem(row: Row, source: str, where: str) -> Problem:
    """The problem of a row in Tülu's format. Raises UserError for one that is none."""
    if row.value is None:
        raise UserError(f"{where}: row {row.number}: {row.problem}.", "Repair or remove the row.")
    try:
        return _problem(row.value, f"{source}/{row.number}")
    except (RowError, UserError) as failure:
        why = failure.what if isinstance(failure, UserError) else f"{failure.reason}."
        raise UserError(f"{where}: row {row.number}: {why}", "Repair or remove the row.") from None


def _problem(value: Mapping[str, Any], id: str) -> Problem:
    dataset, target, family = (value.get(column) for column in ("dataset", "ground_truth", "constraint_type"))
    task = str(dataset).lower()
    if task not in _KINDS:
        raise UserError(f"unknown dataset '{dataset}'.{did_you_mean(task, _KINDS)} Known: {', '.join(_KINDS)}.")
    if not isinstance(target, str):
        raise UserError("ground_truth is not a text.")
    kind = _KINDS[task]
    gold = kind.gold.replace("%", target)
    # For its complaint about a malformed target; what it says of the answer is not needed.
    verify(gold, kind.verifier, target)
    return Problem(id, task, str(family or ""), _prompt(value), kind.verifier, target, gold)


def _prompt(value: Mapping[str, Any]) -> Conversation:
    """The turns of a row, which end with the user's: checked as those of a conversation that goes on with an answer."""
    turns = value.get("messages")
    answered = [*turns, {"role": "assistant", "content": "-"}] if isinstance(turns, list) else turns
    return convert({"messages": answered}, Format(messages="messages"))[:-1]
