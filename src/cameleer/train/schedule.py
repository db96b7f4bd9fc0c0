"""Learning-rate schedules as a factor of the peak, per optimizer step counted from 0.

With N steps, of which W = ceil(warmup_ratio * N) warm up:

    s < W        (s + 1) / W
    linear       (N - s) / (N - W)
    cosine       (1 + cos(pi (s - W) / (N - W))) / 2
    constant     1

The factor is never 0, so no step is wasted (the common implementation starts its warm-up at 0 and does nothing in the
first step). The peak is reached at the last warm-up step.
"""

import math

from cameleer.core.training import Schedule


def learning_rate_factor(schedule: Schedule, step: int, num_steps: int, warmup_ratio: float) -> float:
    """The factor of `step` in [0, num_steps)."""
    assert 0 <= step < num_steps, (step, num_steps)
    # Rounded first: 0.1 * 30 is 3.0000000000000004 in floating point and must warm up for 3 steps, not 4.
    warmup = math.ceil(round(warmup_ratio * num_steps, 9))
    if step < warmup:
        return (step + 1) / warmup
    if schedule == "constant":
        return 1.0
    progress = (step - warmup) / (num_steps - warmup)
    return 1.0 - progress if schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * progress))
