"""The settings: what contradicts itself is refused with both values; how a server is asked is no part of the result."""

from pathlib import Path
from typing import Any

import pytest
from prefs_support import prefs_config

from cameleer.core.errors import UserError
from cameleer.core.stage import InputKind
from cameleer.pipeline import read_recipe
from cameleer.prefs.config import PrefsConfig

PROMPTS = [{"problems": "curate"}]
SFT = {"model": "sft"}
SERVED = {"model": "m", "endpoint": "http://x/v1"}


def config_of(**table: Any) -> PrefsConfig:
    return prefs_config(**{"prompts": PROMPTS, "models": [SFT], **table})


def test_tulus_values_and_the_verifier_are_the_defaults() -> None:
    config = PrefsConfig.parse({"prompts": PROMPTS, "models": [SFT]}, where="prefs")
    assert (config.num_responses, config.temperature, config.top_p) == (4, 1.0, 1.0)
    assert [(judge.name, judge.method) for judge in config.judges] == [("verifier", "verifier")]
    assert config.models[0].name == "sft" and config.prompts[0].name == "curate"


def test_everything_that_is_read_is_an_input() -> None:
    config = config_of(
        prompts=[{"problems": "curate"}, {"mixture": "curate", "name": "chats"}],
        models=[SFT, SERVED, {"file": "a/old.jsonl"}],
        judges=[{"method": "verifier"}, {"method": "aspects", **SERVED}, {"method": "reward_model", "model": "rm"}],
        sources=[{"file": "pairs.jsonl"}, {"dataset": "org/name"}],
    )
    assert [(each.role, each.kind, each.reference) for each in config.inputs()] == [
        ("prompts curate", InputKind.PROBLEMS, "curate"),
        ("prompts chats", InputKind.MIXTURE, "curate"),
        ("model sft", InputKind.MODEL, "sft"),
        ("model old", InputKind.FILE, "a/old.jsonl"),
        ("judge rm", InputKind.REWARD_MODEL, "rm"),
        ("pairs pairs", InputKind.FILE, "pairs.jsonl"),
    ]


def test_how_a_server_is_asked_does_not_change_what_the_stage_makes() -> None:
    """A raised budget must go on in the same draft: the key of an artifact is a digest of this dump."""
    ways = [
        {},
        {"budget_tokens": 9, "max_concurrency": 3, "api_key_env": "K", "requests_per_minute": 5.0},
        {"budget_cost": 1.0, "prices": [1.0, 2.0], "timeout_seconds": 1.0, "max_retries": 0},
    ]
    dumps = [config_of(models=[{**SERVED, **way}]).model_dump(mode="json") for way in ways]
    assert dumps[0] == dumps[1] == dumps[2]
    changed = config_of(models=[{**SERVED, "extra_body": {"top_k": 5}}]).model_dump(mode="json")
    assert changed != dumps[0]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"prompts": [], "sources": []}, "add a table [[prefs.prompts]]"),
        ({"models": []}, "prompts without models"),
        ({"judges": []}, "prompts without judges"),
        ({"policy": "stf"}, "policy = 'stf' is none of the models: sft"),
        ({"models": [SFT, SFT]}, "several models are named 'sft'"),
        ({"temperature": 0.0}, "one model at temperature 0 gives the same answer each time"),
        ({"prompts": [{"problems": "a", "mixture": "b"}]}, "exactly one of problems and mixture"),
        ({"models": [{"file": "x.jsonl", "model": "sft"}]}, "exactly one of model"),
        ({"models": [{"file": "x.jsonl", "engine": "vllm"}]}, "runs a model of this machine"),
        ({"models": [{"endpoint": "http://x/v1", "name": "m"}]}, "without a model"),
        ({"models": [{"model": "sft", "budget_tokens": 5}]}, "budget_tokens belongs to an endpoint"),
        ({"models": [{**SERVED, "budget_cost": 5.0}]}, "can only be kept with prices"),
        ({"judges": [{"method": "aspects"}]}, "needs a model"),
        ({"judges": [{"method": "verifier", "model": "sft"}]}, "takes no model"),
        ({"judges": [{"method": "reward_model", **SERVED}]}, "runs on this machine"),
        ({"num_responses": 1}, "greater than or equal to 2"),
        ({"sources": [{"file": "a.jsonl", "dataset": "o/n"}]}, "exactly one of file and dataset"),
        ({"sources": [{"file": "a/curate.jsonl"}]}, "several prompts are named 'curate'"),
    ],
)
def test_what_contradicts_itself_is_refused(table: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as error:
        config_of(**table)
    assert words in str(error.value)


def test_a_recipe_with_prefs_is_read_and_its_references_checked(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    text = """
name = "x"
model = "unused"

[curate]
[[curate.sources]]
task = "precise-if"
count = 4

[prefs]
[[prefs.prompts]]
mixture = "{}"
[[prefs.models]]
model = "base"
[[prefs.judges]]
method = "aspects"
model = "base"
"""
    recipe.write_text(text.format("curate"))
    assert [stage.name for stage in read_recipe(recipe).stages] == ["curate", "prefs"]
    recipe.write_text(text.format("curat"))
    with pytest.raises(
        UserError, match=r"neither a stage of this recipe nor a mixture's folder\. Did you mean 'curate'"
    ):
        read_recipe(recipe)
