"""The published recipes hold the published numbers: counts, totals, hyperparameters, steps, and hours within reason.

Report: arXiv 2411.15124v5. What the recipes chose where it and the released commands disagree is said in the recipes.
"""

from pathlib import Path
from typing import Any

import pytest

from cameleer.core.recipe import Recipe
from cameleer.curate.config import CurateConfig
from cameleer.pipeline import read_recipe
from cameleer.plan import lengths
from cameleer.plan.machine import make_machine
from cameleer.plan.report import Plan, make_plan

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
SIZES = ("8b", "70b", "405b")
SFT_COUNTS = {
    **{"hardcoded": 240, "oasst": 7_132, "no-robots": 9_500, "wildchat-gpt4": 100_000, "flan-v2": 89_982},
    **{"sciriff": 10_000, "table-gpt": 5_000, "persona-math": 149_960, "persona-gsm": 49_980},
    **{"persona-algebra": 20_000, "open-math-instruct-2": 50_000, "numina-math-tir": 64_312},
    **{"persona-python": 34_999, "evol-code-alpaca": 107_276, "coconot": 10_983, "wildjailbreak": 50_000},
    **{"wildguardmix": 50_000, "aya": 100_000, "persona-if": 29_980},
}
"""Table 7, column SFT."""


def recipe_of(size: str) -> Recipe:
    return read_recipe(RECIPES / f"tulu3-{size}.toml")


def plan_of(size: str, devices: int) -> Plan:
    return make_plan(recipe_of(size), make_machine("h100", devices, 2.5))


@pytest.mark.parametrize("size", SIZES)
def test_the_mixture_has_the_published_rows_of_every_source(size: str) -> None:
    recipe = recipe_of(size)
    config = recipe.stage("curate").config
    assert isinstance(config, CurateConfig)
    assert {source.name: source.count for source in config.sources} == SFT_COUNTS
    assert sum(SFT_COUNTS.values()) == lengths.mixture_of(recipe, "curate").count == 939_344
    assert all(source.dataset == "allenai/tulu-3-sft-mixture" and source.revision for source in config.sources)
    parts = [source.where["source"] for source in config.sources]
    assert len(set(parts)) == len(parts) == 19, "every part of the published mixture once"


@pytest.mark.parametrize(
    ("size", "stage", "pairs"),
    [
        ("8b", "prefs", 271_409),
        ("70b", "prefs", 334_302),
        ("70b", "prefs-8b", 271_409),
        # Of the hub's card; the report does not say.
        ("405b", "prefs", 360_924),
        ("405b", "prefs-8b", 271_409),
    ],
)
def test_there_are_the_published_preference_pairs(size: str, stage: str, pairs: int) -> None:
    assert lengths.pairs_of(recipe_of(size), stage).count == pairs


@pytest.mark.parametrize(("size", "problems"), [("8b", 29_946), ("70b", 29_946), ("405b", 7_500)])
def test_there_are_the_published_problems(size: str, problems: int) -> None:
    assert lengths.problems_of(recipe_of(size), "curate").count == problems


@pytest.mark.parametrize(
    ("size", "steps"),
    [
        # 2 × ceil(939,344 / 128); ceil(271,409 / 128); ceil(271,409 / 256); 100,000 episodes / 224.
        ("8b", {"sft": 14_678, "dpo": 2_121, "rm": 1_061, "rlvr": 446}),
        # ceil(334,302 / 128); 400,000 / 640.
        ("70b", {"sft": 14_678, "dpo": 2_612, "rm": 1_061, "rlvr": 625}),
        # 2 × ceil(939,344 / 256); ceil(360,924 / 256); stopped at 75 (§8.1).
        ("405b", {"sft": 7_340, "dpo": 1_410, "rm": 1_061, "rlvr": 75}),
    ],
)
def test_stages_take_the_published_steps(size: str, steps: dict[str, int]) -> None:
    planned = {stage.name: stage.steps for stage in plan_of(size, 8).stages if stage.steps}
    assert planned == steps


