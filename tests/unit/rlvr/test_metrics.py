"""Numbers that a user watches, by hand."""

import pytest
import torch

from cameleer.core.errors import UserError
from cameleer.rlvr.config import Instructions, Repetition, RewardConfig
from cameleer.rlvr.metrics import of_times, signs
from cameleer.rlvr.rollouts import Sampled
from cameleer.rlvr.update import Update
from cameleer.train.learner import StepReport
from cameleer.train.meter import memory_named
from cameleer.verify import Outcome


def test_tokens_a_second_by_hand() -> None:
    """100 sampled in 4 s, 60 scored in 2 s; two optimizer steps of 80 computed tokens, and one of values, in 8 s."""
    reports = [StepReport(0.0, {}, 0.0, 0.0, num_tokens=80, seconds=1.0, peak_memory_gib=0.0)] * 3
    update = Update([], reports[:2], reports[2:], num_scored_tokens=60, scoring_seconds=2.0, learning_seconds=8.0)
    found = of_times(Sampled([], num_tokens=100, seconds=4.0, verify_seconds=0.5), update)
    assert found["sampling_tokens_per_second"] == 25 and found["verifying_seconds"] == 0.5
    assert found["scoring_tokens_per_second"] == 30 and found["learning_tokens_per_second"] == 30


def test_the_alarms_see_what_terms_pay() -> None:
    """Half of the reward is for instructions: 0.4 of them and a tenth of the answers are a quarter of the most."""
    reward = RewardConfig(correct=0.5, instructions=Instructions(weight=0.5), repetition=Repetition())
    line = {f"outcome/{outcome.value}": 1 for outcome in Outcome}
    line |= {"step": 3, "answer_tokens": 9.0, "repetition": 0.1}
    judged = {"pass_rate": 0.1, "shaping/instructions": 0.2, "shaping/repetition": -0.1}
    assert signs({**line, **judged}, reward).earned == pytest.approx(0.25)
    assert signs(line, reward).earned is None and signs(line, reward).verifier_errors == 0.4


@pytest.mark.parametrize(
    "failure",
    [
        torch.OutOfMemoryError("CUDA"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes"),
    ],
)
def test_memory_that_runs_out_is_named(failure: Exception) -> None:
    with pytest.raises(UserError, match="rlvr: out of memory"), memory_named("rlvr", "less"):
        raise failure


@pytest.mark.parametrize("failure", [RuntimeError("shapes differ"), NotImplementedError("no such kernel")])
def test_other_failures_are_not_called_a_lack_of_memory(failure: Exception) -> None:
    with pytest.raises(type(failure), match=str(failure)), memory_named("rlvr", "less"):
        raise failure
