"""The losses of reinforcement learning, from log-probabilities of sampled tokens to one number.

Three policies give each token y_t of an answer i a log-probability, all at the temperature of sampling:

    behaviour   the weights and the arithmetic that sampled it
    proximal    the weights at the start of the update (the same as behaviour on policy)
    current     the weights being trained

With A_t the advantage, r_t = π_current / π_proximal and n_i the answer's tokens, an objective is a loss per token

    ppo, grpo, dr_grpo, dapo    l_t = −min(r_t A_t, clip(r_t, 1 − ε_low, 1 + ε_high) A_t)
    gspo                        the same with s_i = exp((1/n_i) Σ_t log r_t) in place of r_t
    cispo                       l_t = −stop_gradient(min(r_t, 1 + ε_high)) A_t log π_current
    rloo                        l_t = −A_t log π_current

and a mean over the answers i of the optimizer step, whatever the micro-batches and ranks:

    ppo, dapo, cispo            Σ_i Σ_t l_t / Σ_i n_i                 every token weighs the same
    grpo, gspo                  Σ_i (1/n_i) Σ_t l_t / number of i     every answer weighs the same
    dr_grpo                     Σ_i Σ_t l_t / (number of i · longest allowed answer)
    rloo                        Σ_i Σ_t l_t / number of i             an answer is one action

What is added to l_t before the mean: + β · KL estimate to the reference (k2 or k3, `cameleer.rlvr.kl`), and
− entropy_coefficient · entropy of the current distribution at t. A correction first weighs the surrogate, not these
terms, by c_t = π_proximal / π_behaviour, a constant: `truncate` by min(c_t, C), `mask` by c_t where 1/C ≤ c_t ≤ C and
by 0 elsewhere. So the ratio that is clipped says how far the update has gone, and c_t how stale its tokens are.

Sources: PPO, Schulman et al. 2017 (arXiv:1707.06347); GRPO, DeepSeekMath, Shao et al. 2024 (arXiv:2402.03300);
Dr. GRPO, Liu et al. 2025 (arXiv:2503.20783); DAPO, Yu et al. 2025 (arXiv:2503.14476); RLOO, Ahmadian et al. 2024
(arXiv:2402.14740); CISPO, MiniMax-M1 2025 (arXiv:2506.13585); GSPO, Zheng et al. 2025 (arXiv:2507.18071); the ratio of
proximal to behaviour kept apart, Hilton et al. 2021 (arXiv:2110.00641) and AReaL, Fu et al. 2025 (arXiv:2505.24298);
truncated, Yao et al. 2025 ("Your Efficient RL Framework Secretly Brings You Off-Policy RL Training"); masked on both
sides, IcePop (Ling Team 2025, arXiv:2510.18855). Departures are listed in docs/rlvr.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cameleer.rlvr.kl import kl_divergence
from cameleer.rlvr.names import Correction, KLEstimator, Objective, ObjectiveConfig
from cameleer.train.accumulate import Sums
from cameleer.train.layout import Batch, Tree

BEHAVIOUR, PROXIMAL, REFERENCE = "behaviour_logprobs", "proximal_logprobs", "reference_logprobs"
ADVANTAGES, RETURNS, OLD_VALUES = "advantages", "returns", "old_values"


@dataclass(frozen=True)
class Totals:
    """What a step's means divide by, over all its micro-batches and ranks.

    `num_tokens` have weight 1, `num_sequences` are the answers that hold any, `max_new_tokens` may be sampled of each.
    """

    num_tokens: int
    num_sequences: int
    max_new_tokens: int

    @classmethod
    def of(cls, trees: Sequence[Tree], max_new_tokens: int) -> "Totals":
        """The totals of a step of these trees."""
        trained = [count for tree in trees for segment in tree if (count := int(segment.weights.sum()))]
        return cls(sum(trained), len(trained), max_new_tokens)


def policy_loss(
    config: ObjectiveConfig, logprob_N: Tensor, batch: Batch, totals: Totals, entropy_N: Tensor | None = None
) -> tuple[Tensor, Sums]:
    """This batch's share of the step's loss, and sums over its tokens for the step's means, by their metrics' names.

    Reads the columns `behaviour_logprobs`, `proximal_logprobs`, `advantages` and, if there, `reference_logprobs`, all
    at the temperature of `logprob_N`. `entropy_N` is needed for an entropy bonus, else only summed.
    """
    columns, weight_N = batch.columns, batch.weight_N
    loss_N, ratio_N, clipped_N = _surrogate(config, logprob_N, batch)
    correction_N, corrected_N = _correction(config, columns[PROXIMAL] - columns[BEHAVIOUR])
    loss_N = correction_N * loss_N
    if config.kl_in_loss:
        assert config.kl_estimator is not None
        divergence_N = kl_divergence(config.kl_estimator, logprob_N, columns[REFERENCE])
        loss_N = loss_N + config.kl_coefficient * divergence_N
    if config.entropy_coefficient:
        assert entropy_N is not None, "an entropy bonus needs entropies"
        loss_N = loss_N - config.entropy_coefficient * entropy_N
    loss = (loss_N * _shares(config.objective, batch, totals, loss_N.dtype)).sum()
    with torch.no_grad():
        values = {
            "clip_fraction": clipped_N,
            "ratio": ratio_N,
            "corrected": corrected_N,
            "proximal_gap": (columns[BEHAVIOUR] - columns[PROXIMAL]).abs(),
            # The tokens are the behaviour's: this estimates how far the weights have moved from it.
            "kl_behaviour": kl_divergence(KLEstimator.K3, columns[BEHAVIOUR], logprob_N),
        }
        if REFERENCE in columns:
            values["kl_reference"] = kl_divergence(KLEstimator.K3, logprob_N, columns[REFERENCE])
        if entropy_N is not None:
            values["entropy"] = entropy_N
        return loss, {name: (value_N * weight_N).sum() for name, value_N in values.items()}


def _surrogate(config: ObjectiveConfig, logprob_N: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """(N,) each: the loss l_t, the ratio, and whether the clip decides about the token."""
    advantage_N = batch.columns[ADVANTAGES]
    log_ratio_N = logprob_N - batch.columns[PROXIMAL]
    match config.objective:
        case Objective.RLOO:
            return -advantage_N * logprob_N, log_ratio_N.exp(), torch.zeros_like(logprob_N)
        case Objective.CISPO:
            ratio_N = log_ratio_N.exp().detach()
            highest = 1 + _number(config.clip_high)
            return -ratio_N.clamp(max=highest) * advantage_N * logprob_N, ratio_N, ratio_N > highest
        case Objective.GSPO:
            return _clipped(config, _sequence_mean(log_ratio_N, batch).exp(), advantage_N)
        case Objective.PPO | Objective.GRPO | Objective.DR_GRPO | Objective.DAPO:
            return _clipped(config, log_ratio_N.exp(), advantage_N)


def _clipped(config: ObjectiveConfig, ratio_N: Tensor, advantage_N: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    inside_N = ratio_N.clamp(1 - _number(config.clip_low), 1 + _number(config.clip_high))
    plain_N, clipped_N = ratio_N * advantage_N, inside_N * advantage_N
    return -torch.minimum(plain_N, clipped_N), ratio_N, clipped_N < plain_N


def _sequence_mean(value_N: Tensor, batch: Batch) -> Tensor:
    """(N,) at each token the mean over its answer's tokens."""
    sum_S = batch.sums_per_segment(value_N * batch.weight_N)
    return sum_S.index_select(0, batch.segment_N) / _lengths(batch)


