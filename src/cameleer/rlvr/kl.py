"""Estimators of KL(p ‖ q) from tokens drawn from p, one number per token.

With log r = log q(token) − log p(token) (Schulman 2020, "Approximating KL Divergence"):

    k1 = −log r                  unbiased, of either sign
    k2 = ½ (log r)²              biased by the third order, its gradient is that of the divergence
    k3 = r − 1 − log r           unbiased, never negative

As a term of a loss k1 does nothing: on tokens of p the gradient of its mean is E[∇ log p] = 0. So Cameleer takes k1 off
the reward, where the policy gradient sees it, and only k2 and k3 are terms of the loss. On tokens of p, the gradient of
k2, (log p − log q) ∇ log p, is what k1 taken off the reward of its own token gives.
"""

from torch import Tensor

from cameleer.rlvr.names import KLEstimator


def kl_divergence(estimator: KLEstimator, logprob_N: Tensor, other_N: Tensor) -> Tensor:
    """(N,) estimates of KL(p ‖ q): `logprob_N` are those of p, whose tokens these are, `other_N` those of q."""
    log_ratio_N = other_N - logprob_N
    match estimator:
        case KLEstimator.K1:
            return -log_ratio_N
        case KLEstimator.K2:
            return log_ratio_N.square() / 2
        case KLEstimator.K3:
            return log_ratio_N.expm1() - log_ratio_N
