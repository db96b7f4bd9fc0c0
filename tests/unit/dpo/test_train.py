"""The loop on a tiny model: what it writes, that it resumes exactly, what it compares with, what it refuses."""

import json
import math
import os
import signal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from pair_support import dpo_stage, preference_pairs, write_pair_inputs
from safetensors.torch import load_file, save_file
from support import ALONE, untimed_metrics
from transformers import AutoModelForCausalLM

from cameleer import pipeline
from cameleer.core.artifact import Manifest, read_manifest, write_json
from cameleer.core.errors import UserError
from cameleer.core.pairs import PAIRS, PreferencePair
from cameleer.core.training import LoraConfig
from cameleer.core.types import Message
from cameleer.dpo import train as dpo
from cameleer.dpo.config import DPOConfig, Objective
from cameleer.model.load import load_renderer, save_model
from cameleer.model.tiny import tiny_model, tiny_tokenizer
from cameleer.train import reference
from cameleer.train.layout import collate
from cameleer.train.learner import Learner

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "dpo.json"
SETTINGS: dict[str, Any] = {
    "learning_rate": 1e-3,
    "num_epochs": 2,
    "batch_size": 4,
    "max_tokens": 128,
    "tokens_per_batch": 200,
    "num_eval_rows": 4,
    "max_grad_norm": 1.0,
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each test has a cache of its own: what one computed must not help the next."""
    monkeypatch.setenv("CAMELEER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Path]:
    return write_pair_inputs(tmp_path)


def train(folder: Path, inputs: dict[str, Path], **changes: Any) -> Path:
    dpo.run(DPOConfig(**{**SETTINGS, **changes}), dpo_stage(folder, inputs))
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def assert_same_weights(one: Path, other: Path) -> None:
    """Bit for bit."""
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def steps(folder: Path) -> list[dict[str, Any]]:
    return [line for line in untimed_metrics(folder) if "loss" in line]


def count_forwards(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Collects the shards that are computed from now on, by their number of pairs."""
    computed: list[int] = []
    compute = reference._compute

    def counted(*arguments: Any) -> Any:
        computed.append(len(arguments[1]))
        return compute(*arguments)

    monkeypatch.setattr(reference, "_compute", counted)
    return computed


def test_golden_trajectory(tmp_path: Path, inputs: dict[str, Path]) -> None:
    """What 8 steps log, as recorded. If a change alters it on purpose: say why, and record it anew."""
    lines = untimed_metrics(train(tmp_path / "out", inputs))
    recorded = json.loads(GOLDEN.read_text())
    assert [line.keys() for line in lines] == [line.keys() for line in recorded]
    for line, expected in zip(lines, recorded, strict=True):
        for key, value in expected.items():
            assert line[key] == pytest.approx(value, rel=1e-3, abs=1e-5), (line["step"], key)


@pytest.mark.parametrize("objective", list(Objective))
def test_every_objective_learns_to_prefer_what_was_chosen(
    tmp_path: Path, inputs: dict[str, Path], objective: Objective
) -> None:
    lines = untimed_metrics(train(tmp_path / "out", inputs, objective=objective, num_epochs=5, beta=1.0))
    evals = [line for line in lines if "eval_loss" in line]
    assert len(evals) == 6 and evals[-1]["eval_loss"] < evals[0]["eval_loss"]
    assert evals[-1]["eval_reward_margin"] > evals[0]["eval_reward_margin"]
    assert evals[-1]["eval_reward_accuracy"] == 1.0


@pytest.mark.parametrize(
    ("objective", "value"), [("dpo_norm", math.log(2)), ("dpo", math.log(2)), ("ipo", 25), ("kto", 0.5)]
)
@pytest.mark.parametrize("changes", [{}, {"lora": LoraConfig(rank=4)}, {"tokens_per_batch": 4096}], ids=str)
def test_the_first_loss_is_that_of_the_reference(
    tmp_path: Path, inputs: dict[str, Path], objective: str, value: float, changes: dict[str, Any]
) -> None:
    """With adapters too: switched off they are the reference, and fresh ones are off."""
    first = steps(train(tmp_path / "out", inputs, objective=objective, num_epochs=1, **changes))[0]
    assert first["loss"] == pytest.approx(value, rel=1e-6, abs=1e-6)
    assert first["reward_margin"] == pytest.approx(0, abs=1e-5)


def test_saved_model_is_plain_transformers_and_differs(tmp_path: Path, inputs: dict[str, Path]) -> None:
    folder = train(tmp_path / "out", inputs)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert torch.isfinite(model(torch.tensor([[1, 2, 3]])).logits).all()
    before, after = weights(inputs["model"]), weights(folder)
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_reference_is_stored_and_is_what_plain_transformers_says(tmp_path: Path, inputs: dict[str, Path]) -> None:
    table = pq.read_table(train(tmp_path / "out", inputs) / dpo.REFERENCE_FILE).to_pylist()
    renderer = load_renderer(inputs["model"], "model")
    model = AutoModelForCausalLM.from_pretrained(inputs["model"])
    pairs = {pair.name: pair for pair in preference_pairs(20)}
    assert [row["name"] for row in table] == list(pairs)
    for row in table[:3]:
        pair = pairs[row["name"]]
        for side, text in (("chosen", pair.chosen), ("rejected", pair.rejected)):
            prompt, answer = renderer.prompt(pair.prompt), renderer.answer(pair.prompt, text)
            logprobs = torch.log_softmax(model(torch.tensor([prompt + answer])).logits[0, :-1], -1)
            expected = logprobs[len(prompt) - 1 :].gather(1, torch.tensor(answer)[:, None])[:, 0].tolist()
            assert row[side] == pytest.approx(expected, abs=1e-5)


def test_another_beta_computes_no_reference(
    tmp_path: Path, inputs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    computed = count_forwards(monkeypatch)
    first = train(tmp_path / "one", inputs)
    assert computed == [20]
    again = train(tmp_path / "again", inputs)
    train(tmp_path / "other", inputs, beta=2.0, learning_rate=1e-4)
    assert computed == [20]
    assert_same_weights(first, again)


@pytest.mark.parametrize("what", ["model", "pairs", "layout"])
def test_what_the_reference_depends_on_makes_it_anew(
    tmp_path: Path, inputs: dict[str, Path], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    train(tmp_path / "one", inputs)
    computed = count_forwards(monkeypatch)
    changes = {"tokens_per_batch": 300} if what == "layout" else {}
    if what == "model":
        changed = weights(inputs["model"])
        next(iter(changed.values())).mul_(1.01)
        save_file(changed, inputs["model"] / "model.safetensors", {"format": "pt"})
    if what == "pairs":
        PAIRS.write(inputs["pairs"], preference_pairs(20, seed=1))
    train(tmp_path / "two", inputs, **changes)
    assert computed == [20]


def test_another_reference_model(tmp_path: Path, inputs: dict[str, Path]) -> None:
    """Its numbers are its own, and step 1 is no longer log 2."""
    save_model(tiny_model("llama", seed=5), tiny_tokenizer(), tmp_path / "other")
    folder = train(tmp_path / "out", {**inputs, "reference": tmp_path / "other"}, reference="other")
    alone = {**inputs, "model": tmp_path / "other", "reference": tmp_path / "other"}
    own = pq.read_table(train(tmp_path / "as-own", alone) / dpo.REFERENCE_FILE)
    assert pq.read_table(folder / dpo.REFERENCE_FILE).equals(own)
    assert abs(steps(folder)[0]["loss"] - math.log(2)) > 1e-3


def test_a_reference_that_reads_other_tokens_is_refused(tmp_path: Path, inputs: dict[str, Path]) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["It is"])
    save_model(tiny_model("llama", vocab_size=len(tokenizer)), tokenizer, tmp_path / "other")
    with pytest.raises(UserError, match="the reference reads texts as other tokens"):
        train(tmp_path / "out", {**inputs, "reference": tmp_path / "other"}, reference="other")


def test_ctrl_c_saves_and_the_resumed_run_is_the_same(
    tmp_path: Path, inputs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGINT in the middle of every third step, until the run is through."""
    whole = train(tmp_path / "whole", inputs)
    step_once, done = Learner.step, 0

    def interrupted(*arguments: Any) -> Any:
        nonlocal done
        done += 1
        if done % 3 == 0:
            os.kill(os.getpid(), signal.SIGINT)
        return step_once(*arguments)

    monkeypatch.setattr(Learner, "step", interrupted)
    stops = 0
    while not (tmp_path / "cut" / "model.safetensors").exists():
        try:
            train(tmp_path / "cut", inputs)
        except KeyboardInterrupt:
            stops += 1
    assert stops >= 2 and done == 8, "no step is lost or done twice"
    assert_same_weights(tmp_path / "cut", whole)
    assert untimed_metrics(tmp_path / "cut") == untimed_metrics(whole)


def test_a_killed_reference_pass_goes_on(
    tmp_path: Path, inputs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five shards; the pass dies in the third and later computes the last three only."""
    monkeypatch.setattr(reference, "ROWS_PER_SHARD", 4)
    compute, done = reference._compute, 0

    def dying(*arguments: Any) -> Any:
        nonlocal done
        done += 1
        if done == 3:
            raise KeyboardInterrupt
        return compute(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(reference, "_compute", dying)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "cut", inputs)
    computed = count_forwards(monkeypatch)
    train(tmp_path / "cut", inputs)
    assert computed == [4, 4, 4]


def test_a_damaged_cache_file_is_computed_again(
    tmp_path: Path, inputs: dict[str, Path], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train(tmp_path / "one", inputs)
    (file,) = (cache / "reference").iterdir()
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 1
    file.write_bytes(content)
    computed = count_forwards(monkeypatch)
    assert_same_weights(train(tmp_path / "two", inputs), first)
    assert computed == [20]


def test_pairs_that_say_nothing_are_counted(tmp_path: Path, inputs: dict[str, Path]) -> None:
    prompt = (Message("user", "Which?"),)
    bad = [
        PreferencePair("same", "bad", prompt, "This.", "This."),
        PreferencePair("empty", "bad", prompt, "This.", "  \n"),
        PreferencePair("silent", "bad", prompt, "", "This."),
        PreferencePair("long-prompt", "bad", (Message("user", "word " * 200),), "This.", "That."),
        PreferencePair("equal-once-cut", "bad", prompt, "so " * 200 + "yes", "so " * 200 + "no"),
        PreferencePair("long-answer", "bad", prompt, "so " * 200, "That."),
    ]
    PAIRS.write(inputs["pairs"], [*preference_pairs(20), *bad])
    counts = dpo.run(DPOConfig(**SETTINGS), dpo_stage(tmp_path / "out", inputs)).counts
    expected = {"truncated": 1, "dropped_overlong": 2, "dropped_identical": 1, "dropped_empty": 2, "pairs": 21}
    assert {key: counts[key] for key in expected} == expected
    assert (counts["train_pairs"], counts["eval_pairs"]) == (17, 4)


def test_overlong_error_names_the_pair(tmp_path: Path, inputs: dict[str, Path]) -> None:
    with pytest.raises(UserError, match=r"pair sums/\d+: \d+ tokens are more than max_tokens = 30"):
        train(tmp_path / "out", inputs, overlong="error", max_tokens=30)


def test_nothing_to_train_on(tmp_path: Path, inputs: dict[str, Path]) -> None:
    with pytest.raises(UserError, match="no pairs to train on: 20 usable"):
        train(tmp_path / "out", inputs, num_eval_rows=20)


def test_pairs_made_under_another_template_are_refused(tmp_path: Path, inputs: dict[str, Path]) -> None:
    manifest = Manifest("prefs", "prefs", "k", {}, {}, "", 0, template_fingerprint="0" * 64)
    write_json(inputs["pairs"] / "manifest.json", vars(manifest))
    with pytest.raises(UserError, match="another chat template") as failure:
        train(tmp_path / "out", inputs)
    assert failure.value.hint is not None and "chat_template" in failure.value.hint


def test_kto_estimates_kl_from_answers_to_other_prompts(tmp_path: Path, inputs: dict[str, Path]) -> None:
    settings = DPOConfig(**SETTINGS, objective=Objective.KTO)
    setup = dpo.prepare(settings, dpo_stage(tmp_path / "out", inputs), ALONE)
    policy, rows = setup.learner.model, [3, 5, 8]
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    trees = [setup.mismatched[row] for row in rows]
    for row, tree in zip(rows, trees, strict=True):
        own, before = setup.rows.trees[row], setup.rows.trees[row - 1]
        assert tree[0].ids.tolist() == own[0].ids.tolist()
        assert [each.ids.tolist() for each in tree[1:]] == [each.ids.tolist() for each in before[1:]]
    logprobs, references = [], []
    for tree in trees:
        batch = collate([tree])
        logprobs += [value.item() for value in batch.sums_per_segment(policy(batch))[1:]]
        references += [float(segment.columns[reference.REFERENCE].sum()) for segment in tree[1:]]
    expected = (sum(logprobs) - sum(references)) / 6
    assert dpo.step_kl(settings, setup, rows) == pytest.approx(max(0.0, expected), rel=1e-4)
    assert expected > 0, "the case must be one where the estimate is not cut at 0"


def test_kto_needs_two_prompts(tmp_path: Path, inputs: dict[str, Path]) -> None:
    prompt = (Message("user", "Which?"),)
    PAIRS.write(inputs["pairs"], [PreferencePair(str(i), "s", prompt, f"It is {i}.", "No.") for i in range(8)])
    with pytest.raises(UserError, match="same prompt"):
        train(tmp_path / "out", inputs, objective="kto")


def test_two_ranks_train_the_same_model(tmp_path: Path, inputs: dict[str, Path]) -> None:
    one = train(tmp_path / "one", inputs)
    two = train(tmp_path / "two", inputs, num_ranks=2, checkpoint_minutes=0)
    for line, expected in zip(untimed_metrics(two), untimed_metrics(one), strict=True):
        assert line == pytest.approx(expected, rel=1e-3, abs=1e-5)
    for name, expected in weights(one).items():
        torch.testing.assert_close(weights(two)[name], expected, rtol=1e-3, atol=1e-5)
    tables = [pq.read_table(folder / dpo.REFERENCE_FILE)["chosen"].to_pylist() for folder in (one, two)]
    assert tables[1][0] == pytest.approx(tables[0][0], abs=1e-5)


def test_as_a_stage_of_a_recipe(tmp_path: Path, inputs: dict[str, Path]) -> None:
    """A recipe that names a model's folder and a folder of pairs; run again, it is current."""
    write_json(inputs["pairs"] / "manifest.json", vars(Manifest("prefs", "prefs", "k", {}, {}, "", 0)))
    path = tmp_path / "recipe.toml"
    settings = "\n".join(f"{name} = {value}" for name, value in SETTINGS.items())
    path.write_text(f'name = "r"\nmodel = "{inputs["model"]}"\n[dpo]\npairs = "pairs"\nmodel = "base"\n{settings}\n')
    recipe = pipeline.read_recipe(path)
    pipeline.run_recipe(recipe, tmp_path / "run")
    manifest = read_manifest(tmp_path / "run" / "dpo")
    assert manifest is not None and manifest.config["beta"] == 5.0
    assert manifest.inputs["reference"] == manifest.inputs["model"]
    assert manifest.template_fingerprint == load_renderer(inputs["model"], "model").fingerprint
    written = (tmp_path / "run" / "dpo" / "model.safetensors").stat().st_mtime_ns
    pipeline.run_recipe(recipe, tmp_path / "run")
    assert (tmp_path / "run" / "dpo" / "model.safetensors").stat().st_mtime_ns == written
