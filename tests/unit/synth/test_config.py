"""What a recipe may ask of synthesis; each mistake is named with what to do."""

from typing import Any

import pytest
from synth_support import endpoint, synth_config

from cameleer.core.errors import UserError

CODE = {"kind": "code", "count": 3}
MODELS = endpoint("http://x/v1")


@pytest.mark.parametrize(
    "table, message",
    [
        ({}, "add a table"),
        ({"prompts": [CODE]}, "prompts without models"),
        ({"prompts": [{"kind": "math_hard"}], "models": MODELS}, r"prompts\.0\.count: missing"),
        ({"prompts": [{**CODE, "kind": "essay"}], "models": MODELS}, "should be 'precise_if', 'math_hard'"),
        ({"prompts": [{**CODE, "mixture": "curate"}], "models": MODELS}, "mixture belongs to kind = 'augmented'"),
        ({"prompts": [{"kind": "augmented", "count": 1}], "models": MODELS}, "exactly one of mixture, problems"),
        ({"prompts": [{"kind": "math_hard", "count": 1, "num_answers": 2}], "models": MODELS}, "no majority"),
        ({"prompts": [{**CODE, "answers_by": "gpt"}], "models": MODELS}, "'gpt' is none of the models: author"),
        ({"prompts": [CODE, CODE], "models": MODELS}, "several prompts are named 'code'"),
        ({"prompts": [{"kind": "math_hard", "count": 1}], "models": MODELS, "temperature": 0}, "same answer 5 times"),
        ({"identity": {"names": {}}}, "at least 1 item"),
        ({"prompts": [CODE], "models": [{**MODELS[0], "budget_cost": 1}]}, "only be kept with prices"),
        ({"identity": {"names": {"model": "C"}}, "personas": {"file": "a", "dataset": "b/c"}}, "at most one of file"),
    ],
)
def test_mistakes_are_named(table: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        synth_config(**table)


def test_the_first_model_does_what_no_table_gives_to_another() -> None:
    models = [{"model": name, "endpoint": "http://x/v1"} for name in ("one", "two")]
    config = synth_config(prompts=[CODE, {**CODE, "name": "other", "answers_by": "two"}], models=models)
    plain, other = config.prompts
    assert (config.writer(plain), config.answerer(plain)) == ("one", "one")
    assert (config.writer(other), config.answerer(other)) == ("one", "two")


def test_what_a_server_is_allowed_to_cost_is_no_part_of_the_key() -> None:
    cheap, dear = (
        synth_config(prompts=[CODE], models=endpoint("http://x/v1", budget_tokens=budget)) for budget in (10, 1000)
    )
    assert cheap.model_dump(mode="json") == dear.model_dump(mode="json")
