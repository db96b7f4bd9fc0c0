"""The 95% interval of a proportion.

Wilson   (p + z²/2n ± z √(p(1−p)/n + z²/4n²)) / (1 + z²/n), z = 1.95996        Wilson 1927, score interval
"""

import math
from dataclasses import dataclass

Z_95 = 1.959963984540054
"""The 97.5% quantile of the standard normal distribution."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A 95% interval."""

    low: float
    high: float


def wilson_interval(successes: float, total: int) -> Interval:
    """The Wilson score interval of a proportion; [0, 1] when there are no items."""
    assert 0 <= successes <= total, (successes, total)
    if total == 0:
        return Interval(0.0, 1.0)
    p, z2 = successes / total, Z_95**2
    centre = p + z2 / (2 * total)
    half = Z_95 * math.sqrt(p * (1 - p) / total + z2 / (4 * total**2))
    scale = 1 + z2 / total
    # At the ends the bound is the end itself; rounding would leave 1e-17 of it.
    low = (centre - half) / scale if successes else 0.0
    high = (centre + half) / scale if successes < total else 1.0
    return Interval(low, high)
