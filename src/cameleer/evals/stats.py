"""What a score is worth: intervals of one model's score, the difference of two models on the same items.

    Wilson 95%   (p + z²/2n ± z √(p(1−p)/n + z²/4n²)) / (1 + z²/n), z = 1.95996        Wilson 1927, score interval
    bootstrap    2.5% and 97.5% quantiles of the score over resampled clusters          Efron 1979, percentile bootstrap
    sign test    min(1, 2 P(X ≤ min(wins, losses))), X ~ Binomial(wins + losses, ½)     McNemar 1947, exact
    Holm         p_(i) · (m − i) of the sorted p_(0) ≤ … ≤ p_(m−1), made non-decreasing  Holm 1979, family-wise error
    pass@k       1 − C(n − c, k) / C(n, k) for c right of n samples                     Chen et al. 2021, unbiased

A difference is taken over items, not over the two scores: items that both models solve, or neither, carry no noise
about which of the two is better, so the paired interval is narrower than two separate ones suggest.

Items that share material (a passage) are a cluster: whole clusters are resampled, and the sign test counts clusters.
Where families count equally, clusters are resampled within their family, with deviations stretched by √(n / (n − 1))
for its n clusters, and the families' means are averaged. With a family of one cluster families are resampled instead.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cameleer.core.interval import Interval, wilson_interval

QUANTILES_95 = (0.025, 0.975)
RESAMPLES = 10_000
TINY = 1e-9


@dataclass(frozen=True, slots=True)
class Sampled:
    """Where a value comes from. Items with one cluster belong to one family; families count equally in a mean.

    A mean in which items count equally has one family for all.
    """

    value: float
    cluster: str
    family: str = ""


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """How much better one model scores than another on the same items; `wins` and `losses` of the first in clusters."""

    difference: float
    interval: Interval
    p_value: float
    num_items: int
    wins: int
    losses: int


def mean_score(items: Sequence[Sampled]) -> float:
    """The mean over families of the mean over their items."""
    families: defaultdict[str, list[float]] = defaultdict(list)
    for item in items:
        families[item.family].append(item.value)
    return macro_mean([math.fsum(values) / len(values) for values in families.values()])


def score_interval(items: Sequence[Sampled], seed: int) -> Interval:
    """The interval of `mean_score` for values in [0, 1]; [0, 1] without items.

    Wilson's where the items are independent, of one family and right or wrong: it holds for few items and at 0 and 1,
    where the bootstrap says nothing. Else the bootstrap's.
    """
    values = [item.value for item in items]
    if not values:
        return Interval(0.0, 1.0)
    independent = len({item.cluster for item in items}) == len(items)
    if independent and len({item.family for item in items}) == 1 and set(values) <= {0.0, 1.0}:
        return wilson_interval(sum(values), len(values))
    return _bootstrap(items, seed)


def paired_difference(
    first: Sequence[float], second: Sequence[float], seed: int, items: Sequence[Sampled] | None = None
) -> PairedDifference:
    """The mean of `first − second` over items, with its bootstrap interval and the sign test's p-value.

    The two hold the scores of the same items in the same order. `items` says which belong together (their values are
    not read); absent: every item is a cluster of its own and counts equally.
    """
    assert len(first) == len(second), (len(first), len(second))
    places = items if items is not None else [Sampled(0.0, str(number)) for number in range(len(first))]
    gained = [
        Sampled(one - other, place.cluster, place.family)
        for one, other, place in zip(first, second, places, strict=True)
    ]
    clusters: defaultdict[str, float] = defaultdict(float)
    for item in gained:
        clusters[item.cluster] += item.value
    # Sums that should be 0 may come out as 1e-17.
    wins = sum(value > TINY for value in clusters.values())
    losses = sum(value < -TINY for value in clusters.values())
    return PairedDifference(
        difference=mean_score(gained) if gained else 0.0,
        interval=_bootstrap(gained, seed) if gained else Interval(-1.0, 1.0),
        p_value=sign_test(wins, losses),
        num_items=len(gained),
        wins=wins,
        losses=losses,
    )


def _bootstrap(items: Sequence[Sampled], seed: int) -> Interval:
    """The percentile interval of `mean_score` over clusters resampled within their families.

    A mean depends only on how often each distinct (sum, size) of a cluster is drawn, and those counts are multinomial;
    right and wrong answers give few distinct ones, so a resample costs a few numbers instead of one per item.
    """
    generator = np.random.default_rng(seed)
    means = np.zeros(RESAMPLES)
    families = list(_clusters_by_family(items).values())
    if len(families) > 1 and min(map(len, families)) == 1:
        # One cluster shows no spread: the families themselves are then what is drawn.
        families = [[(sum(part) / size, 1) for part, size in map(_totals, families)]]
    for clusters in families:
        distinct = Counter(clusters)
        counts = np.fromiter(distinct.values(), dtype=np.float64)
        sums, sizes = (np.array([cluster[part] for cluster in distinct], dtype=np.float64) for part in (0, 1))
        drawn = _resampled_means(generator, counts, sums, sizes)
        if len(families) > 1:
            # Resampling n clusters shows (n − 1) / n of their variance, which small families would feel.
            centre = (counts @ sums) / (counts @ sizes)
            drawn = centre + (drawn - centre) * math.sqrt(len(clusters) / (len(clusters) - 1))
        means += drawn / len(families)
    low, high = np.quantile(means, QUANTILES_95)
    return Interval(float(low), float(high))


def _totals(clusters: Sequence[tuple[float, int]]) -> tuple[list[float], int]:
    """The sums of a family's clusters, and its number of items."""
    return [total for total, _ in clusters], sum(size for _, size in clusters)


