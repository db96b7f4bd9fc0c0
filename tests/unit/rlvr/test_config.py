"""Settings that do not fit together are refused with both values; defaults are Tülu 3's."""

from typing import Any

import pytest

from cameleer.core.errors import UserError
from cameleer.core.stage import InputKind
from cameleer.rlvr.config import RLVRConfig
from cameleer.rlvr.names import Advantage, KLEstimator, Objective


def test_defaults_are_tulu_3s_for_8b() -> None:
    """Technical report, Table 21 and §6.2."""
    config = RLVRConfig()
    objective = config.objective
    assert (objective.objective, objective.advantage) == (Objective.PPO, Advantage.GAE)
    assert (objective.kl_estimator, objective.kl_coefficient) == (KLEstimator.K1, 0.05)
    assert (objective.clip_low, objective.gae_gamma, objective.gae_lambda) == (0.2, 1.0, 0.95)
    assert (objective.value_clip, objective.value_coefficient) == (0.2, 0.1)
    assert (config.learning_rate, config.schedule, config.max_grad_norm) == (3e-7, "linear", 1.0)
    assert (config.prompts_per_step, config.samples_per_prompt) == (224, 1)
    assert (config.num_passes, config.num_mini_batches, config.adamw.eps) == (4, 1, 1e-5)
    assert (config.temperature, config.max_new_tokens, config.max_prompt_tokens) == (1.0, 2048, 2048)
    assert (config.reward.correct, config.reward.missing_end, config.max_staleness) == (10.0, -10.0, 1)


def test_inputs_are_what_the_settings_need() -> None:
    """A reference only with a KL penalty, a value model only with gae."""
    groups = {"objective": {"objective": "grpo"}, "samples_per_prompt": 8}
    held = {"objective": {"objective": "grpo", "kl_coefficient": 0.01}, "samples_per_prompt": 8}
    assert [each.role for each in RLVRConfig().inputs()] == ["problems", "model", "reference", "value_model"]
    assert [each.role for each in RLVRConfig.parse(groups, "rlvr").inputs()] == ["problems", "model"]
    assert [each.role for each in RLVRConfig.parse(held, "rlvr").inputs()] == ["problems", "model", "reference"]
    reference = RLVRConfig.parse({**held, "model": "sft"}, "rlvr").inputs()[-1]
    assert (reference.kind, reference.reference) == (InputKind.MODEL, "sft")


def test_the_proximal_policy_is_computed_where_the_samplers_numbers_are_not_its_own() -> None:
    """In bf16 a clip around the sampler's log-probabilities would count its rounding."""
    on_policy = RLVRConfig(max_staleness=0)
    assert not on_policy.scores_proximal(is_fp32=True) and on_policy.scores_proximal(is_fp32=False)
    assert RLVRConfig(max_staleness=1).scores_proximal(is_fp32=True)
    corrected = RLVRConfig.parse({"max_staleness": 0, "objective": {"objective": "ppo", "correction": "mask"}}, "")
    assert corrected.scores_proximal(is_fp32=True)


def test_none_by_name_unsets_what_is_set_by_default() -> None:
    """TOML has no null. Where nothing is what the default is, the word is a value like another."""
    table = {"value_model": "none", "max_grad_norm": "none", "reward": {"missing_end": "none"}, "reference": "none"}
    config = RLVRConfig.parse(table, "rlvr")
    assert config.value_model is None and config.max_grad_norm is None and config.reward.missing_end is None
    assert config.reference == "none"


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"objective": {"objective": "grpo"}}, "samples_per_prompt = 1 leaves nothing to compare"),
        ({"max_refills": 2}, "max_refills = 2 looks for groups that differ, and 'gae' has none"),
        ({"prompts_per_step": 2, "num_mini_batches": 4}, "prompts_per_step = 2 cannot be dealt to 4 mini-batches"),
        ({"max_staleness": 2}, "less than or equal to 1"),
        ({"task_weights": {"precise-if": 0}}, "the weight of 'precise-if' must be a positive number"),
        ({"max_new_tokens": 8, "reward": {"overlong": {"buffer_tokens": 9}}}, "is more than max_new_tokens = 8"),
        ({"reward": {"format": {"pattern": "("}}}, "not a regular expression"),
        ({"difficulty": {"pass_rate": [0.8, 0.2]}}, r"pass_rate = \[0.8, 0.2\] is not a range"),
        ({"held_out": {"tasks": ["precise-if-unseen"]}}, "sealed"),
        ({"held_out": {"tasks": ["precise-if-def"]}}, "Did you mean 'precise-if-dev'"),
        ({"objective": {"objective": "rloo", "clip_low": 0.2}}, "clip_low = 0.2 is not read"),
        ({"prompt_per_step": 4}, "Did you mean 'prompts_per_step'"),
    ],
)
def test_what_does_not_fit_is_named(table: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        RLVRConfig.parse(table, "rlvr")
