"""Estimators of the KL divergence: by hand, and what they estimate, exactly, over a small vocabulary."""

import math

import pytest
import torch

from cameleer.rlvr.kl import kl_divergence
from cameleer.rlvr.names import KLEstimator

SPREAD = 0.3


def distributions(spread: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of two distributions over 7 tokens."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(7, generator=generator, dtype=torch.float64)
    return logits, logits + spread * torch.randn(7, generator=generator, dtype=torch.float64)


def test_by_hand() -> None:
    """p = ½, q = ¼: log r = −log 2, so k1 = log 2, k2 = ½ log² 2, k3 = ½ − 1 + log 2."""
    p, q = torch.log(torch.tensor([0.5], dtype=torch.float64)), torch.log(torch.tensor([0.25], dtype=torch.float64))
    expected = {
        KLEstimator.K1: math.log(2),
        KLEstimator.K2: math.log(2) ** 2 / 2,
        KLEstimator.K3: math.log(2) - 0.5,
    }
    for estimator, value in expected.items():
        assert kl_divergence(estimator, p, q).item() == pytest.approx(value, rel=1e-15)
        assert kl_divergence(estimator, p, p).item() == 0.0


def test_k1_and_k3_are_unbiased_and_k2_nearly() -> None:
    """Their expectation under p, summed over all tokens, is KL(p ‖ q); that of k2 to the third order of log r."""
    p_logits, q_logits = distributions(SPREAD)
    log_p, log_q = torch.log_softmax(p_logits, 0), torch.log_softmax(q_logits, 0)
    exact = (log_p.exp() * (log_p - log_q)).sum().item()
    mean = {e: (log_p.exp() * kl_divergence(e, log_p, log_q)).sum().item() for e in KLEstimator}
    assert mean[KLEstimator.K1] == pytest.approx(exact, rel=1e-12)
    assert mean[KLEstimator.K3] == pytest.approx(exact, rel=1e-12)
    third_order = (log_p.exp() * (log_q - log_p).abs() ** 3).sum().item()
    assert 0 < abs(mean[KLEstimator.K2] - exact) <= third_order / 6 * 1.5


def test_k3_is_never_negative() -> None:
    log_ratio = torch.linspace(-8, 8, 1001, dtype=torch.float64)
    assert (kl_divergence(KLEstimator.K3, torch.zeros(1001, dtype=torch.float64), log_ratio) >= 0).all()


def test_gradients_of_the_terms_of_a_loss() -> None:
    """Expected gradients on tokens of p: none of k1, KL(p ‖ q)'s of k2, KL(q ‖ p)'s of k3 (with r = q / p weights)."""
    p_logits, q_logits = distributions(SPREAD)
    log_q = torch.log_softmax(q_logits, 0)

    def gradient(estimator: KLEstimator | None, reverse: bool = False) -> torch.Tensor:
        logits = p_logits.clone().requires_grad_()
        log_p = torch.log_softmax(logits, 0)
        if estimator is not None:
            loss = (log_p.detach().exp() * kl_divergence(estimator, log_p, log_q)).sum()
        elif reverse:
            loss = (log_q.exp() * (log_q - log_p)).sum()
        else:
            loss = (log_p.exp() * (log_p - log_q)).sum()
        return torch.autograd.grad(loss, logits)[0]

    assert gradient(KLEstimator.K1).abs().max() < 1e-15
    torch.testing.assert_close(gradient(KLEstimator.K2), gradient(None), rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(gradient(KLEstimator.K3), gradient(None, reverse=True), rtol=1e-12, atol=1e-15)
