"""The objectives by hand: one pair whose probabilities are chosen, and plain arithmetic."""

import math

import pytest
import torch
from pair_support import CONFIGS

from cameleer.dpo.config import DPOConfig, Objective, Smoothing
from cameleer.dpo.loss import Answers, log_odds
from cameleer.dpo.train import pair_losses

LOG2 = math.log(2)


def answers(logprob: float, logratio: float, length: int) -> Answers:
    return Answers(*(torch.tensor([float(value)], dtype=torch.float64) for value in (logprob, logratio, length)))


# The chosen answer has 2 tokens of probability 1/2 under the policy and 1/4 under the reference: l = -2 log 2,
# d = 2 log 2. The rejected has 4 tokens of probability 1/2 under both but one, which the reference gives 1:
# l = -4 log 2, d = -log 2. Per token: l/n = -log 2 for both, d_c/n_c = log 2, d_r/n_r = -log(2)/4.
CHOSEN = answers(-2 * LOG2, 2 * LOG2, 2)
REJECTED = answers(-4 * LOG2, -LOG2, 4)


def loss(config: DPOConfig, kl: float = 0.0) -> float:
    return pair_losses(config, CHOSEN, REJECTED, kl).loss_P.item()


def test_dpo_norm_by_hand() -> None:
    """m = 4 (log 2 + log(2)/4) = 5 log 2, so e^-m = 1/32 and the loss is log(1 + 1/32)."""
    assert loss(DPOConfig(beta=4)) == pytest.approx(math.log(33 / 32), rel=1e-12)


def test_dpo_by_hand() -> None:
    """m = 1 (2 log 2 + log 2) = 3 log 2: log(1 + 1/8)."""
    assert loss(DPOConfig(objective=Objective.DPO, beta=1)) == pytest.approx(math.log(9 / 8), rel=1e-12)


def test_conservative_smoothing_by_hand() -> None:
    """m = 3 log 2 and e = 1/4: 3/4 log(9/8) + 1/4 log 9."""
    config = DPOConfig(objective=Objective.DPO, beta=1, label_smoothing=0.25)
    assert loss(config) == pytest.approx(0.75 * math.log(9 / 8) + 0.25 * math.log(9), rel=1e-12)


def test_robust_by_hand() -> None:
    """m = 3 log 2 and e = 1/4: (3/4 log(9/8) - 1/4 log 9) / (1/2)."""
    config = DPOConfig(objective=Objective.DPO, beta=1, label_smoothing=0.25, smoothing=Smoothing.ROBUST)
    assert loss(config) == pytest.approx(2 * (0.75 * math.log(9 / 8) - 0.25 * math.log(9)), rel=1e-12)


def test_robust_is_unbiased_under_flipped_labels() -> None:
    """A quarter of the labels flipped: the mean of the robust losses is the loss of the true labels."""
    config = DPOConfig(objective=Objective.DPO, beta=1, label_smoothing=0.25, smoothing=Smoothing.ROBUST)
    right = pair_losses(config, CHOSEN, REJECTED, 0.0).loss_P.item()
    flipped = pair_losses(config, REJECTED, CHOSEN, 0.0).loss_P.item()
    assert 0.75 * right + 0.25 * flipped == pytest.approx(math.log(9 / 8), rel=1e-12)


def test_simpo_by_hand() -> None:
    """Both answers have log 1/2 per token, so m = -gamma: with gamma = log 3 the loss is log(1 + 3)."""
    config = DPOConfig(objective=Objective.SIMPO, beta=2, gamma=math.log(3))
    assert loss(config) == pytest.approx(math.log(4), rel=1e-12)


def test_ipo_by_hand() -> None:
    """The difference per token is 5/4 log 2; with beta = 1/2 it should be 1."""
    assert loss(DPOConfig(objective=Objective.IPO, beta=0.5)) == pytest.approx((1.25 * LOG2 - 1) ** 2, rel=1e-12)


