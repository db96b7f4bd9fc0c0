"""A step's metrics from its rollouts and its update: every key of `metrics.jsonl`, in words in docs/rlvr.md."""

from collections import Counter
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from cameleer.rlvr.alarms import StepSigns
from cameleer.rlvr.config import RewardConfig
from cameleer.rlvr.rollouts import Rollout, Sampled, groups_of, has_variance
from cameleer.rlvr.shaping import repetition
from cameleer.rlvr.update import Update
from cameleer.verify import Outcome

TIMINGS = ("seconds", "tokens_per_second", "peak_memory_gib")
"""How the keys end that a clock or the machine's memory says."""
POLICY_MEANS = ("ratio", "clip_fraction", "corrected", "kl_behaviour", "kl_reference", "entropy", "proximal_gap")
"""What the policy's loss sums up over tokens."""


def of_rollouts(rollouts: Sequence[Rollout], step: int) -> dict[str, Any]:
    """What the answers were like and what the verifiers said."""
    judged = [rollout for rollout in rollouts if rollout.is_judged]
    outcomes = Counter(rollout.outcome for rollout in rollouts)
    found: dict[str, Any] = {}
    tasks = sorted({rollout.task for rollout in judged})
    for task in ("", *(tasks if len(tasks) > 1 else ())) if judged else ():
        own = [rollout for rollout in judged if task in ("", rollout.task)]
        suffix = f"/{task}" if task else ""
        found[f"reward{suffix}"] = _mean([rollout.reward or 0.0 for rollout in own])
        found[f"pass_rate{suffix}"] = _mean([rollout.score or 0.0 for rollout in own])
    terms = sorted({name for rollout in judged for name in rollout.shaping})
    found |= {f"shaping/{name}": _mean([each.shaping.get(name, 0.0) for each in judged]) for name in terms}
    groups = groups_of(rollouts)
    lengths = [len(rollout.ids) for rollout in rollouts]
    return found | {
        **{f"outcome/{outcome.value}": outcomes[outcome] for outcome in Outcome},
        "groups_with_variance": _mean([has_variance(group) for group in groups]),
        "answer_tokens": _mean(lengths),
        "longest_answer": max(lengths, default=0),
        "truncated": _mean([not rollout.ended for rollout in rollouts]),
        "repetition": _mean([repetition(rollout.ids) for rollout in rollouts]),
        "surprise": -_mean([fmean(rollout.logprobs) for rollout in rollouts]),
        "staleness": step - min((rollout.weight_version for rollout in rollouts), default=step),
        "num_sampled_tokens": sum(lengths),
    }


def of_update(update: Update) -> dict[str, Any]:
    """How the policy, and the value model, moved."""
    found: dict[str, Any] = {"optimizer_steps": len(update.policy)}
    found |= {name: mean for name in POLICY_MEANS if (mean := update.mean(name)) is not None}
    if update.policy:
        found |= {
            "sampler_gap": update.sampler_gap,
            "loss": fmean(report.loss for report in update.policy),
            "grad_norm": fmean(report.grad_norm for report in update.policy),
            "learning_rate": update.policy[-1].learning_rate,
            "num_trained_tokens": sum(int(report.sums["tokens"]) for report in update.policy),
            "peak_memory_gib": max(report.peak_memory_gib for report in (*update.policy, *update.value)),
        }
    if update.value:
        found |= _of_values(update)
    return found


def _of_values(update: Update) -> dict[str, Any]:
    error, mean, square = (update.value_mean(name) or 0.0 for name in ("value_error", "return", "return_square"))
    spread = square - mean**2
    return {
        "value_loss": fmean(report.loss for report in update.value),
        "value_grad_norm": fmean(report.grad_norm for report in update.value),
        "value": update.value_mean("value"),
        "return": mean,
        "value_clip_fraction": update.value_mean("value_clip_fraction"),
        "explained_variance": 1 - error / spread if spread > 0 else 0.0,
    }


def of_times(sampled: Sampled, update: Update) -> dict[str, Any]:
    """Seconds of each part; tokens a second of those that work on tokens. Sampling of another step, if it ran ahead."""
    learned = sum(report.num_tokens for report in (*update.policy, *update.value))
    return {
        "sampling_seconds": sampled.seconds,
        "verifying_seconds": sampled.verify_seconds,
        "scoring_seconds": update.scoring_seconds,
        "learning_seconds": update.learning_seconds,
        "sampling_tokens_per_second": sampled.num_tokens / max(sampled.seconds, 1e-9),
        "scoring_tokens_per_second": update.num_scored_tokens / max(update.scoring_seconds, 1e-9),
        "learning_tokens_per_second": learned / max(update.learning_seconds, 1e-9),
    }


def signs(line: dict[str, Any], reward: RewardConfig) -> StepSigns:
    """What the alarms look at of a step's line."""
    terms = {name.removeprefix("shaping/"): value for name, value in line.items() if name.startswith("shaping/")}
    kl = line.get("kl_reference", line.get("kl_behaviour"))
    errors = line[f"outcome/{Outcome.ERROR.value}"] + line[f"outcome/{Outcome.TIMEOUT.value}"]
    total = sum(line[f"outcome/{outcome.value}"] for outcome in Outcome)
    return StepSigns(
        step=line["step"],
        earned=reward.earned(line["pass_rate"], terms) if "pass_rate" in line else None,
        mean_tokens=line["answer_tokens"],
        repetition=line["repetition"],
        kl=kl or 0.0,
        verifier_errors=errors / max(1, total),
    )


def _mean(values: Sequence[float]) -> float:
    return fmean(values) if values else 0.0