HYPERPARAMETERS: list[tuple[str, str, dict[str, Any]]] = [
    *(
        (size, "sft", {"warmup_ratio": 0.03, "max_tokens": 4096, "num_epochs": 2, "schedule": "linear", **own})
        for size, own in [
            ("8b", {"learning_rate": 5e-6, "batch_size": 128, "seed": 123}),
            ("70b", {"learning_rate": 2e-6, "batch_size": 128, "seed": 456}),
            ("405b", {"learning_rate": 2e-6, "batch_size": 256, "seed": None}),
        ]
    ),
    *(
        (size, "dpo", {"beta": 5, "warmup_ratio": 0.1, "max_tokens": 2048, "num_epochs": 1, **own})
        for size, own in [
            ("8b", {"learning_rate": 5e-7, "batch_size": 128}),
            ("70b", {"learning_rate": 2e-7, "batch_size": 128}),
            ("405b", {"learning_rate": 2e-7, "batch_size": 256}),
        ]
    ),
    *(
        (size, "rm", {"learning_rate": 3e-6, "batch_size": 256, "max_tokens": 2048, "max_grad_norm": 1.0})
        for size in SIZES
    ),
    *(
        (size, "rlvr", {"num_passes": 4, "num_mini_batches": 1, "samples_per_prompt": 1, "max_grad_norm": 1.0, **own})
        for size, own in [
            ("8b", {"learning_rate": 3e-7, "prompts_per_step": 224, "max_new_tokens": 2048, "seed": 3}),
            ("70b", {"learning_rate": 1e-7, "prompts_per_step": 640, "max_new_tokens": 2048, "seed": 8}),
            ("405b", {"learning_rate": 1e-7, "prompts_per_step": 1856, "max_new_tokens": 1024, "seed": 3}),
        ]
    ),
]


@pytest.mark.parametrize(("size", "stage", "settings"), HYPERPARAMETERS, ids=lambda value: str(value)[:6])
def test_settings_are_the_published_ones(size: str, stage: str, settings: dict[str, Any]) -> None:
    """Tables 11, 20, 21, 34, 35 and 36."""
    config = recipe_of(size).stage(stage).config
    assert {name: getattr(config, name) for name in settings} == settings
    assert config.adamw.weight_decay == 0


@pytest.mark.parametrize(("size", "beta", "warmup"), [("8b", 0.05, 0.0), ("70b", 0.07, 0.1), ("405b", 0.05, 0.0)])
def test_reinforcement_learning_is_the_published_ppo(size: str, beta: float, warmup: float) -> None:
    """§6.2 and the released code: rewards 10 and -10, GAE with γ = 1 and λ = 0.95, both clips 0.2, c = 0.1, k1."""
    config = recipe_of(size).stage("rlvr").config
    objective = config.objective
    assert (objective.kl_coefficient, config.warmup_ratio) == (beta, warmup)
    assert (objective.objective, objective.advantage, objective.kl_estimator) == ("ppo", "gae", "k1")
    assert (objective.gae_gamma, objective.gae_lambda) == (1.0, 0.95)
    assert (objective.clip_low, objective.clip_high, objective.value_clip) == (0.2, 0.2, 0.2)
    assert (objective.value_coefficient, config.adamw.eps) == (0.1, 1e-5)
    assert (config.reward.correct, config.reward.missing_end) == (10.0, -10.0)
    assert (config.max_staleness, config.temperature) == (1, 1.0)


PUBLISHED_HOURS = {
    "8b": {"sft": 32 * 6, "dpo": 8 * 10, "rm": 8 * 9},
    "70b": {"sft": 64 * 50, "dpo": 64 * 19, "rm": 8 * 9, "rlvr": 48 * 60},
    "405b": {"rm": 8 * 9, "rlvr": 256 * 46},
}
"""GPU-hours of §4.3, §5.4, §6.3, §8.1. RLVR at 8B is apart: docs/plan.md says why."""


@pytest.mark.parametrize(("size", "devices"), [("8b", 8), ("70b", 64), ("405b", 256)])
def test_planned_gpu_hours_are_within_twice_the_published_ones(size: str, devices: int) -> None:
    plan = plan_of(size, devices)
    planned = {stage.name: plan.device_hours_of(stage) for stage in plan.stages}
    for stage, published in PUBLISHED_HOURS[size].items():
        assert published / 2 <= planned[stage] <= published * 2, (stage, planned[stage], published)


def test_the_planned_gpu_hours_of_the_8b_line_are_within_twice_the_published_sum() -> None:
    """192 + 80 + 72 + 520 (RLVR: 8 GPUs × 65 h)."""
    plan = plan_of("8b", 8)
    planned = sum(plan.device_hours_of(stage) for stage in plan.stages if stage.steps)
    assert 864 / 2 <= planned <= 864 * 2, planned


def test_the_8b_line_fits_one_machine_of_eight() -> None:
    plan = plan_of("8b", 8)
    assert all(plan.fits(stage) for stage in plan.stages)


def test_every_shipped_recipe_is_planned() -> None:
    paths = sorted(RECIPES.rglob("*.toml"))
    assert len(paths) >= 4
    for path in paths:
        plan = make_plan(read_recipe(path), make_machine("h100", 8, 2.5))
        assert plan.stages and plan.device_hours > 0, path