def _clusters_by_family(items: Sequence[Sampled]) -> dict[str, list[tuple[float, int]]]:
    """For each family its clusters as (sum of values, number of items)."""
    found: dict[tuple[str, str], list[float]] = {}
    for item in items:
        found.setdefault((item.family, item.cluster), []).append(item.value)
    families: dict[str, list[tuple[float, int]]] = {}
    for (family, _), values in found.items():
        families.setdefault(family, []).append((math.fsum(values), len(values)))
    return families


def _resampled_means(
    generator: np.random.Generator, counts: NDArray[np.float64], sums: NDArray[np.float64], sizes: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Means of RESAMPLES draws of as many clusters as there are, in chunks that hold a few megabytes."""
    num_clusters = int(counts.sum())
    chunk = max(1, 500_000 // len(counts))
    means = np.empty(RESAMPLES)
    for start in range(0, RESAMPLES, chunk):
        size = min(chunk, RESAMPLES - start)
        drawn = generator.multinomial(num_clusters, counts / num_clusters, size=size)
        means[start : start + size] = (drawn @ sums) / (drawn @ sizes)
    return means


def sign_test(wins: int, losses: int) -> float:
    """The two-sided exact p-value of `wins` against `losses` if both were equally likely; 1 when there are neither."""
    total, fewer = wins + losses, min(wins, losses)
    tail = sum(math.comb(total, k) for k in range(fewer + 1))
    # Integers until the end: for many items both sides of the quotient overflow a float.
    return min(1.0, 2 * tail / 2**total)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given: to reject below α keeps the chance of any false rejection at α."""
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, p_values[index] * (len(p_values) - rank)))
        adjusted[index] = highest
    return adjusted


def pass_at_k(num_samples: int, num_correct: int, k: int) -> float:
    """The chance that k samples drawn without replacement from `num_samples` hold one of the correct ones."""
    assert 0 <= num_correct <= num_samples and 1 <= k <= num_samples, (num_samples, num_correct, k)
    return 1.0 - math.comb(num_samples - num_correct, k) / math.comb(num_samples, k)


def macro_mean(scores: Sequence[float]) -> float:
    """The mean of scores that count the same, however many items each has. A mean of nothing is refused."""
    assert scores, "a mean over nothing"
    return math.fsum(scores) / len(scores)
