"""Parts of a pool of prompts: a prompt is in the same part for fine-tuning, preferences and reinforcement learning.

A prompt's position in [0, 1) is a hash of its words, and a part is a range of positions. So ranges that do not meet
share no prompt, whatever the rows' sources, order, answers and rules are.
"""

from hashlib import blake2b
from typing import Annotated

from pydantic import AfterValidator

from cameleer.core.types import Conversation
from cameleer.core.words import composed, plain, words


def _checked(value: tuple[float, float] | None) -> tuple[float, float] | None:
    if value is not None and not 0 <= value[0] < value[1] <= 1:
        raise ValueError("a prompt_range is [from, to) within 0 and 1, such as [0.6, 0.8]")
    return value


PromptRange = Annotated[tuple[float, float] | None, AfterValidator(_checked)]
"""A part of all prompts, [from, to); None is all."""


def in_range(messages: Conversation, part: PromptRange) -> bool:
    """Whether a conversation's prompt falls into a part of the pool."""
    return part is None or part[0] <= prompt_position(messages) < part[1]


def share_of(part: PromptRange) -> float:
    """The share of a large pool that falls into a part."""
    return 1.0 if part is None else part[1] - part[0]


def prompt_position(messages: Conversation) -> float:
    """Where in [0, 1) a conversation's prompt falls: a hash of its first user turn's words.

    The same in every source, stage and recipe, whatever the answer, the system turn, case, spaces and marks; and
    whichever rules have changed the text: it is taken as if all had.
    """
    first = next((turn.content for turn in messages if turn.role == "user"), "")
    # In this order: without what stands between a letter and its accent, they are one character.
    canonical = composed(plain(first))
    digest = blake2b(b" ".join(words(canonical)), digest_size=8, person=b"prompt").digest()
    # 53 bits are what a float holds, so that no prompt is rounded up to 1.
    return (int.from_bytes(digest, "big") >> 11) / (1 << 53)
