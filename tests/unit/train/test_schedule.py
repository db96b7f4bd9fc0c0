"""Learning-rate factors by hand."""

import math

import pytest

from cameleer.train.schedule import learning_rate_factor


def factors(schedule, num_steps, warmup):
    return [learning_rate_factor(schedule, step, num_steps, warmup) for step in range(num_steps)]


def test_linear_by_hand() -> None:
    """10 steps, 20% warm-up: 1/2, 2/2, then (10 - s)/8."""
    assert factors("linear", 10, 0.2) == pytest.approx([0.5, 1, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8])


def test_cosine_by_hand() -> None:
    expected = [1.0, 0.5 * (1 + math.cos(math.pi / 4)), 0.5, 0.5 * (1 + math.cos(3 * math.pi / 4))]
    assert factors("cosine", 4, 0.0) == pytest.approx(expected)


def test_constant_with_warmup() -> None:
    assert factors("constant", 4, 0.5) == [0.5, 1, 1, 1]


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
@pytest.mark.parametrize("num_steps", [1, 2, 7, 1000])
def test_never_zero_and_peak_reached(schedule: str, num_steps: int) -> None:
    values = factors(schedule, num_steps, 0.03)
    assert min(values) > 0 and max(values) == 1


def test_warmup_is_not_rounded_up_by_floating_point() -> None:
    """0.1 * 30 > 3 in floating point; the warm-up has 3 steps all the same."""
    assert factors("constant", 30, 0.1)[:4] == pytest.approx([1 / 3, 2 / 3, 1, 1])
