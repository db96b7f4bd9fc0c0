"""From rated answers to a pair: the best-rated is chosen, one rated lower is rejected (Tülu 3 report, §5.2.1).

    chosen      one of those with the highest rating among the answers that ended by themselves
    rejected    one of those rated strictly lower, any

Both are drawn uniformly, by the seed and the prompt. Departures from the released code: it takes the first of equals as
chosen and may reject an equal one; here a tie makes no pair. An answer that was cut off at its limit would be trained
with an end that the model never wrote, so it is not chosen; empty answers are in no pair.
"""

import random
from collections.abc import Sequence
from enum import StrEnum

from cameleer.core.pairs import PreferencePair
from cameleer.model.pool import CUT_OFF, Answer
from cameleer.prefs.prompts import Prompt
from cameleer.prefs.responses import Slot

Score = float | None
"""A rating; None where it is missing."""


class NoPair(StrEnum):
    """Why a prompt makes no pair."""

    FEW_ANSWERS = "fewer than two answers"
    NOT_RATED = "fewer than two ratings"
    CUT_OFF = "all answers that could be chosen are cut off"
    TIE = "tie"
    IDENTICAL = "identical answers"


def is_usable(answer: Answer) -> bool:
    """Whether an answer can be in a pair: it is there and not blank."""
    return answer.text is not None and bool(answer.text.strip())


def make_pair(
    prompt: Prompt, slots: Sequence[Slot], answers: Sequence[Answer], scores: Sequence[Score], seed: int
) -> PreferencePair | NoPair:
    """The pair of a prompt, or why it has none. All sequences are in the order of places."""
    usable = [place for place, answer in enumerate(answers) if is_usable(answer)]
    if len(usable) < 2:
        return NoPair.FEW_ANSWERS
    rated = {place: score for place in usable if (score := scores[place]) is not None}
    may_win, may_lose = list(rated), list(rated)
    if prompt.relaxed is not None:
        may_win = [place for place in rated if not slots[place].relaxed]
        may_lose = [place for place in rated if slots[place].relaxed]
    if len(rated) < 2 or not may_win or not may_lose:
        return NoPair.NOT_RATED
    may_win = [place for place in may_win if answers[place].finish_reason != CUT_OFF]
    if not may_win:
        return NoPair.CUT_OFF
    rng = random.Random(f"{seed}/pair/{prompt.key}")
    best = max(rated[place] for place in may_win)
    chosen = rng.choice([place for place in may_win if rated[place] == best])
    lower = [place for place in may_lose if rated[place] < best]
    if not lower:
        return NoPair.TIE
    different = [place for place in lower if answers[place].text != answers[chosen].text]
    if not different:
        return NoPair.IDENTICAL
    rejected = rng.choice(different)
    return PreferencePair(
        prompt.id,
        prompt.source,
        prompt.messages,
        str(answers[chosen].text),
        str(answers[rejected].text),
        rated[chosen],
        rated[rejected],
        slots[chosen].model,
        slots[rejected].model,
    )
