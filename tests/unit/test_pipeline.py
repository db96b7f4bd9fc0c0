"""A whole line on a tiny model: what runs, what is skipped, what a change sets off."""

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import conversations

from cameleer import pipeline
from cameleer.core.artifact import read_manifest
from cameleer.core.errors import UserError
from cameleer.core.mixture import MIXTURE
from cameleer.model.load import save_model
from cameleer.model.tiny import tiny_model, tiny_tokenizer

RECIPE = """
name = "line"
model = "{base}"
seed = 1

[curate]
[[curate.sources]]
file = "chats.jsonl"

[sft]
learning_rate = 1e-3
num_epochs = 1
batch_size = 8
max_tokens = 128
tokens_per_batch = 256

[eval]
models = ["base", "sft"]
tasks = ["word-arithmetic-dev"]
num_items = 3
max_new_tokens = 4
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    save_model(tiny_model("llama"), tiny_tokenizer(), tmp_path / "base")
    rows = [{"messages": [{"role": m.role, "content": m.content} for m in row.messages]} for row in conversations(16)]
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = tmp_path / "line.toml"
    path.write_text(RECIPE.format(base=tmp_path / "base"))
    return path


def run(recipe: Path, *overrides: str, only: tuple[str, ...] = ()) -> dict[str, str]:
    """Run the recipe; when each stage's artifact was made."""
    folder = recipe.parent / "run"
    pipeline.run_recipe(pipeline.read_recipe(recipe, overrides), folder, only)
    made = {path.name: path / "manifest.json" for path in folder.iterdir() if (path / "manifest.json").exists()}
    return {name: f"{path.stat().st_mtime_ns}" for name, path in made.items()}


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {name for name in after if before.get(name) != after[name]}


def test_only_what_a_change_concerns_runs_again(recipe: Path) -> None:
    first = run(recipe)
    assert set(first) == {"curate", "sft", "eval"}
    assert run(recipe) == first, "nothing changed, nothing runs"
    (recipe.parent / "chats.jsonl").touch()
    assert run(recipe) == first, "the same bytes are the same input"
    assert run(recipe, "sft.tokens_per_batch=64", "sft.checkpoint_minutes=1") == first, "how and not what"

    second = run(recipe, "eval.num_items=4")
    assert changed(first, second) == {"eval"}
    third = run(recipe, "eval.num_items=4", "sft.learning_rate=2e-3")
    assert changed(second, third) == {"sft", "eval"}

    data = recipe.parent / "chats.jsonl"
    data.write_text(data.read_text().replace("Add", "Sum", 1))
    assert changed(third, run(recipe, "eval.num_items=4", "sft.learning_rate=2e-3")) == {"curate", "sft", "eval"}


def test_a_touched_artifact_is_made_again(recipe: Path) -> None:
    first = run(recipe)
    weights = recipe.parent / "run" / "sft" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert changed(first, run(recipe)) == {"sft"}, "it is made again to the same bytes, so its readers stand"


def test_lineage(recipe: Path) -> None:
    run(recipe)
    folder = recipe.parent / "run"
    curate, sft = read_manifest(folder / "curate"), read_manifest(folder / "sft")
    assert curate is not None and sft is not None
    mixture = hashlib.sha256((folder / "curate" / MIXTURE.name).read_bytes()).hexdigest()
    assert sft.inputs["mixture"] == {"name": "curate", "digest": mixture}
    assert sft.config["seed"] == 1 and sft.template_fingerprint and sft.counts["rows"] == 16


def test_more_problems_make_no_mixture_anew(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What a stage does not read of a folder cannot make it stale."""
    run(recipe)
    capsys.readouterr()
    run(recipe, 'curate.problems=[{task="word-arithmetic", count=3}]')
    said = capsys.readouterr().err
    assert "curate runs" in said and "sft is current" in said


def test_another_template_is_refused_later(recipe: Path) -> None:
    """A model made under the model's own template cannot be taken up under Tülu's."""
    run(recipe)
    made = recipe.parent / "run" / "sft"
    with pytest.raises(UserError, match="another chat template"):
        run(recipe, 'chat_template="tulu"', f'model="{made}"')


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ('sft.mixture="curated"', r"neither a stage of this recipe nor a mixture's folder\. Did you mean 'curate'"),
        ('sft.mixture="eval";eval.models=["base"]', "does not make a mixture"),
        ('sft.mixture="eval"', "in a circle"),
        ('eval.models=["base","curate"]', "does not make a model"),
        ('curate.sources=[{file="chat.jsonl"}]', "no such file"),
        ('eval.tasks=["word-arithmetik-dev"]', "Did you mean 'word-arithmetic-dev'"),
        ("sft.lerning_rate=1", "Did you mean 'learning_rate'"),
    ],
)
def test_mistakes_are_found_before_anything_runs(recipe: Path, override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        pipeline.read_recipe(recipe, override.split(";"))


def test_a_stage_alone_needs_what_it_reads(recipe: Path) -> None:
    with pytest.raises(UserError, match="Run stage 'curate' first"):
        run(recipe, only=("sft",))


def command(*arguments: str | Path, cwd: Path) -> tuple[subprocess.CompletedProcess[str], float]:
    started = time.perf_counter()
    environment = {**os.environ, "COLUMNS": "200"}
    line = [sys.executable, "-m", "cameleer", *map(str, arguments)]
    done = subprocess.run(line, cwd=cwd, capture_output=True, text=True, env=environment)
    return done, time.perf_counter() - started


def test_help_imports_no_torch(tmp_path: Path) -> None:
    """The time itself is a benchmark's; that torch stays out is what makes it short."""
    done, _ = command("--help", cwd=tmp_path)
    assert done.returncode == 0 and "run" in done.stdout
    probe = (
        "import sys, cameleer.cli, cameleer.pipeline; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True).stdout.strip() == "[]"


def test_a_wrong_recipe_is_a_message_not_a_traceback(recipe: Path) -> None:
    done, _ = command("run", recipe, "--set", "sft.learning_rat=1", cwd=recipe.parent)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "sft.learning_rat: unknown key. Did you mean 'learning_rate'?" in done.stderr


def test_status_shows_finished_and_unfinished(recipe: Path) -> None:
    run(recipe)
    draft = recipe.parent / "run" / ".dpo.draft"
    draft.mkdir()
    (draft / "metrics.jsonl").write_text('{"step": 7, "loss": 0.5}\n')
    done, _ = command("status", "run", cwd=recipe.parent)
    assert done.returncode == 0
    for word in ("curate", "sft", "eval", "unfinished", "step 7"):
        assert word in done.stderr, done.stderr


def test_a_full_disk_is_a_message(recipe: Path) -> None:
    """Writing to /dev/full fails as a full disk does."""
    probe = """
import sys
from cameleer import cli
def full():
    with open("/dev/full", "w") as stream:
        stream.write("x")
sys.exit(cli._guarded(full))
"""
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert done.returncode == 2 and "the disk is full" in done.stderr and "Traceback" not in done.stderr
