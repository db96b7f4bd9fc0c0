"""The Bradley–Terry loss by hand."""

import math

import pytest
import torch

from cameleer.rm.loss import bradley_terry_loss


def test_two_pairs_by_hand() -> None:
    """Gaps 1 and -0.5, margins 0 and 0.25, of a step with 4 pairs: -(log σ(1) + log σ(-0.75)) / 4."""
    chosen, rejected, margin = torch.tensor([2.0, 0.0]), torch.tensor([1.0, 0.5]), torch.tensor([0.0, 0.25])
    expected = (math.log1p(math.exp(-1.0)) + math.log1p(math.exp(0.75))) / 4
    assert float(bradley_terry_loss(chosen, rejected, margin, 4)) == pytest.approx(expected, rel=1e-6)


def test_the_gradient_pulls_the_answers_apart_by_how_wrong_the_order_is() -> None:
    """d/dr_chosen = -σ(-(gap)) / B."""
    scores = torch.tensor([0.3, -0.2, 1.0, 2.0], dtype=torch.float64, requires_grad=True)
    bradley_terry_loss(scores[::2], scores[1::2], torch.zeros(2), 2).backward()
    wrong = [1 / (1 + math.exp(gap)) / 2 for gap in (0.5, -1.0)]
    assert scores.grad is not None
    assert scores.grad.tolist() == pytest.approx([-wrong[0], wrong[0], -wrong[1], wrong[1]])


def test_a_gap_beyond_what_exp_can_hold_stays_finite() -> None:
    chosen = torch.tensor([-2000.0], requires_grad=True)
    loss = bradley_terry_loss(chosen, torch.zeros(1), torch.zeros(1), 1)
    loss.backward()
    assert loss.item() == 2000.0 and chosen.grad is not None and float(chosen.grad) == -1.0
