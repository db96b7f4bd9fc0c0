"""The losses of reinforcement learning and all their gradients do not depend on how the tokens were laid out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rl_support import (
    EVERYTHING,
    MAX_NEW_TOKENS,
    Found,
    alone,
    forest,
    gradients,
    gradients_and_scores,
    objective_loss,
    tempered_policy,
    value_model,
    values_loss,
)
from support import largest_relative_difference

from cameleer.rlvr.names import Objective
from cameleer.rlvr.objective import Totals
from cameleer.train.distributed import start_ranks
from cameleer.train.layout import Tree

TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-5}


def assert_same(one: Found, other: Found, dtype: torch.dtype) -> None:
    tolerance = TOLERANCES[dtype]
    assert one[0] == pytest.approx(other[0], rel=tolerance)
    # Sums of signed numbers near 0 have no digits to compare relatively.
    assert one[1] == pytest.approx(other[1], rel=tolerance, abs=tolerance)
    assert largest_relative_difference(one[2], other[2]) <= tolerance


def layouts(trees: Sequence[Tree]) -> dict[str, list[list[Tree]]]:
    rows = alone(trees)
    return {
        "one tree at a time": [[tree] for tree in trees],
        "uneven": [list(trees[:1]), list(trees[1:4]), list(trees[4:])],
        "reversed": [list(trees[::-1])],
        "prompts repeated, packed": [rows],
        "prompts repeated, one answer at a time": [[row] for row in rows],
        "prompts repeated, reversed, by threes": [rows[::-1][i : i + 3] for i in range(0, len(rows), 3)],
    }


@pytest.mark.parametrize("objective", Objective)
@pytest.mark.parametrize("settings", [{}, EVERYTHING], ids=["plain", "with entropy, kl and correction"])
def test_layout_does_not_matter_to_an_objective(objective: Objective, settings: dict[str, Any]) -> None:
    trees = forest(1, tempered_policy(torch.float64, "qwen3"))
    loss_of = objective_loss(objective, settings, Totals.of(trees, MAX_NEW_TOKENS))
    model = tempered_policy(torch.float64, "qwen3")
    reference = gradients(model, [trees], loss_of)
    if objective is not Objective.RLOO and "cispo" not in objective:
        assert 0 < reference[1]["clip_fraction"] < Totals.of(trees, MAX_NEW_TOKENS).num_tokens
    for batches in layouts(trees).values():
        assert_same(gradients(model, batches, loss_of), reference, torch.float64)


@pytest.mark.parametrize("objective", [Objective.GRPO, Objective.GSPO, Objective.DAPO])
def test_layout_does_not_matter_in_fp32(objective: Objective) -> None:
    trees = forest(2, tempered_policy(torch.float64))
    loss_of = objective_loss(objective, EVERYTHING, Totals.of(trees, MAX_NEW_TOKENS))
    model = tempered_policy(torch.float32)
    reference = gradients(model, [trees], loss_of)
    for batches in layouts(trees).values():
        assert_same(gradients(model, batches, loss_of), reference, torch.float32)


@pytest.mark.parametrize("dtype", list(TOLERANCES))
def test_layout_does_not_matter_to_the_value_loss(tmp_path: Path, dtype: torch.dtype) -> None:
    trees = forest(3, tempered_policy(torch.float64))
    loss_of, model = values_loss(Totals.of(trees, MAX_NEW_TOKENS)), value_model(tmp_path / "model", dtype)
    reference = gradients(model, [trees], loss_of)
    assert reference[1]["value_clip_fraction"] > 0
    for batches in layouts(trees).values():
        assert_same(gradients(model, batches, loss_of), reference, dtype)


def test_ranks_do_not_matter(tmp_path: Path) -> None:
    """Two ranks, each with several micro-batches of uneven size, for every objective and the value loss; and what
    models give for tokens, where one rank is idle."""
    trees = forest(4, tempered_policy(torch.float64))
    value_model(tmp_path / "model", torch.float64)
    many, many_scores = start_ranks(2, gradients_and_scores, trees, tmp_path / "model")
    one, scores = gradients_and_scores(trees, tmp_path / "model")
    assert len(many) == len(Objective) + 1
    for name in one:
        assert_same(many[name], one[name], torch.float64)
    for found, expected in zip(many_scores, scores, strict=True):
        assert [len(each) for each in found] == [15] * len(expected)
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_the_comparison_sees_means_of_microbatch_means() -> None:
    """The bug itself: were each micro-batch divided by its own counts, loss and gradients would differ."""
    trees = forest(5, tempered_policy(torch.float64))
    model = tempered_policy(torch.float64)
    for objective in (Objective.PPO, Objective.GRPO):
        whole = gradients(model, [trees], objective_loss(objective, {}, Totals.of(trees, MAX_NEW_TOKENS)))
        halves = [trees[:1], trees[1:]]
        means = [
            gradients(model, [half], objective_loss(objective, {}, Totals.of(half, MAX_NEW_TOKENS)))[2]
            for half in halves
        ]
        averaged = {name: (means[0][name] + means[1][name]) / 2 for name in whole[2]}
        assert largest_relative_difference(averaged, whole[2]) > 1e-2
