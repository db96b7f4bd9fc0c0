"""Alarms from made-up histories."""

import pytest

from cameleer.rlvr.alarms import AlarmKind, StepSigns, alarms_at
from cameleer.rlvr.config import AlarmConfig

CONFIG = AlarmConfig(window=2)


def signs(count: int = 6, **rising: tuple[float, float]) -> list[StepSigns]:
    """A calm run; what is named goes from its first value to its last in a straight line."""
    calm = {
        "pass_rate": 0.5,
        "held_out": 0.5,
        "mean_tokens": 100.0,
        "repetition": 0.1,
        "kl": 0.01,
        "verifier_errors": 0.0,
    }
    lines = []
    for step in range(count):
        moved = {name: low + (high - low) * step / (count - 1) for name, (low, high) in rising.items()}
        lines.append(StepSigns(step=step + 1, **{**calm, **moved}))
    return lines


def kinds(history: list[StepSigns]) -> set[AlarmKind]:
    return {alarm.kind for alarm in alarms_at(history, CONFIG)}


def test_a_calm_run_is_quiet() -> None:
    assert kinds(signs()) == set()


@pytest.mark.parametrize(
    ("rising", "kind"),
    [
        ({"pass_rate": (0.2, 0.9), "held_out": (0.5, 0.4)}, AlarmKind.REWARD_WITHOUT_ACCURACY),
        ({"pass_rate": (0.2, 0.9), "held_out": (0.5, 0.6)}, AlarmKind.REWARD_WITHOUT_ACCURACY),
        ({"mean_tokens": (100.0, 600.0)}, AlarmKind.LENGTH),
        ({"mean_tokens": (100.0, 10.0)}, AlarmKind.LENGTH),
        ({"repetition": (0.1, 0.9)}, AlarmKind.REPETITION),
        ({"kl": (0.0, 3.0)}, AlarmKind.KL),
        ({"verifier_errors": (0.0, 0.5)}, AlarmKind.VERIFIER),
    ],
)
def test_each_sign_raises_its_own_alarm_alone(rising: dict[str, tuple[float, float]], kind: AlarmKind) -> None:
    assert kinds(signs(**rising)) == {kind}


@pytest.mark.parametrize(
    "rising",
    [
        {"pass_rate": (0.2, 0.9), "held_out": (0.2, 0.8)},
        {"pass_rate": (0.5, 0.6), "held_out": (0.5, 0.4)},
        {"mean_tokens": (100.0, 250.0)},
    ],
)
def test_progress_is_no_alarm(rising: dict[str, tuple[float, float]]) -> None:
    assert kinds(signs(**rising)) == set()


def test_reward_and_accuracy_are_compared_at_a_measurement_only() -> None:
    """Between two measurements the newest one is behind the reward: that says nothing."""
    history = signs(pass_rate=(0.2, 0.9))
    unmeasured = StepSigns(7, 0.95, None, 100.0, 0.1, 0.01, 0.0)
    assert kinds(history) == {AlarmKind.REWARD_WITHOUT_ACCURACY}
    assert kinds([*history, unmeasured]) == set()


def test_one_step_is_no_trend_and_a_known_alarm_is_not_repeated() -> None:
    """Two steps a window: a single outlier of 1.5 nats has a mean below the limit of 1; two have not."""
    calm = signs(4)
    outlier = StepSigns(5, 0.5, None, 100.0, 0.1, 1.5, 0.0)
    assert kinds([*calm, outlier]) == set()
    twice = [*calm, outlier, outlier]
    assert kinds(twice) == {AlarmKind.KL}
    assert alarms_at(twice, CONFIG, known={"kl"}) == []
    assert alarms_at(twice[:1], CONFIG) == []
