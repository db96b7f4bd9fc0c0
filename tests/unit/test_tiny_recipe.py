"""recipes/tiny.toml, run as a user runs it: every stage makes its artifact, and the model learns."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cameleer import pipeline
from cameleer.core.artifact import read_manifest
from cameleer.core.recipe import Recipe

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "tiny.toml"
MADE = {
    "curate": ("mixture.parquet", "problems.parquet", "card.md"),
    "sft": ("model.safetensors", "tokenizer.json", "metrics.jsonl"),
    "prefs": ("pairs.parquet", "report.md"),
    "dpo": ("model.safetensors", "tokenizer.json", "metrics.jsonl"),
    "rm": ("model.safetensors", "tokenizer.json", "metrics.jsonl"),
    "rlvr": ("model.safetensors", "tokenizer.json", "metrics.jsonl", "rollouts/step-000001.parquet"),
    "rlvr-grpo": ("model.safetensors", "tokenizer.json", "metrics.jsonl", "rollouts/step-000001.parquet"),
    "synth": ("mixture.parquet", "problems.parquet", "items.jsonl", "report.md"),
    "eval": ("results.json", "report.md"),
}


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return pipeline.read_recipe(RECIPE)


@pytest.fixture(scope="module")
def folder(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a finished run."""
    place = tmp_path_factory.mktemp("tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CAMELEER_CACHE", str(place / "cache"))
        pipeline.run_recipe(recipe, place / "run")
        yield place / "run"


def test_the_recipe_has_a_stage_of_every_kind(recipe: Recipe) -> None:
    assert {stage.kind for stage in recipe.stages} == set(pipeline.KINDS)
    assert {stage.name for stage in recipe.stages} == set(MADE)


@pytest.mark.parametrize("stage", MADE)
def test_every_stage_left_its_artifact(folder: Path, stage: str) -> None:
    assert read_manifest(folder / stage) is not None
    assert [name for name in MADE[stage] if not (folder / stage / name).is_file()] == []
    assert not (folder / f".{stage}.draft").exists()


def test_fine_tuning_and_reinforcement_learning_raise_held_out_accuracy(folder: Path) -> None:
    """On 200 lists that no stage was trained on. Under seeds 1 to 4, PPO rose by at least 22 points, GRPO by 26."""
    results = json.loads((folder / "eval" / "results.json").read_text())
    scores = {row["model"]: row["score"] for row in results["scores"]}
    assert scores["base"] <= 0.02
    assert scores["sft"] >= scores["base"] + 0.1
    assert scores["rlvr"] >= scores["dpo"] + 0.1
    assert scores["rlvr-grpo"] >= scores["dpo"] + 0.1


def test_a_second_run_skips_everything(folder: Path, recipe: Recipe) -> None:
    made = {stage: (folder / stage / "manifest.json").stat().st_mtime_ns for stage in MADE}
    pipeline.run_recipe(recipe, folder)
    assert {stage: (folder / stage / "manifest.json").stat().st_mtime_ns for stage in MADE} == made
