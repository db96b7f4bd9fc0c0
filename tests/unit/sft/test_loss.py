"""The SFT objective by hand."""

import math

import pytest
import torch
from support import WholeDouble, random_rows, step_gradients, tiny_policy, total_weight

from cameleer.sft.loss import sft_loss
from cameleer.sft.train import loss_function
from cameleer.train.accumulate import accumulate
from cameleer.train.distributed import World


def test_by_hand() -> None:
    """Probabilities 1/2, 1/4 and an untrained one: mean (ln 2 + ln 4)/2 = 1.5 ln 2, sum 3 ln 2."""
    logprobs = torch.log(torch.tensor([0.5, 0.25, 0.9], dtype=torch.float64))
    weights = torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)
    assert sft_loss(logprobs, weights, 2.0).item() == pytest.approx(1.5 * math.log(2))
    assert sft_loss(logprobs, weights, 1.0).item() == pytest.approx(3 * math.log(2))


def test_the_sum_is_the_mean_times_the_tokens() -> None:
    """Loss and every gradient of `sum` are N times those of `token_mean`, to the last digits of fp64."""
    rows, policy = random_rows(1), tiny_policy("llama", torch.float64)
    mean_loss, mean_gradients = step_gradients(policy, [rows])
    policy.zero_grad()
    world = World(0, 1, torch.device("cpu"))
    with WholeDouble():
        sum_loss, _ = accumulate(policy, [rows], loss_function(1.0), world)
    count = total_weight(rows)
    assert sum_loss == pytest.approx(count * mean_loss, rel=1e-12)
    for name, parameter in policy.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, count * mean_gradients[name], rtol=1e-11, atol=1e-13)
