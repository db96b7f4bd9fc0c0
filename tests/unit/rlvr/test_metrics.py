"""Numbers that a user watches, by hand."""

import torch
from rlvr_support import GROUPS

from cameleer.rlvr.metrics import of_times
from cameleer.rlvr.rollouts import Sampled
from cameleer.rlvr.update import Update, needs_proximal
from cameleer.train.distributed import World
from cameleer.train.learner import StepReport


def test_tokens_a_second_by_hand() -> None:
    """100 sampled in 4 s, 60 scored in 2 s; two optimizer steps of 80 computed tokens, and one of values, in 8 s."""
    reports = [StepReport(0.0, {}, 0.0, 0.0, num_tokens=80, seconds=1.0, peak_memory_gib=0.0)] * 3
    update = Update([], reports[:2], reports[2:], num_scored_tokens=60, scoring_seconds=2.0, learning_seconds=8.0)
    found = of_times(Sampled([], num_tokens=100, seconds=4.0, verify_seconds=0.5), update)
    assert found["sampling_tokens_per_second"] == 25 and found["verifying_seconds"] == 0.5
    assert found["scoring_tokens_per_second"] == 30 and found["learning_tokens_per_second"] == 30


def test_the_proximal_policy_is_computed_where_the_trainer_rounds_otherwise() -> None:
    """In bf16 a clip around the sampler's log-probabilities would count its rounding."""
    alone = World(0, 1, torch.device("cpu"))
    assert not needs_proximal(GROUPS, alone, 0, [])
    assert needs_proximal(GROUPS.model_copy(update={"precision": "bf16"}), alone, 0, [])
