"""The objectives of preference tuning, each a function from numbers per pair to a loss per pair.

For a pair of answers c (chosen) and r (rejected) to a prompt x:

    l = sum_t log pi(y_t | x, y_<t)      over the n tokens of an answer, its end token included
    d = sum_t log pi(y_t | …) - log pi_ref(y_t | …)

    dpo_norm   -log s(m),  m = beta (d_c / n_c - d_r / n_r)           Tülu 3 (arXiv:2411.15124), Eq. 6
    dpo        -log s(m),  m = beta (d_c - d_r)                       Rafailov et al. 2023 (arXiv:2305.18290), Eq. 7
    simpo      -log s(m),  m = beta (l_c / n_c - l_r / n_r) - gamma   Meng et al. 2024 (arXiv:2405.14734), Eq. 6
    ipo        (d_c / n_c - d_r / n_r - 1 / (2 beta))^2               Azar et al. 2023 (arXiv:2310.12036), Eq. 17
    kto        1/2 w_D (1 - s(beta (d_c - z))) + 1/2 w_U (1 - s(beta (z - d_r)))
                                                                      Ethayarajh et al. 2024 (arXiv:2402.01306)
    orpo       -beta log s(o_c - o_r),  o = log (p / (1 - p)), log p = l / n
                                                                      Hong et al. 2024 (arXiv:2403.07691), Eq. 6 and 7

s is the logistic function. With label smoothing e, -log s(m) becomes

    conservative   -(1 - e) log s(m) - e log s(-m)                    Mitchell 2023, "A note on DPO with noisy …"
    robust         (-(1 - e) log s(m) + e log s(-m)) / (1 - 2 e)      Chowdhury et al. 2024 (arXiv:2403.00409)

Departures: IPO's paper has sums d; its authors' results, and TRL, divide by the lengths, as here. ORPO's own term is
completed by the SFT term below with coefficient 1; the authors' code and TRL take that over prompt and answer, here it
is over the answer as in the paper's Eq. 3. KTO's z is the caller's (`cameleer.dpo.train.mismatch_kl`); a pair counts as
the mean of its two answers.

The step's loss is the mean of these over its pairs, plus `sft_coefficient` times the mean of -log p over the tokens of
its chosen answers; both means are taken over the whole optimizer step, never a micro-batch or rank.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from cameleer.dpo.config import Smoothing


@dataclass(frozen=True)
class Answers:
    """One answer of each of P pairs, each (P,): sums over its tokens of log pi and of log pi / pi_ref; its tokens."""

    logprob_P: Tensor
    logratio_P: Tensor
    length_P: Tensor

    @property
    def mean_logprob_P(self) -> Tensor:
        return self.logprob_P / self.length_P

    @property
    def mean_logratio_P(self) -> Tensor:
        return self.logratio_P / self.length_P


class Result(NamedTuple):
    """Per pair, each (P,): the loss, and the rewards whose difference it looks at, for the log."""

    loss_P: Tensor
    chosen_reward_P: Tensor
    rejected_reward_P: Tensor


def logistic_loss(margin_P: Tensor, label_smoothing: float, smoothing: Smoothing) -> Tensor:
    """-log s(m) under a share `label_smoothing` < 1/2 of flipped labels."""
    right_P, flipped_P = (1 - label_smoothing) * logsigmoid(margin_P), label_smoothing * logsigmoid(-margin_P)
    if smoothing is Smoothing.ROBUST:
        return (flipped_P - right_P) / (1 - 2 * label_smoothing)
    return -right_P - flipped_P


def dpo_norm(chosen: Answers, rejected: Answers, beta: float, label_smoothing: float, smoothing: Smoothing) -> Result:
    """Rewards: beta d / n."""
    rewards = beta * chosen.mean_logratio_P, beta * rejected.mean_logratio_P
    return Result(logistic_loss(rewards[0] - rewards[1], label_smoothing, smoothing), *rewards)


def dpo(chosen: Answers, rejected: Answers, beta: float, label_smoothing: float, smoothing: Smoothing) -> Result:
    """Rewards: beta d."""
    rewards = beta * chosen.logratio_P, beta * rejected.logratio_P
    return Result(logistic_loss(rewards[0] - rewards[1], label_smoothing, smoothing), *rewards)


def simpo(
    chosen: Answers, rejected: Answers, beta: float, gamma: float, label_smoothing: float, smoothing: Smoothing
) -> Result:
    """Rewards: beta l / n."""
    rewards = beta * chosen.mean_logprob_P, beta * rejected.mean_logprob_P
    return Result(logistic_loss(rewards[0] - rewards[1] - gamma, label_smoothing, smoothing), *rewards)


def ipo(chosen: Answers, rejected: Answers, beta: float) -> Result:
    """Rewards: beta d / n."""
    margin_P = chosen.mean_logratio_P - rejected.mean_logratio_P
    rewards = beta * chosen.mean_logratio_P, beta * rejected.mean_logratio_P
    return Result((margin_P - 1 / (2 * beta)).square(), *rewards)


def kto(
    chosen: Answers, rejected: Answers, beta: float, kl: float, desirable_weight: float, undesirable_weight: float
) -> Result:
    """Rewards: beta d. `kl` is z, without gradient."""
    # 1 - s(a) = s(-a), without the cancellation.
    desirable_P = desirable_weight * torch.sigmoid(beta * (kl - chosen.logratio_P))
    undesirable_P = undesirable_weight * torch.sigmoid(beta * (rejected.logratio_P - kl))
    return Result((desirable_P + undesirable_P) / 2, beta * chosen.logratio_P, beta * rejected.logratio_P)


def orpo(chosen: Answers, rejected: Answers, beta: float) -> Result:
    """Rewards: beta l / n. The SFT term is not in it."""
    odds_P = log_odds(chosen.mean_logprob_P) - log_odds(rejected.mean_logprob_P)
    return Result(-beta * logsigmoid(odds_P), beta * chosen.mean_logprob_P, beta * rejected.mean_logprob_P)


def log_odds(logprob: Tensor) -> Tensor:
    """log (p / (1 - p)) from log p < 0; log (1 - p) is taken the accurate way on either side of p = 1/2."""
    near_one = logprob > -0.6931471805599453
    # Each branch sees harmless numbers where the other is meant, else its gradient there would be NaN.
    close, far = logprob.where(near_one, -0.5), logprob.where(~near_one, -1.0)
    return logprob - torch.where(near_one, torch.log(-torch.expm1(close)), torch.log1p(-torch.exp(far)))
