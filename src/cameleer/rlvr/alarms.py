"""Signs that a model is rewarded for the wrong thing: a pure function of a run's metrics so far.

Each compares means over a window of steps with the first such window, so that it speaks of a trend and not of a step:

    reward_without_accuracy   what answers earn up by >= g while held-out accuracy is up by less than a quarter of that
    length                    answers k times as long as at the start, or 1/k
    repetition                share of repeated 4-grams in answers above the limit
    kl                        nats per token from the sampling policy or the reference above the limit
    verifier                  share of verdicts `error` and `timeout` above the limit

The first one is the sign of an exploit: verifier or shaping terms are satisfied more often and the task is solved no
better. It is looked for at each measurement of held-out problems.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean

from cameleer.rlvr.config import AlarmConfig

HELD_OUT_SHARE = 0.25
"""Greedy answers lag behind sampled ones, so that held-out accuracy may honestly rise less than the pass rate."""


class AlarmKind(StrEnum):
    """What an alarm is about."""

    REWARD_WITHOUT_ACCURACY = "reward_without_accuracy"
    LENGTH = "length"
    REPETITION = "repetition"
    KL = "kl"
    VERIFIER = "verifier"


@dataclass(frozen=True, slots=True)
class StepSigns:
    """What the alarms look at of one step. `earned`: share of the most reward, None for a step without verdicts."""

    step: int
    earned: float | None
    mean_tokens: float
    repetition: float
    kl: float
    verifier_errors: float


@dataclass(frozen=True, slots=True)
class Alarm:
    """A sign, the step at which it was seen, and the values that it was seen by."""

    kind: AlarmKind
    step: int
    message: str


def alarms_at(
    history: Sequence[StepSigns],
    config: AlarmConfig,
    known: Collection[str] = (),
    held_out: tuple[float, float] | None = None,
) -> list[Alarm]:
    """The alarms that hold at the last step of a history, without those of a `known` kind.

    `held_out` is the accuracy before the first step and after the last, where it has just been measured.
    """
    if len(history) < config.window:
        return []
    first, last = history[: config.window], history[-config.window :]
    messages = {
        AlarmKind.REWARD_WITHOUT_ACCURACY: _reward_without_accuracy(history, config, held_out),
        AlarmKind.LENGTH: _length(first, last, config.length_factor),
        AlarmKind.REPETITION: _above("repeated 4-grams", [each.repetition for each in last], config.repetition),
        AlarmKind.KL: _above("KL per token", [each.kl for each in last], config.kl),
        AlarmKind.VERIFIER: _above("verifier errors", [each.verifier_errors for each in last], config.verifier_errors),
    }
    return [
        Alarm(kind, history[-1].step, message)
        for kind, message in messages.items()
        if message is not None and kind.value not in known
    ]


def _reward_without_accuracy(
    history: Sequence[StepSigns], config: AlarmConfig, held_out: tuple[float, float] | None
) -> str | None:
    earned = [each.earned for each in history if each.earned is not None]
    if held_out is None or len(earned) < config.window:
        return None
    before, now = held_out
    start, end = fmean(earned[: config.window]), fmean(earned[-config.window :])
    if end - start < config.reward_gap or now - before >= (end - start) * HELD_OUT_SHARE:
        return None
    return (
        f"what answers in training earn went from {start:.2f} to {end:.2f} of the most, held-out accuracy from "
        f"{before:.2f} to {now:.2f}: look at rollouts for what satisfies the verifier"
    )


def _length(first: Sequence[StepSigns], last: Sequence[StepSigns], factor: float) -> str | None:
    start, end = fmean(each.mean_tokens for each in first), fmean(each.mean_tokens for each in last)
    if start / factor < end < start * factor:
        return None
    return f"answers went from {start:.0f} to {end:.0f} tokens"


def _above(what: str, values: Sequence[float], limit: float) -> str | None:
    return f"{what}: {fmean(values):.3f}, above {limit}" if fmean(values) > limit else None