def _lengths(batch: Batch) -> Tensor:
    """(N,) at each token the number of its answer's tokens."""
    return batch.sums_per_segment(batch.weight_N).index_select(0, batch.segment_N)


def _correction(config: ObjectiveConfig, log_weight_N: Tensor) -> tuple[Tensor, Tensor]:
    """(N,) each: the factor of the token's surrogate, and whether the limit decided it."""
    if config.correction is Correction.NONE:
        return torch.ones_like(log_weight_N), torch.zeros_like(log_weight_N)
    limit, factor_N = _number(config.correction_limit), log_weight_N.exp()
    if config.correction is Correction.TRUNCATE:
        return factor_N.clamp(max=limit), factor_N > limit
    outside_N = (factor_N > limit) | (factor_N < 1 / limit)
    return factor_N.masked_fill(outside_N, 0.0), outside_N


def _shares(objective: Objective, batch: Batch, totals: Totals, precision: torch.dtype) -> Tensor:
    """(N,) what each token's loss counts in the step's mean."""
    # Weights are fp32, exact as they are but not once divided.
    weight_N = batch.weight_N.to(precision)
    match objective:
        case Objective.PPO | Objective.DAPO | Objective.CISPO:
            return weight_N / totals.num_tokens
        case Objective.GRPO | Objective.GSPO:
            return weight_N / (_lengths(batch) * totals.num_sequences)
        case Objective.DR_GRPO:
            return weight_N / (totals.num_sequences * totals.max_new_tokens)
        case Objective.RLOO:
            return weight_N / totals.num_sequences


def _number(setting: float | None) -> float:
    """A setting that the objective reads, so that its config has filled it."""
    assert setting is not None
    return setting


def value_loss(value_N: Tensor, batch: Batch, totals: Totals, clip: float = 0.2) -> tuple[Tensor, Sums]:
    """This batch's share of the value model's loss over the step's tokens, and sums over its tokens.

        ½ · mean_t max((V_t − R_t)², (clip(V_t, V_old − ε, V_old + ε) − R_t)²)

    (PPO's clipped value loss, as in its authors' code.) Reads the columns `returns` R and `old_values` V_old, those at
    the start of the update.
    """
    return_N, old_N, weight_N = batch.columns[RETURNS], batch.columns[OLD_VALUES], batch.weight_N
    near_N = value_N.clamp(old_N - clip, old_N + clip)
    error_N, near_error_N = (value_N - return_N).square(), (near_N - return_N).square()
    loss = (torch.maximum(error_N, near_error_N) * weight_N).sum() / (2 * totals.num_tokens)
    with torch.no_grad():
        values = {
            "value_clip_fraction": near_error_N > error_N,
            "value_error": error_N,
            "value": value_N,
            "return": return_N,
            "return_square": return_N.square(),
        }
        return loss, {name: (each_N * weight_N).sum() for name, each_N in values.items()}
