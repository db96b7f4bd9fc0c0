"""Alarms from made-up histories."""

from dataclasses import replace

import pytest

from cameleer.rlvr.alarms import AlarmKind, StepSigns, alarms_at
from cameleer.rlvr.config import AlarmConfig, Format, Repetition, RewardConfig

CONFIG = AlarmConfig(window=2)


def signs(count: int = 6, **rising: tuple[float, float]) -> list[StepSigns]:
    """A calm run; what is named goes from its first value to its last in a straight line."""
    calm = {
        "earned": 0.5,
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


def kinds(history: list[StepSigns], held_out: tuple[float, float] | None = None) -> set[AlarmKind]:
    return {alarm.kind for alarm in alarms_at(history, CONFIG, held_out=held_out)}


def test_a_calm_run_is_quiet() -> None:
    assert kinds(signs()) == set()


@pytest.mark.parametrize(
    ("rising", "kind"),
    [
        ({"mean_tokens": (100.0, 600.0)}, AlarmKind.LENGTH),
        ({"mean_tokens": (100.0, 10.0)}, AlarmKind.LENGTH),
        ({"repetition": (0.1, 0.9)}, AlarmKind.REPETITION),
        ({"kl": (0.0, 3.0)}, AlarmKind.KL),
        ({"verifier_errors": (0.0, 0.5)}, AlarmKind.VERIFIER),
    ],
)
def test_each_sign_raises_its_own_alarm_alone(rising: dict[str, tuple[float, float]], kind: AlarmKind) -> None:
    assert kinds(signs(**rising)) == {kind}


@pytest.mark.parametrize("held_out", [(0.5, 0.4), (0.5, 0.6)])
def test_reward_without_accuracy_raises_its_alarm_alone(held_out: tuple[float, float]) -> None:
    """0.7 more is earned; 0.1 more of held-out accuracy is less than a quarter of that."""
    assert kinds(signs(earned=(0.2, 0.9)), held_out) == {AlarmKind.REWARD_WITHOUT_ACCURACY}


@pytest.mark.parametrize(
    ("rising", "held_out"),
    [
        ({"earned": (0.2, 0.9)}, (0.2, 0.8)),
        ({"earned": (0.5, 0.6)}, (0.5, 0.4)),
        ({"earned": (0.2, 0.9)}, None),
        ({"mean_tokens": (100.0, 250.0)}, (0.5, 0.5)),
    ],
)
def test_progress_is_no_alarm(rising: dict[str, tuple[float, float]], held_out: tuple[float, float] | None) -> None:
    assert kinds(signs(**rising), held_out) == set()


def test_steps_without_a_verdict_are_no_start_at_nothing() -> None:
    """A sandbox that is down for the first steps: what is earned afterwards is compared with what was earned first."""
    history = [replace(each, earned=None) for each in signs(3)] + signs(6, earned=(0.6, 0.65))
    assert kinds(history, (0.5, 0.5)) == set()
    assert kinds([replace(each, earned=None) for each in signs(6)], (0.5, 0.5)) == set()


def test_what_shaping_pays_is_seen() -> None:
    """Half of the reward is for a pattern: all of it without one answer right is half of what there is to earn."""
    config = RewardConfig(correct=1.0, format=Format(pattern="x"), repetition=Repetition())
    assert config.earned(0.25, {"format": 1.0, "repetition": -1.0}) == (0.25 + 1) / 2
    assert RewardConfig(correct=10.0).earned(0.25, {}) == 0.25


def test_one_step_is_no_trend_and_a_known_alarm_is_not_repeated() -> None:
    """Two steps a window: a single outlier of 1.5 nats has a mean below the limit of 1; two have not."""
    calm = signs(4)
    outlier = StepSigns(5, 0.5, 100.0, 0.1, 1.5, 0.0)
    assert kinds([*calm, outlier]) == set()
    twice = [*calm, outlier, outlier]
    assert kinds(twice) == {AlarmKind.KL}
    assert alarms_at(twice, CONFIG, known={"kl"}) == []
    assert alarms_at(twice[:1], CONFIG) == []
