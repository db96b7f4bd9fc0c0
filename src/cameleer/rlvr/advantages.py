"""Advantages: how much better than expected a token or an answer was. numpy in fp64, no torch.

Within the answers of one prompt, with rewards r_1 … r_n of those that were judged:

    group_mean_std    A_i = (r_i − mean) / std         GRPO; std with n − 1, as common implementations take it
    group_mean        A_i = r_i − mean                 Dr. GRPO: the division weighs easy and hard prompts up
    leave_one_out     A_i = r_i − mean of the others   RLOO; n/(n−1) times group_mean

By a value model V (Schulman et al. 2016, arXiv:1506.02438), with V = 0 after the last token:

    δ_t = r_t + γ V_{t+1} − V_t      A_t = δ_t + γ λ A_{t+1}      R_t = A_t + V_t
"""

import numpy as np
from numpy.typing import NDArray

from cameleer.rlvr.names import Advantage

Floats = NDArray[np.float64]
NO_SPREAD = 1e-6
"""Rewards of a group, numbers of the order of 1, that lie this close together are taken as equal."""


def group_advantages(rewards_G: Floats, kind: Advantage) -> Floats:
    """Advantages (G,) of one prompt's judged answers: 0 for fewer than two, or equal rewards, which teach nothing."""
    rewards = np.asarray(rewards_G, np.float64)
    if len(rewards) < 2 or np.ptp(rewards) <= NO_SPREAD:
        return np.zeros(len(rewards))
    centred = rewards - rewards.mean()
    match kind:
        case Advantage.GROUP_MEAN_STD:
            return centred / rewards.std(ddof=1)
        case Advantage.GROUP_MEAN:
            return centred
        case Advantage.LEAVE_ONE_OUT:
            return centred * len(rewards) / (len(rewards) - 1)
        case Advantage.GAE:
            raise AssertionError("gae is no advantage of a group")


def gae(rewards_T: Floats, values_T: Floats, gamma: float, lam: float) -> tuple[Floats, Floats]:
    """Advantages and returns (T,) of one answer's tokens; `values_T[t]` is the value of the state before token t."""
    values_T = np.asarray(values_T, np.float64)
    errors_T = np.asarray(rewards_T, np.float64) + gamma * np.append(values_T[1:], 0.0) - values_T
    advantages_T, later = np.zeros(len(errors_T)), 0.0
    for t in reversed(range(len(errors_T))):
        later = advantages_T[t] = errors_T[t] + gamma * lam * later
    return advantages_T, advantages_T + values_T


def whiten(values_T: Floats) -> Floats:
    """`values_T` with a mean of 0 and a deviation of 1.

    These must be all of an update's tokens: whitened apart, micro-batches and ranks would each get a mean of 0. (n − 1
    in the deviation, as TRL and verl do.)
    """
    centred = np.asarray(values_T, np.float64) - np.mean(values_T)
    return centred / np.sqrt(centred @ centred / max(1, len(centred) - 1) + 1e-8)


def kl_penalised_rewards(logprobs_T: Floats, reference_T: Floats, beta: float, score: float) -> Floats:
    """(T,) rewards of one answer's tokens in Tülu 3 (report, §6.2): −β k1 at each, besides the score at the last.

    `score` is the whole answer's: in Tülu 3 10 where it is correct, else 0, and −10 where no end token came.
    """
    rewards_T = -beta * (np.asarray(logprobs_T, np.float64) - np.asarray(reference_T, np.float64))
    rewards_T[-1] += score
    return rewards_T
