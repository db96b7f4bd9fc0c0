"""Settings of preference tuning: the objective's own defaults, and nothing that nobody reads."""

import pytest

from cameleer.core.errors import UserError
from cameleer.core.stage import InputKind
from cameleer.dpo.config import DPOConfig, Objective


@pytest.mark.parametrize(
    ("objective", "beta"), [("dpo_norm", 5), ("dpo", 0.1), ("simpo", 2), ("ipo", 0.1), ("kto", 0.1), ("orpo", 0.1)]
)
def test_beta_is_the_objectives_own_unless_stated(objective: str, beta: float) -> None:
    assert DPOConfig.parse({"objective": objective}, "dpo").beta == beta
    assert DPOConfig.parse({"objective": objective, "beta": 0.7}, "dpo").beta == 0.7


def test_published_settings_are_the_defaults() -> None:
    """Tülu 3, Table 20, 8B."""
    config = DPOConfig()
    assert (config.objective, config.beta, config.learning_rate, config.schedule) == ("dpo_norm", 5.0, 5e-7, "linear")
    assert (config.warmup_ratio, config.batch_size, config.max_tokens, config.num_epochs) == (0.1, 128, 2048, 1)
    assert config.adamw.weight_decay == 0


def test_orpo_has_its_sft_term_and_simpo_its_margin() -> None:
    assert DPOConfig(objective=Objective.ORPO).sft_coefficient == 1
    assert DPOConfig(objective=Objective.SIMPO).gamma == 1
    assert DPOConfig().sft_coefficient == DPOConfig().gamma == 0


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ({"gamma": 1.0}, "gamma"),
        ({"objective": "simpo", "reference": "base"}, "reference"),
        ({"objective": "orpo", "label_smoothing": 0.1}, "label_smoothing"),
        ({"objective": "ipo", "label_smoothing": 0.1}, "label_smoothing"),
        ({"desirable_weight": 2.0}, "desirable_weight"),
        ({"objective": "dpo", "undesirable_weight": 2.0}, "undesirable_weight"),
        ({"smoothing": "robust"}, "smoothing"),
    ],
)
def test_a_setting_that_the_objective_does_not_read_is_refused_by_name(table: dict[str, object], named: str) -> None:
    with pytest.raises(UserError, match=rf"dpo: {named} = .* has no effect with"):
        DPOConfig.parse(table, "dpo")


@pytest.mark.parametrize("objective", list(Objective))
def test_the_resolved_config_is_a_config(objective: Objective) -> None:
    """What config.json holds can be run again."""
    config = DPOConfig(objective=objective)
    assert DPOConfig.parse(config.model_dump(mode="json"), "dpo") == config


def test_only_objectives_with_a_reference_read_one() -> None:
    reads = {each: [found.role for found in DPOConfig(objective=each).inputs()] for each in Objective}
    assert [each for each in Objective if "reference" in reads[each]] == ["dpo_norm", "dpo", "ipo", "kto"]
    (reference,) = (found for found in DPOConfig().inputs() if found.role == "reference")
    assert (reference.kind, reference.reference) == (InputKind.MODEL, "sft")


def test_an_unknown_objective_lists_the_known() -> None:
    with pytest.raises(UserError, match="dpo_norm"):
        DPOConfig.parse({"objective": "dpo-norm"}, "dpo")
