"""What a score is worth: intervals of one model's accuracy, the difference of two models on the same items.

    Wilson 95%   (p + z²/2n ± z √(p(1−p)/n + z²/4n²)) / (1 + z²/n), z = 1.95996        Wilson 1927, score interval
    paired 95%   2.5% and 97.5% quantiles of the mean difference over resampled items   Efron 1979, percentile bootstrap
    sign test    min(1, 2 P(X ≤ min(wins, losses))), X ~ Binomial(wins + losses, ½)     McNemar 1947, exact

A difference is taken over items, not over the two accuracies: items that both models solve, or neither, carry no
noise about which of the two is better, so the paired interval is narrower than two separate ones suggest.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Z_95 = 1.959963984540054
"""The 97.5% quantile of the standard normal distribution."""
QUANTILES_95 = (0.025, 0.975)
RESAMPLES = 10_000
RESAMPLES_PER_CHUNK = 500


@dataclass(frozen=True, slots=True)
class Interval:
    """A 95% interval."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """How much better one model scores than another on the same items; `wins` of the first, `losses` of the first."""

    difference: float
    interval: Interval
    p_value: float
    num_items: int
    wins: int
    losses: int


def wilson_interval(successes: float, total: int) -> Interval:
    """The Wilson score interval of a proportion; [0, 1] when there are no items.

    `successes` may also be a sum of scores between 0 and 1: their variance is at most p(1−p), so the interval is then
    wider than needed, never narrower.
    """
    assert 0 <= successes <= total, (successes, total)
    if total == 0:
        return Interval(0.0, 1.0)
    p, z2 = successes / total, Z_95**2
    centre = p + z2 / (2 * total)
    half = Z_95 * math.sqrt(p * (1 - p) / total + z2 / (4 * total**2))
    scale = 1 + z2 / total
    return Interval(max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale))


def paired_difference(first: Sequence[float], second: Sequence[float], seed: int) -> PairedDifference:
    """The mean of `first − second` over items, with its bootstrap interval and the sign test's p-value.

    The two hold the scores of the same items in the same order. Without items the difference is 0 within [−1, 1].
    """
    assert len(first) == len(second), (len(first), len(second))
    differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    wins, losses = int((differences > 0).sum()), int((differences < 0).sum())
    total = len(differences)
    return PairedDifference(
        difference=float(differences.mean()) if total else 0.0,
        interval=_bootstrap_mean(differences, seed) if total else Interval(-1.0, 1.0),
        p_value=sign_test(wins, losses),
        num_items=total,
        wins=wins,
        losses=losses,
    )


def _bootstrap_mean(values: NDArray[Any], seed: int) -> Interval:
    """The percentile interval of the mean.

    A mean depends only on how often each distinct value is drawn, and those counts are multinomial; right and wrong
    answers give three distinct differences, so a resample costs three numbers instead of one per item.
    """
    generator = np.random.default_rng(seed)
    distinct, counts = np.unique(values, return_counts=True)
    total = len(values)
    means = np.empty(RESAMPLES)
    for start in range(0, RESAMPLES, RESAMPLES_PER_CHUNK):
        drawn = generator.multinomial(total, counts / total, size=RESAMPLES_PER_CHUNK)
        means[start : start + RESAMPLES_PER_CHUNK] = drawn @ distinct / total
    low, high = np.quantile(means, QUANTILES_95)
    return Interval(float(low), float(high))


def sign_test(wins: int, losses: int) -> float:
    """The two-sided exact p-value of `wins` against `losses` if both were equally likely; 1 when there are neither."""
    total, fewer = wins + losses, min(wins, losses)
    tail = sum(math.comb(total, k) for k in range(fewer + 1))
    # Integers until the end: for many items both sides of the quotient overflow a float.
    return min(1.0, 2 * tail / 2**total)


def macro_mean(scores: Sequence[float]) -> float:
    """The mean over tasks, each counting the same however many items it has. NaN without tasks is refused."""
    assert scores, "a mean over no tasks"
    return math.fsum(scores) / len(scores)
