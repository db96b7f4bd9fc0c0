"""Ablations: which mixtures are trained on, what is said of them, and one run from the command."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from cameleer import ablate as ablation
from cameleer.ablate import Series, chain_of, counted, effects, larger_recipe, report, variants_of, verdict
from cameleer.cli import _guarded, app
from cameleer.core.artifact import read_manifest
from cameleer.core.errors import UserError
from cameleer.core.mixture import MIXTURE
from cameleer.core.stage import StageRun
from cameleer.curate.config import CurateConfig
from cameleer.curate.run import run
from cameleer.evals.config import EvalConfig
from cameleer.model.load import save_model
from cameleer.model.tiny import tiny_model, tiny_tokenizer
from cameleer.pipeline import read_recipe

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
RECIPE = """
name = "x"
model = "{model}"

[curate]

[[curate.sources]]
task = "word-arithmetic"
count = 12

[[curate.sources]]
task = "precise-if"
count = 10

[sft]
batch_size = 4
num_epochs = 1

[eval]
models = ["base", "sft"]
tasks = ["quickstart"]
num_items = 2
max_new_tokens = 4
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    save_model(tiny_model(), tiny_tokenizer(), tmp_path / "base")
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE.format(model=tmp_path / "base"))
    return path


def curated(**changes: Any) -> CurateConfig:
    sources = [
        {"file": "a.jsonl", "name": "a", "weight": 3},
        {"file": "b.jsonl", "name": "b b", "weight": 1},
    ]
    return CurateConfig.parse({"sources": sources, "num_rows": 40, **changes}, where="curate")


def test_without_a_source_the_others_keep_their_rows() -> None:
    """By weights the other source would get all 40."""
    whole, without_a, without_b = variants_of(counted(curated(), None), [Series.LEAVE_ONE_OUT], [])
    assert [(each.name, each.count) for each in whole.curate.sources] == [("a", 30), ("b b", 10)]
    assert [(each.name, each.count) for each in without_a.curate.sources] == [("b b", 10)]
    assert [(each.name, each.count) for each in without_b.curate.sources] == [("a", 30)]
    assert without_b.label == "without-b-b" and whole.curate.num_rows is None


def test_specialists_sizes_and_the_bound_on_rows() -> None:
    config = counted(curated(), max_rows=20)
    found = variants_of(config, [Series.SPECIALISTS, Series.SIZES], [0.5, 0.25])
    assert [(v.label, [s.count for s in v.curate.sources]) for v in found] == [
        ("all", [20, 10]),
        ("only-a", [20]),
        ("only-b-b", [10]),
        ("25%-of-all", [5, 2]),
        ("50%-of-all", [10, 5]),
    ]
    whole_files = CurateConfig.parse(
        {"sources": [{"file": "a", "name": "a"}, {"file": "b", "fraction": 0.5}]}, where=""
    )
    *_, half = variants_of(counted(whole_files, None), [Series.SIZES], [0.5])
    assert [source.fraction for source in half.curate.sources] == [0.5, 0.25]
    with pytest.raises(UserError, match="between 0 and 1"):
        variants_of(config, [Series.SIZES], [1.0])


@pytest.mark.parametrize(
    ("max_rows", "rows"),
    [(None, [(20, 12, 3), (10, 6, 2)]), (15, [(15, 12, 3), (8, 6, 2)]), (2, [(2, 2, 2), (1, 1, 1)])],
)
def test_sources_without_a_count_give_what_they_have_within_bounds(
    tmp_path: Path, max_rows: int | None, rows: list[tuple[int, ...]]
) -> None:
    """30 rows capped at 20, 12 rows, and 3 tenths of 10; then half of each."""
    tables: list[dict[str, Any]] = [{"name": "a", "max_count": 20}, {"name": "b"}, {"name": "c", "fraction": 0.3}]
    for table, count in zip(tables, (30, 12, 10), strict=True):
        table["file"] = str(tmp_path / f"{table['name']}.jsonl")
        lines = [{"prompt": f"{table['name']} {number}", "completion": "?"} for number in range(count)]
        Path(table["file"]).write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = counted(CurateConfig.parse({"sources": tables}, where=""), max_rows)
    for variant, expected in zip(variants_of(config, [Series.SIZES], [0.5]), rows, strict=True):
        folder = tmp_path / variant.label
        folder.mkdir()
        files = {table["name"]: Path(table["file"]) for table in tables}
        run(variant.curate, StageRun("curate", folder, files, "model", 0))
        taken = Counter(row.source for row in MIXTURE.read(folder))
        assert tuple(taken[name] for name in "abc") == expected


