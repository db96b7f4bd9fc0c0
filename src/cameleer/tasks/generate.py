"""What the problem generators share: splits, identities, seeds and the wording around a question."""

import json
import random
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

from cameleer.core.types import Conversation, Message, Problem
from cameleer.tasks.task import Split

DEV_SHARE = 10
"""One in so many questions belongs to dev, the others to train."""

SHARE_OF_LONGER_CONVERSATIONS = 0.15
"""The proportion of conversations that have a system turn or an earlier exchange."""

NEXT_QUESTION = (
    "Thanks! Next one: {}",
    "Now this one: {}",
    "Here is another one: {}",
    "Good. And this one? {}",
    "Thank you. One more: {}",
)
"""How a user turns to a second question."""


class Count(int):
    """A whole number that can name what it counts: `f"{Count(3):bag}"` is `3 bags`, and `1 bag` for 1."""

    def __format__(self, noun: str) -> str:
        return f"{int(self)} {noun}{'' if self == 1 else 's'}" if noun else str(int(self))


def enumerated(noun: str, items: Sequence[str]) -> str:
    """Items in quotes behind what they are: `word "a"`, `words "a", "b" and "c"`."""
    quoted = [f'"{item}"' for item in items]
    return f"{noun} {quoted[0]}" if len(quoted) == 1 else f"{noun}s {', '.join(quoted[:-1])} and {quoted[-1]}"


def split_of(question: str) -> Split:
    """Train or dev, by a hash of the question: the same on every machine and under every seed."""
    digest = blake2b(question.encode(), digest_size=8).digest()
    return Split.DEV if int.from_bytes(digest, "big") % DEV_SHARE == 0 else Split.TRAIN


def seeded(task: str, seed: int) -> random.Random:
    """The random stream of a task under a seed; those of two tasks are unrelated."""
    return random.Random(f"{task}/{seed}")


def dialogue(turns: Sequence[str], system: str | None = None) -> Conversation:
    """A conversation of alternating turns that a user begins, after a system turn where one is given."""
    spoken = tuple(Message("assistant" if i % 2 else "user", text) for i, text in enumerate(turns))
    return spoken if system is None else (Message("system", system), *spoken)


def make_problem(
    task: str, family: str, messages: Conversation, answer: tuple[str, Any, str], metadata: dict[str, Any]
) -> Problem:
    """A problem whose id is a digest of its messages. `answer` is (verifier, target, gold)."""
    text = json.dumps([[message.role, message.content] for message in messages])
    digest = blake2b(text.encode(), digest_size=8).hexdigest()
    verifier, target, gold = answer
    return Problem(f"{task}/{digest}", task, family, messages, verifier, target, gold, metadata)
