"""Problems with verifiers, for preference synthesis and reinforcement learning: apart from what is trained on.

No problem's prompt is that of a conversation of the mixture or of an earlier problem: what a model has been shown the
answer to says little about what it can do.
"""

from collections.abc import Iterator, Sequence
from hashlib import blake2b

from cameleer.core.errors import UserError
from cameleer.core.types import Conversation, Problem
from cameleer.curate.config import ProblemSource
from cameleer.tasks import find_task


class SeenPrompts:
    """Prompts that are taken, as 16 bytes each."""

    def __init__(self) -> None:
        self._digests: set[bytes] = set()

    def add(self, messages: Conversation) -> bool:
        """Take the prompt of a conversation, all up to its last answer; False if it was taken before."""
        prompt = messages[:-1] if messages and messages[-1].role == "assistant" else messages
        digest = blake2b(repr([(each.role, each.content) for each in prompt]).encode(), digest_size=16).digest()
        if digest in self._digests:
            return False
        self._digests.add(digest)
        return True


def draw_problems(sources: Sequence[ProblemSource], seed: int, seen: SeenPrompts) -> Iterator[Problem]:
    """The problems of all sources in order. Raises UserError where a task has too few new ones."""
    for source in sources:
        task = find_task(source.task)
        taken: list[Problem] = []
        asked = source.count
        looked_at = 0
        while len(taken) < source.count:
            try:
                problems = task.problems(asked, seed)
            except UserError as failure:
                raise UserError(f"problems of task '{source.task}': {failure.what}", failure.hint) from None
            new = [problem for problem in problems[looked_at:] if seen.add(problem.messages)]
            taken += new[: source.count - len(taken)]
            if len(problems) < asked and len(taken) < source.count:
                raise UserError(
                    f"problems of task '{source.task}': only {len(taken)} of its {len(problems)} prompts are not in "
                    f"the mixture, but {source.count} were asked for.",
                    "Ask for fewer, or take fewer of them into the mixture.",
                )
            looked_at, asked = len(problems), asked + source.count - len(taken)
        yield from taken