def results() -> dict[str, Any]:
    """Two sources, one task: all 0.5; without the good one 0.2, without the bad one 0.7; alone 0.6 and 0.1."""
    scores = {
        "all-sft": 0.5,
        "without-good-sft": 0.2,
        "without-bad-sft": 0.7,
        "only-good-sft": 0.6,
        "only-bad-sft": 0.1,
    }
    rows = [
        {"model": model, "task": "t", "score": score, "interval": [score - 0.1, score + 0.1]}
        for model, score in {**scores, "base": 0.0}.items()
    ]
    differences = {"without-good-sft": (-0.3, 0.001), "without-bad-sft": (0.2, 0.03), "only-good-sft": (0.1, 0.4)}
    comparisons = [
        {"model": m, "against": "all-sft", "task": "t", "difference": d, "interval": [d - 0.1, d + 0.1], "p_value": p}
        for m, (d, p) in {**differences, "only-bad-sft": (-0.4, 0.001)}.items()
    ]
    return {"tasks": {"t": {}}, "scores": rows, "comparisons": comparisons}


def test_effects_are_what_a_source_adds_and_are_told_apart_by_their_intervals() -> None:
    sources = [{"file": "g", "name": "good", "count": 1}, {"file": "b", "name": "bad", "count": 1}]
    config = CurateConfig.parse({"sources": sources}, where="")
    found = effects(results(), variants_of(config, [Series.LEAVE_ONE_OUT, Series.SPECIALISTS], []))
    good, bad = found["effects"]
    assert (good["source"], good["effect"], good["interval"]) == ("good", 0.3, pytest.approx([0.2, 0.4]))
    assert (good["p_holm"], bad["p_holm"]) == (pytest.approx(0.002), pytest.approx(0.03))
    assert (verdict(good), verdict(bad), verdict({"interval": [-0.1, 0.2]})) == ("helps", "hurts", "?")
    (ceiling,) = found["ceilings"]
    assert (ceiling["source"], ceiling["ceiling"], ceiling["distance"]) == ("good", 0.6, 0.1)
    text = report(found)
    assert "+30.0 [+20.0, +40.0] helps" in text and "-20.0 [-30.0, -10.0] hurts" in text and "60.0% (good)" in text


def test_the_larger_recipe_reads_no_sealed_task(recipe: Path) -> None:
    """A mixture chosen by an unseen task would no longer be judged by it."""
    parsed = read_recipe(recipe)
    evaluation = parsed.stage("eval").config
    assert isinstance(evaluation, EvalConfig) and "precise-if-unseen" in evaluation.task_names
    chain = chain_of(parsed)
    config = larger_recipe(parsed, chain, variants_of(chain.curate, [Series.LEAVE_ONE_OUT], [])).stage("eval").config
    assert isinstance(config, EvalConfig)
    assert config.tasks == ("word-arithmetic-dev", "precise-if-dev")
    assert config.models == ("all-sft", "without-word-arithmetic-sft", "without-precise-if-sft", "base")
    with pytest.raises(UserError, match="sealed"):
        chain_of(read_recipe(recipe, ['eval.tasks=["quickstart-unseen"]']))


