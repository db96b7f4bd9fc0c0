"""Which answers make a pair, and why some prompts make none."""

from collections import Counter

import pytest

from cameleer.core.pairs import PreferencePair
from cameleer.core.types import Message
from cameleer.model.pool import Answer
from cameleer.prefs.pairs import NoPair, Score, make_pair
from cameleer.prefs.prompts import Prompt
from cameleer.prefs.responses import Slot

PLAIN = Prompt("1", "p", (Message("user", "Hi"),))
RELAXED = Prompt("1", "p", (Message("user", "Hi"),), relaxed=(Message("user", "H"),))


def pair_of(
    texts: list[str | None], scores: list[Score], cut_off: tuple[int, ...] = (), prompt: Prompt = PLAIN, seed: int = 0
) -> PreferencePair | NoPair:
    slots = [Slot(0, prompt, n, f"m{n}", 0, prompt.relaxed is not None and n % 2 == 1) for n in range(len(texts))]
    answers = [Answer(text, "length" if n in cut_off else "stop") for n, text in enumerate(texts)]
    return make_pair(prompt, slots, answers, scores, seed)


def test_the_best_rated_is_chosen_and_any_lower_one_rejected() -> None:
    rejected = Counter[str]()
    for seed in range(600):
        pair = pair_of(["a", "b", "c", "d"], [3.0, 4.5, 4.5, 1.0], seed=seed)
        assert isinstance(pair, PreferencePair)
        assert pair.chosen in ("b", "c") and pair.chosen_score == 4.5
        rejected[pair.rejected] += 1
    # Each of the two lower ones in about half of the 600 draws: 5 standard deviations are 61.
    assert rejected.keys() == {"a", "d"} and abs(rejected["a"] - 300) < 61


def test_a_pair_says_where_it_comes_from() -> None:
    pair = pair_of(["a", "b"], [1.0, 2.0])
    assert pair == PreferencePair("1", "p", PLAIN.messages, "b", "a", 2.0, 1.0, "m1", "m0")


@pytest.mark.parametrize(
    ("texts", "scores", "cut_off", "reason"),
    [
        (["a"], [1.0], (), NoPair.FEW_ANSWERS),
        (["a", None], [1.0, None], (), NoPair.FEW_ANSWERS),
        (["a", " \n"], [1.0, 0.0], (), NoPair.FEW_ANSWERS),
        (["a", "b"], [1.0, None], (), NoPair.NOT_RATED),
        (["a", "b"], [None, None], (), NoPair.NOT_RATED),
        (["a", "b"], [2.0, 2.0], (), NoPair.TIE),
        (["a", "b"], [2.0, 1.0], (0, 1), NoPair.CUT_OFF),
        (["a", "b"], [2.0, 1.0], (0,), NoPair.TIE),
        (["a", "a"], [2.0, 1.0], (), NoPair.IDENTICAL),
    ],
)
def test_a_prompt_without_two_different_rated_answers_makes_no_pair(
    texts: list[str | None], scores: list[Score], cut_off: tuple[int, ...], reason: NoPair
) -> None:
    assert pair_of(texts, scores, cut_off) is reason


def test_an_answer_that_was_cut_off_is_rejected_but_never_chosen() -> None:
    pair = pair_of(["a", "b", "c"], [5.0, 3.0, 1.0], cut_off=(0, 2))
    assert isinstance(pair, PreferencePair) and (pair.chosen, pair.rejected) == ("b", "c")


def test_of_a_relaxed_prompt_answers_to_the_whole_are_chosen_and_to_the_relaxed_rejected() -> None:
    pair = pair_of(["whole", "relaxed", "whole too", "relaxed too"], [1.0, 0.0, 0.0, 1.0], prompt=RELAXED)
    assert isinstance(pair, PreferencePair)
    assert (pair.chosen, pair.rejected, pair.prompt) == ("whole", "relaxed", RELAXED.messages)
    assert pair_of(["whole", "relaxed"], [0.0, 1.0], prompt=RELAXED) is NoPair.TIE
