"""Advantages by hand."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from cameleer.rlvr.advantages import gae, group_advantages, kl_penalised_rewards, whiten
from cameleer.rlvr.names import Advantage

GROUPED = [kind for kind in Advantage if kind is not Advantage.GAE]


def test_group_advantages_by_hand() -> None:
    """Rewards 1, 0, 0, 1: mean 1/2, std with n − 1 √(4 · ¼ / 3) = 1/√3; without itself, a 1 sees a mean of 1/3."""
    rewards = np.array([1.0, 0.0, 0.0, 1.0])
    signs = np.array([1, -1, -1, 1])
    expected = {
        Advantage.GROUP_MEAN_STD: signs * np.sqrt(3) / 2,
        Advantage.GROUP_MEAN: signs / 2,
        Advantage.LEAVE_ONE_OUT: signs * 2 / 3,
    }
    for kind, advantages in expected.items():
        assert_allclose(group_advantages(rewards, kind), advantages, rtol=1e-15)


@pytest.mark.parametrize("kind", GROUPED)
@pytest.mark.parametrize(
    "rewards",
    [
        [1.0, 1.0, 1.0, 1.0],
        # The same sums in another order: the last digit differs, which a division by the spread would turn into ±1.
        [0.1 + 0.2 + 0.3, 0.3 + 0.2 + 0.1, 0.6, 0.6],
        [1.0],
        [],
    ],
    ids=["equal", "equal but for rounding", "one judged", "none judged"],
)
def test_groups_without_spread_are_zero(kind: Advantage, rewards: list[float]) -> None:
    found = group_advantages(np.array(rewards), kind)
    assert len(found) == len(rewards) and not found.any()


def test_leave_one_out_is_each_reward_minus_the_mean_of_the_others() -> None:
    rewards = np.random.default_rng(0).normal(size=7)
    others = np.array([np.delete(rewards, i).mean() for i in range(7)])
    found = group_advantages(rewards, Advantage.LEAVE_ONE_OUT)
    assert_allclose(found, rewards - others, rtol=1e-13)


def test_gae_by_hand() -> None:
    """Four tokens, reward 1 at the last, values ½ ¼ ¾ ½, γ = 1, λ = ½.

    δ = ¼ − ½, ¾ − ¼, ½ − ¾, 1 − ½ = −¼, ½, −¼, ½. From the end: A₄ = ½; A₃ = −¼ + ¼ = 0; A₂ = ½; A₁ = −¼ + ¼ = 0.
    Returns A + V = ½, ¾, ¾, 1.
    """
    advantages, returns = gae(np.array([0, 0, 0, 1.0]), np.array([0.5, 0.25, 0.75, 0.5]), 1.0, 0.5)
    assert_allclose(advantages, [0, 0.5, 0, 0.5], atol=1e-16)
    assert_allclose(returns, [0.5, 0.75, 0.75, 1.0], atol=1e-16)


def test_gae_discounts_by_hand() -> None:
    """γ = λ = ½, rewards 1, 0, 2, no values: δ = r; A₃ = 2, A₂ = 2/4, A₁ = 1 + ½/4 = 1.125."""
    advantages, returns = gae(np.array([1.0, 0.0, 2.0]), np.zeros(3), 0.5, 0.5)
    assert_allclose(advantages, [1.125, 0.5, 2.0], rtol=1e-15)
    assert_allclose(returns, advantages, rtol=0)


def test_gae_at_its_ends() -> None:
    """λ = 1: the sum of rewards to come minus the value, whatever later values are; λ = 0: the one-step error."""
    random = np.random.default_rng(1)
    rewards, values = random.normal(size=9), random.normal(size=9)
    to_come = np.cumsum(rewards[::-1])[::-1]
    advantages, returns = gae(rewards, values, 1.0, 1.0)
    assert_allclose(advantages, to_come - values, rtol=1e-12)
    assert_allclose(returns, to_come, rtol=1e-12)
    assert_allclose(gae(rewards, values, 0.9, 0.0)[0], rewards + 0.9 * np.append(values[1:], 0) - values, rtol=1e-12)


def test_gae_as_a_double_sum() -> None:
    """A_t = Σ_{k ≥ t} (γλ)^{k−t} δ_k, its definition (Schulman et al. 2016, eq. 16)."""
    random = np.random.default_rng(2)
    rewards, values = random.normal(size=12), random.normal(size=12)
    errors = rewards + 0.97 * np.append(values[1:], 0) - values
    expected = [sum((0.97 * 0.95) ** (k - t) * errors[k] for k in range(t, 12)) for t in range(12)]
    assert_allclose(gae(rewards, values, 0.97, 0.95)[0], expected, rtol=1e-12)


def test_whitening_by_hand() -> None:
    """1, 3, 5: mean 3, variance (4 + 0 + 4) / 2 = 4; so −1, 0, 1."""
    assert_allclose(whiten(np.array([1.0, 3.0, 5.0])), [-1, 0, 1], atol=1e-8)


@pytest.mark.parametrize("count", [1, 5])
def test_whitening_what_does_not_vary_gives_zeros(count: int) -> None:
    assert_allclose(whiten(np.full(count, 7.0)), np.zeros(count), atol=0)


def test_whitened_in_parts_is_another_thing() -> None:
    """What other trainers do per micro-batch: two halves of different means both get mean 0."""
    low, high = np.array([0.0, 1.0]), np.array([10.0, 11.0])
    whole = whiten(np.concatenate([low, high]))
    assert whole[:2].max() < -0.7 and whole[2:].min() > 0.7
    assert whiten(low).max() > 0.7


def test_kl_penalised_rewards_by_hand() -> None:
    """log p − log ref = 0.2, −0.1, 0.4 at β = ½: −0.1, 0.05, −0.2, and the score of 10 at the last: 9.8."""
    rewards = kl_penalised_rewards(np.array([-1.0, -2.0, -0.5]), np.array([-1.2, -1.9, -0.9]), 0.5, 10.0)
    assert_allclose(rewards, [-0.1, 0.05, 9.8], rtol=1e-14)


def test_kl_penalised_rewards_sum_to_the_score_less_the_divergence() -> None:
    """Σ r_t = score − β (log p(answer) − log ref(answer)): Tülu 3's objective, v(x, y) − β KL, of one sample."""
    random = np.random.default_rng(3)
    logprobs, reference = random.normal(size=8), random.normal(size=8)
    rewards = kl_penalised_rewards(logprobs, reference, 0.05, -10.0)
    assert rewards.sum() == pytest.approx(-10.0 - 0.05 * (logprobs.sum() - reference.sum()))