def test_the_evaluations_of_the_fine_tuned_model_are_chosen_and_each_task_is_measured_once(recipe: Path) -> None:
    """Those that see no such model or sealed tasks alone say nothing of a mixture."""
    with recipe.open("a") as file:
        for name, models, tasks in [
            ("again", ["sft"], ["precise-if-dev", "last-letter-dev"]),
            ("of-base", ["base"], ["gsm8k"]),
            ("sealed", ["sft"], ["quickstart-unseen"]),
        ]:
            file.write(f'[{name}]\nkind = "eval"\nmodels = {models}\ntasks = {tasks}\n')
    assert {name: each.tasks for name, each in chain_of(read_recipe(recipe)).evaluations.items()} == {
        "eval": ("word-arithmetic-dev", "precise-if-dev"),
        "again": ("last-letter-dev",),
    }
    with pytest.raises(UserError, match="no eval stage measures 'sft'"):
        chain_of(read_recipe(recipe, ['eval.models=["base"]', 'again.models=["base"]']))


def test_every_shipped_recipe_with_several_sources_is_accepted() -> None:
    accepted: list[str] = []
    for path in sorted(RECIPES.rglob("*.toml")):
        recipe = read_recipe(path)
        chain = chain_of(recipe)
        if len(chain.curate.sources) > 1:
            variants = variants_of(counted(chain.curate, None), list(Series), [0.5])
            assert len(variants) == 2 + 2 * len(chain.curate.sources)
            assert {stage.kind for stage in larger_recipe(recipe, chain, variants).stages} == {"curate", "sft", "eval"}
            assert list(chain.evaluations) == ["eval"]
            accepted.append(path.stem)
    assert set(accepted) >= {"quickstart", "tulu3-8b", "tulu3-70b", "tulu3-405b"}


def test_an_ablation_runs_from_the_command_and_its_variants_share_rows(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Two evaluations, of a task each.
    another = RECIPE[RECIPE.index("[eval]") :].replace("[eval]", '[eval-if]\nkind = "eval"')
    whole = recipe.read_text().replace("quickstart", "word-arithmetic-dev") + another.replace(
        "quickstart", "precise-if-dev"
    )
    recipe.write_text(whole)
    arguments = ["ablate", str(recipe), "--series", "leave-one-out", "--to", str(tmp_path / "out")]

    def command() -> int:
        monkeypatch.setattr("sys.argv", ["cameleer", *arguments])
        return _guarded(app)

    assert command() == 0
    rows = {
        name: {(row.source, row.messages) for row in MIXTURE.read(tmp_path / "out" / f"{name}-curate")}
        for name in ("all", "without-word-arithmetic", "without-precise-if")
    }
    assert rows["without-word-arithmetic"] | rows["without-precise-if"] == rows["all"]
    assert len(rows["all"]) == 22
    found = json.loads((tmp_path / "out/ablation.json").read_text())
    assert {(row["source"], row["task"]) for row in found["effects"]} == {
        (source, task)
        for source in ("word-arithmetic", "precise-if")
        for task in ("word-arithmetic-dev", "precise-if-dev")
    }
    assert "What each source adds" in (tmp_path / "out/ablation.md").read_text()
    made = read_manifest(tmp_path / "out/all-sft")
    assert made is not None
    capsys.readouterr()
    arguments += ["--series", "sizes", "--share", "0.5"]
    assert command() == 0
    again = read_manifest(tmp_path / "out/all-sft")
    assert again is not None and again.created == made.created
    assert "all-sft is current" in capsys.readouterr().err
    arguments[3] = "leave-two-out"
    assert command() == 2


def test_a_recipe_with_one_source_or_two_fine_tunings_is_refused(recipe: Path) -> None:
    one = read_recipe(recipe, ['curate.sources=[{task="precise-if",count=3}]'])
    with pytest.raises(UserError, match="one source"):
        ablation.ablate(one, recipe.parent / "out", [Series.LEAVE_ONE_OUT], [], None)
    recipe.write_text(recipe.read_text() + '\n[sft2]\nkind = "sft"\n')
    with pytest.raises(UserError, match="one sft stage; here are 2"):
        ablation.ablate(read_recipe(recipe), recipe.parent / "out", [Series.LEAVE_ONE_OUT], [], None)
