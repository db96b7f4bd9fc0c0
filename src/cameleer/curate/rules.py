r"""Rules on text: some change a conversation, some drop it. Each has the name of its setting.

In this order, each on what the one before left, the first that drops a row being its reason:

    unicode             changes: Unicode normalisation form C (`core.words.composed`)
    control_characters  changes: no control characters but tab and newline, which ends every line (`core.words.plain`)
    min_words           drops: fewer words in all turns together (`core.words`)
    max_words           drops: more
    keywords            drops: an assistant's turn holds one of them, in any case, as a whole word or phrase
    refusals            drops: an assistant's turn begins as refusals do (`verify.refusal`, English)
    max_repeated        drops: in an assistant's turn, repeated(turn) is larger
    languages           drops: the conversation's language is none of these; one that cannot be told stays (`language`)

    repeated(turn) = 1 - distinct runs of 5 words / runs of 5 words, of turns with at least 50 words

Roles, order and empty turns are no rules but what a conversation is (`formats`); a turn that a change leaves empty
drops its row as any empty turn does.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache

from cameleer.core.types import Conversation
from cameleer.core.words import closed, composed, plain, words
from cameleer.curate.config import Rules
from cameleer.curate.language import language_of
from cameleer.verify.refusal import is_refusal_by_keywords

RUN_WORDS = 5
MIN_WORDS_TO_REPEAT = 50

CHANGES: dict[str, Callable[[str], str]] = {"unicode": composed, "control_characters": plain}
"""By rule, what becomes of a turn's text."""


def changed(conversation: Conversation, rules: Rules) -> tuple[Conversation, list[str]]:
    """The conversation after the rules that change it, and the names of those that did."""
    names: list[str] = []
    for name, change in CHANGES.items():
        if getattr(rules, name):
            texts = [change(turn.content) for turn in conversation]
            if any(text != turn.content for text, turn in zip(texts, conversation, strict=True)):
                conversation = tuple(
                    replace(turn, content=text) for text, turn in zip(texts, conversation, strict=True)
                )
                names.append(name)
    return conversation, names


def objection(conversation: Conversation, rules: Rules) -> str | None:
    """Why the rules drop a conversation, beginning with the rule's name; None for one that stays."""
    return next(_objections(conversation, rules), None)


def _objections(conversation: Conversation, rules: Rules) -> Iterator[str]:
    if rules.min_words is not None or rules.max_words is not None:
        count = num_words(conversation)
        if rules.min_words is not None and count < rules.min_words:
            yield f"min_words: fewer than {rules.min_words}"
        if rules.max_words is not None and count > rules.max_words:
            yield f"max_words: more than {rules.max_words}"
    answers = [turn.content for turn in conversation if turn.role == "assistant"]
    if rules.keywords:
        for answer in answers:
            if (found := _keywords(rules.keywords).search(answer)) is not None:
                yield f"keywords: '{_as_written(found[0], rules.keywords)}'"
    if rules.refusals and any(map(is_refusal_by_keywords, answers)):
        yield "refusals"
    if rules.max_repeated is not None and any(repeated(answer) > rules.max_repeated for answer in answers):
        yield f"max_repeated: more than {rules.max_repeated:g}"
    if rules.languages:
        language = conversation_language(conversation)
        if language is not None and language not in rules.languages:
            yield f"languages: {language}"


def num_words(conversation: Conversation) -> int:
    # Each turn is closed by one more.
    return len(closed([turn.content for turn in conversation]).split()) - len(conversation)


def conversation_language(conversation: Conversation) -> str | None:
    """The language of what the assistant says, else of all turns."""
    spoken = "\n".join(turn.content for turn in conversation if turn.role == "assistant")
    return language_of(spoken) or language_of("\n".join(turn.content for turn in conversation))


def repeated(text: str) -> float:
    """The share of a text's runs of words that came before in it; 0 of a short text."""
    cut = words(text)
    if len(cut) < MIN_WORDS_TO_REPEAT:
        return 0.0
    runs = [tuple(cut[start : start + RUN_WORDS]) for start in range(len(cut) - RUN_WORDS + 1)]
    return 1 - len(set(runs)) / len(runs)


@cache
def _keywords(some: tuple[str, ...]) -> re.Pattern[str]:
    # The longest first: of two that begin alike the longer is the one that is there.
    ordered = sorted(some, key=len, reverse=True)
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, ordered))})(?!\w)", re.IGNORECASE)


def _as_written(found: str, some: Sequence[str]) -> str:
    """The keyword as the recipe writes it, so that one keyword is one reason."""
    return next((each for each in some if each.lower() == found.lower()), found)
