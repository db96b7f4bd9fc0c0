"""The settings of an update: each objective has its source's, and refuses what it does not read."""

import pytest

from cameleer.core.errors import UserError
from cameleer.rlvr.names import Advantage, Correction, KLEstimator, Objective, ObjectiveConfig


def parse(**table: object) -> ObjectiveConfig:
    return ObjectiveConfig.parse(table, "rlvr.objective")


def test_each_objective_has_its_sources_settings() -> None:
    configs = {objective: parse(objective=objective) for objective in Objective}
    found = {name: (c.advantage, c.kl_estimator, c.clip_low, c.clip_high) for name, c in configs.items()}
    assert {name: c.kl_coefficient for name, c in configs.items() if c.kl_coefficient} == {"ppo": 0.05}
    assert found == {
        "ppo": (Advantage.GAE, KLEstimator.K1, 0.2, 0.2),
        "grpo": (Advantage.GROUP_MEAN_STD, KLEstimator.K3, 0.2, 0.2),
        "dr_grpo": (Advantage.GROUP_MEAN, KLEstimator.K3, 0.2, 0.2),
        "dapo": (Advantage.GROUP_MEAN_STD, KLEstimator.K3, 0.2, 0.28),
        "rloo": (Advantage.LEAVE_ONE_OUT, KLEstimator.K1, None, None),
        "cispo": (Advantage.GROUP_MEAN_STD, KLEstimator.K3, None, 4.0),
        "gspo": (Advantage.GROUP_MEAN_STD, KLEstimator.K3, 3e-4, 4e-4),
    }


def test_what_is_said_wins_over_the_sources_settings() -> None:
    config = parse(objective="dapo", clip_high=0.3, advantage="gae", gae_lambda=1.0)
    assert (config.clip_low, config.clip_high) == (0.2, 0.3)
    assert (config.gae_gamma, config.gae_lambda, config.value_clip, config.value_coefficient) == (1.0, 1.0, 0.2, 0.1)


@pytest.mark.parametrize(
    ("table", "name"),
    [
        ({"objective": "rloo", "clip_high": 0.2}, "clip_high"),
        ({"objective": "cispo", "clip_low": 0.2}, "clip_low"),
        ({"objective": "grpo", "gae_lambda": 0.95}, "gae_lambda"),
        ({"objective": "ppo", "advantage": "leave_one_out", "value_clip": 0.2}, "value_clip"),
        ({"objective": "grpo", "correction_limit": 5.0}, "correction_limit"),
    ],
)
def test_a_setting_that_nothing_reads_is_refused_by_name(table: dict[str, object], name: str) -> None:
    with pytest.raises(UserError, match=rf"{name} = .* is not read with .*; leave it out"):
        parse(**table)


@pytest.mark.parametrize("objective", Objective)
@pytest.mark.parametrize("correction", Correction)
def test_a_resolved_config_can_be_read_again(objective: Objective, correction: Correction) -> None:
    config = parse(objective=objective, correction=correction)
    assert ObjectiveConfig.model_validate(config.model_dump(mode="json")) == config


def test_the_estimator_says_where_the_penalty_goes() -> None:
    assert not parse(objective="grpo").kl_in_loss and not parse(objective="ppo", kl_coefficient=0).kl_in_reward
    in_loss, in_reward = parse(objective="grpo", kl_coefficient=0.1), parse(objective="ppo", kl_coefficient=0.1)
    assert (in_loss.kl_in_loss, in_loss.kl_in_reward) == (True, False)
    assert (in_reward.kl_in_loss, in_reward.kl_in_reward) == (False, True)


def test_a_name_alone_is_a_table_of_it() -> None:
    assert ObjectiveConfig.model_validate("dapo") == parse(objective="dapo")


def test_a_table_without_a_name_is_refused() -> None:
    """A weight given to one objective would else choose another."""
    with pytest.raises(UserError, match=r"rlvr\.objective\.objective: missing"):
        parse(kl_coefficient=0.07)


def test_a_penalty_is_not_divided_by_its_own_spread() -> None:
    """Where all answers are wrong rewards differ by the penalty alone; (r − mean) / std makes it large."""
    with pytest.raises(UserError, match="would weigh as much as a right answer"):
        parse(objective="grpo", kl_coefficient=0.01, kl_estimator="k1")
    assert parse(objective="dr_grpo", kl_coefficient=0.01, kl_estimator="k1").kl_in_reward
    assert parse(objective="ppo", advantage="group_mean_std").kl_coefficient == 0, "the paper's is one beside gae"


def test_an_unknown_objective_is_named_with_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"rlvr\.objective\.objective: input should be 'ppo', 'grpo'.*got 'grop'"):
        parse(objective="grop")
