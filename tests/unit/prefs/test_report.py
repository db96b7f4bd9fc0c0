"""The report's figures, derived by hand, and when a judge is flagged."""

import math
import random
from collections.abc import Sequence

import pytest

from cameleer.core.types import Message
from cameleer.model.pool import Answer
from cameleer.prefs.pairs import NoPair, Score
from cameleer.prefs.prompts import Prompt
from cameleer.prefs.ratings import Judged, Shown
from cameleer.prefs.report import Row, agreement, judge_facts, lean
from cameleer.prefs.responses import Slot


def row(
    lengths: Sequence[int],
    scores: Sequence[Score],
    models: str = "abcdefgh",
    shown: Sequence[Shown] = (),
    other: Sequence[Score] | None = None,
) -> Row:
    prompt = Prompt("1", "p", (Message("user", "?"),))
    slots = [Slot(0, prompt, place, models[place], 0, False) for place in range(len(lengths))]
    answers = [Answer("x" * length, "stop") for length in lengths]
    judged = {"judge": Judged(tuple(scores), tuple(shown))}
    if other is not None:
        judged["other"] = Judged(tuple(other))
    return Row(prompt, slots, answers, judged, NoPair.TIE)


def test_wins_are_counted_against_other_models_only() -> None:
    """Models a, a, b with 3, 1, 1: a wins once and ties once; a against a does not count."""
    wins = judge_facts("judge", [row([1, 1, 1], [3.0, 1.0, 1.0], "aab")]).wins
    assert (wins["a"].won, wins["a"].tied, wins["a"].lost, wins["a"].rate) == (1, 1, 0, 0.75)
    assert (wins["b"].won, wins["b"].tied, wins["b"].lost, wins["b"].rate) == (0, 1, 1, 0.25)
    assert wins["a"].mean_score == 2.0 and wins["b"].mean_score == 1.0


def test_missing_ratings_are_counted_and_in_no_mean() -> None:
    facts = judge_facts("judge", [row([1, 2, 0], [4.0, None, None])])
    # The empty answer is not one that could have been rated.
    assert (facts.num_rated, facts.num_missing) == (1, 1) and facts.wins["a"].mean_score == 4.0
    assert "b" not in facts.wins


def test_correlation_is_within_prompts() -> None:
    """Lengths 1, 3 and 100, 102; scores 5, 1 and 3, 1. Less their means: (−1, 2), (1, −2), (−1, 1), (1, −1).

    r = (−2 − 2 − 1 − 1) / √(4 · 10) = −6 / √40, whatever the prompts' own levels are.
    """
    facts = judge_facts("judge", [row([1, 3], [5.0, 1.0]), row([100, 102], [3.0, 1.0])])
    assert facts.correlation == pytest.approx(-6 / math.sqrt(40))


def test_the_longer_wins_where_lengths_and_scores_differ() -> None:
    """Of three answers of 1, 2, 2 characters with 1, 3, 2: the longer wins both pairs that differ: 1 − ½."""
    three = [row([1, 2, 2], [1.0, 3.0, 2.0])] * 2
    neither = [row([5, 5], [1.0, 2.0]), row([1, 2], [1.0, 1.0])]
    facts = judge_facts("judge", three + neither)
    assert (facts.length.mean, facts.length.num_prompts) == (0.5, 2)
    two = judge_facts("judge", [row([1, 2], [1.0, 3.0]), row([2, 1], [1.0, 3.0])])
    assert (two.length.mean, two.length.num_prompts) == (0.0, 2)


def test_places_and_consistency() -> None:
    """Orders (0, 1) and (1, 0). First prompt: 0 best in both, so first once and last once, and consistent.

    Second prompt: the one shown first is best in both, so +½ at the first place, and its pair flips. A tie counts for
    neither.
    """
    honest = [Shown((0, 1), (5.0, 1.0)), Shown((1, 0), (1.0, 5.0))]
    leaning = [Shown((0, 1), (5.0, 1.0)), Shown((1, 0), (5.0, 1.0))]
    tied = [Shown((0, 1), (3.0, 3.0)), Shown((1, 0), (3.0, 1.0))]
    rows = [row([1, 1], [3.0, 3.0], shown=shown) for shown in (honest, leaning, tied)]
    facts = judge_facts("judge", rows[:2])
    assert (facts.consistency, facts.num_swapped) == (0.5, 2)
    assert (facts.first.mean, facts.last.mean, facts.first.num_prompts) == (0.25, -0.25, 2)
    third = judge_facts("judge", rows)
    assert third.num_swapped == 2 and third.first.mean == pytest.approx((0 + 0.5 + 0.5) / 3)


def test_agreement_is_over_comparisons_that_both_decide() -> None:
    """Scores 1, 2, 3 and 1, 3, 2: (0, 1) and (0, 2) alike, (1, 2) not; a missing and a tied one are left out."""
    assert agreement("judge", "other", [row([1] * 3, [1.0, 2.0, 3.0], other=[1.0, 3.0, 2.0])]) == (2, 3)
    assert agreement("judge", "other", [row([1] * 3, [1.0, 2.0, None], other=[2.0, 2.0, 5.0])]) == (0, 0)


def test_a_leans_p_value_is_that_of_the_sum_without_a_lean() -> None:
    """½ (60 times) and −½ (40): the sum is 10, its spread without a lean √(100 · ¼) = 5, so z = 2."""
    found = lean([0.5] * 60 + [-0.5] * 40)
    assert found.mean == pytest.approx(0.1) and found.p_value == pytest.approx(0.0455, abs=1e-4)
    assert lean([0.0] * 50).p_value == 1.0 and lean([]).num_prompts == 0


def test_a_places_variance_is_that_of_its_chance() -> None:
    """Best of four never first in 48 prompts: the sum is −12, its spread √(48 · 3/16) = 3, so z = −4."""
    facts = judge_facts("judge", [row([1] * 4, [1, 2, 3, 4], shown=[Shown((0, 1, 2, 3), (1, 2, 3, 4))])] * 48)
    assert facts.first.mean == -0.25 and facts.first.p_value == pytest.approx(math.erfc(4 / math.sqrt(2)))


def test_few_prompts_and_small_leans_are_not_flagged() -> None:
    strong = [Shown((0, 1), (5.0, 1.0))]
    assert not list(judge_facts("judge", [row([1, 1], [5.0, 1.0], "ab", strong)] * 19).flags())
    assert list(judge_facts("judge", [row([1, 1], [5.0, 1.0], "ab", strong)] * 20).flags())


def test_fair_judges_are_not_flagged() -> None:
    """40 prompts with four answers in shuffled places, scores without meaning: no flag in a hundred runs.

    By their own spread for variance, a place was flagged in the first few runs.
    """
    rng = random.Random(1)
    for _ in range(100):
        rows: list[Row] = []
        for _ in range(40):
            scores = [rng.random() for _ in range(4)]
            models = "".join(rng.sample("abcd", 4))
            shown = [Shown((0, 1, 2, 3), tuple(scores))]
            rows.append(row([rng.randrange(1, 90) for _ in range(4)], scores, models, shown))
        assert not list(judge_facts("judge", rows).flags())