def test_kto_by_hand() -> None:
    """z = log 2, beta 1: 1 - s(log 2) = 1/3 for the chosen, 1 - s(2 log 2) = 1/5 for the rejected, weights 2 and 3."""
    config = DPOConfig(objective=Objective.KTO, beta=1, desirable_weight=2, undesirable_weight=3)
    assert loss(config, kl=LOG2) == pytest.approx((2 / 3 + 3 / 5) / 2, rel=1e-12)


def test_orpo_by_hand() -> None:
    """Chosen with p = 3/4 per token has odds 3, rejected with p = 1/4 has odds 1/3: -beta log s(log 9)."""
    config = DPOConfig(objective=Objective.ORPO, beta=0.5)
    chosen, rejected = answers(2 * math.log(0.75), 0, 2), answers(3 * math.log(0.25), 0, 3)
    assert pair_losses(config, chosen, rejected, 0.0).loss_P.item() == pytest.approx(0.5 * math.log(10 / 9), rel=1e-12)


def test_log_odds_and_their_gradient_are_finite_near_certainty() -> None:
    logprob = torch.tensor([-1e-12, -LOG2, -50.0], dtype=torch.float64, requires_grad=True)
    odds = log_odds(logprob)
    odds.sum().backward()
    assert odds.tolist() == pytest.approx([12 * math.log(10), 0.0, -50.0], abs=1e-12)
    assert logprob.grad is not None
    # d/dx log(p / (1 - p)) = 1 / (1 - p)
    assert logprob.grad.tolist() == pytest.approx([1e12, 2.0, 1.0], rel=1e-9)


@pytest.mark.parametrize(
    ("name", "chosen", "rejected"),
    [
        ("dpo_norm", 5 * LOG2, -1.25 * LOG2),
        ("dpo", 0.2 * LOG2, -0.1 * LOG2),
        ("simpo", -2 * LOG2, -2 * LOG2),
        ("ipo", 0.1 * LOG2, -0.025 * LOG2),
        ("kto", 0.2 * LOG2, -0.1 * LOG2),
        ("orpo", -0.1 * LOG2, -0.1 * LOG2),
    ],
)
def test_rewards_are_what_the_loss_looks_at(name: str, chosen: float, rejected: float) -> None:
    result = pair_losses(CONFIGS[name], CHOSEN, REJECTED, 0.0)
    assert result.chosen_reward_P.item() == pytest.approx(chosen, rel=1e-12)
    assert result.rejected_reward_P.item() == pytest.approx(rejected, rel=1e-12)


AT_THE_REFERENCE = {
    "dpo_norm": LOG2,
    "dpo": LOG2,
    "conservative": LOG2,
    "robust": LOG2,
    "ipo": 1 / (4 * 0.1**2),
    "kto": 0.5,
}
"""The loss where policy and reference agree."""


@pytest.mark.parametrize("name", AT_THE_REFERENCE)
def test_loss_where_the_policy_is_the_reference(name: str) -> None:
    result = pair_losses(CONFIGS[name], answers(-3, 0, 2), answers(-70, 0, 30), 0.0)
    assert result.loss_P.item() == pytest.approx(AT_THE_REFERENCE[name], rel=1e-12)


def test_the_gradient_pulls_answers_apart() -> None:
    """Every objective wants the chosen answer likelier and the rejected one less likely."""
    for name, config in CONFIGS.items():
        logprobs = [torch.tensor([value], dtype=torch.float64, requires_grad=True) for value in (-3.0, -4.0)]
        length = torch.tensor([3.0], dtype=torch.float64)
        chosen, rejected = (Answers(value, value + 3.5, length) for value in logprobs)
        pair_losses(config, chosen, rejected, 0.1).loss_P.sum().backward()
        assert logprobs[0].grad is not None and logprobs[1].grad is not None
        assert logprobs[0].grad.item() < 0 < logprobs[1].grad.item(), name
