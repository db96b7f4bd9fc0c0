"""The loop on a tiny model: what it writes, that it resumes exactly, what it refuses."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support import fail_on_rank_1, sft_stage, untimed_metrics, write_inputs
from transformers import AutoModelForCausalLM, AutoTokenizer

from cameleer.core.errors import UserError
from cameleer.core.training import AdamWConfig, LoraConfig
from cameleer.sft import train as sft
from cameleer.sft.config import Objective, SFTConfig
from cameleer.train.distributed import start_ranks
from cameleer.train.learner import Learner
from cameleer.train.schedule import learning_rate_factor

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "sft.json"
CONFIG = SFTConfig(
    learning_rate=1e-3,
    num_epochs=2,
    batch_size=4,
    max_tokens=128,
    tokens_per_batch=160,
    num_eval_rows=4,
    max_grad_norm=1.0,
)


def train(folder: Path, inputs: dict[str, Path], **changes: Any) -> Path:
    sft.run(CONFIG.model_copy(update=changes), sft_stage(folder, inputs))
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def assert_same_weights(one: Path, other: Path) -> None:
    """Bit for bit."""
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Path]:
    return write_inputs(tmp_path)


def test_golden_trajectory(tmp_path: Path, inputs: dict[str, Path]) -> None:
    """Losses and norms of 8 steps as recorded. If a change alters them on purpose: say why, and record them anew."""
    lines = untimed_metrics(train(tmp_path / "out", inputs))
    recorded = json.loads(GOLDEN.read_text())
    assert [line.keys() for line in lines] == [line.keys() for line in recorded]
    for line, expected in zip(lines, recorded, strict=True):
        for key, value in expected.items():
            assert line[key] == pytest.approx(value, rel=1e-4), (line["step"], key)


def test_it_learns_and_the_schedule_is_the_formula(tmp_path: Path, inputs: dict[str, Path]) -> None:
    lines = untimed_metrics(train(tmp_path / "out", inputs, num_epochs=6))
    evals = [line["eval_loss"] for line in lines if "eval_loss" in line]
    assert len(evals) == 7 and evals[-1] < 0.8 * evals[0]
    rates = [line["learning_rate"] for line in lines if "learning_rate" in line]
    assert rates == [1e-3 * learning_rate_factor("linear", step, 24, 0.03) for step in range(24)]
    assert rates[-1] > 0


def test_saved_model_is_plain_transformers(tmp_path: Path, inputs: dict[str, Path]) -> None:
    folder = train(tmp_path / "out", inputs)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True
    )
    assert text == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert torch.isfinite(model(**tokenizer(text, return_tensors="pt")).logits).all()
    assert any(
        not torch.equal(a, b) for a, b in zip(weights(folder).values(), weights(inputs["model"]).values(), strict=True)
    )


def test_sum_and_mean_take_the_same_path_without_eps(tmp_path: Path, inputs: dict[str, Path]) -> None:
    """AdamW cancels a constant factor of the gradient; what remains between the objectives is its eps."""
    changes = {"max_grad_norm": None, "adamw": AdamWConfig(eps=1e-30), "batch_size": 16, "num_epochs": 3}
    mean = untimed_metrics(train(tmp_path / "mean", inputs, **changes))
    total = untimed_metrics(train(tmp_path / "sum", inputs, objective=Objective.SUM, **changes))
    for one, other in zip(mean, total, strict=True):
        if "loss" in one:
            assert one["loss"] == pytest.approx(other["loss"], rel=1e-3)
            assert other["grad_norm"] == pytest.approx(one["grad_norm"] * one["num_trained_tokens"], rel=1e-3)


def test_budget_and_gradient_checkpointing_change_nothing(tmp_path: Path, inputs: dict[str, Path]) -> None:
    one = untimed_metrics(train(tmp_path / "one", inputs))
    for name, changes in {"large": {"tokens_per_batch": 4096}, "lean": {"gradient_checkpointing": True}}.items():
        for line, expected in zip(untimed_metrics(train(tmp_path / name, inputs, **changes)), one, strict=True):
            assert line == pytest.approx(expected, rel=1e-4)


def test_ctrl_c_saves_and_the_resumed_run_is_the_same(
    tmp_path: Path, inputs: dict[str, Path], monkeypatch: Any
) -> None:
    """SIGINT in the middle of every third step, until the run is through."""
    whole = train(tmp_path / "whole", inputs)
    step_once, steps = Learner.step, 0

    def interrupted(*arguments: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps % 3 == 0:
            os.kill(os.getpid(), signal.SIGINT)
        return step_once(*arguments)

    monkeypatch.setattr(Learner, "step", interrupted)
    stops = 0
    while not (tmp_path / "cut" / "model.safetensors").exists():
        try:
            train(tmp_path / "cut", inputs)
        except KeyboardInterrupt:
            stops += 1
    assert stops >= 2 and steps == 8, "no step is lost or done twice"
    assert_same_weights(tmp_path / "cut", whole)
    assert untimed_metrics(tmp_path / "cut") == untimed_metrics(whole)


def test_corrupted_checkpoint_is_named(tmp_path: Path, inputs: dict[str, Path], monkeypatch: Any) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("stop here")

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "export", fail)
        with pytest.raises(RuntimeError, match="stop here"):
            train(tmp_path / "out", inputs, checkpoint_minutes=0)
    (checkpoint,) = (tmp_path / "out" / "checkpoints").glob("step-*")
    data = max(checkpoint.iterdir(), key=lambda path: path.stat().st_size)
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    with pytest.raises(UserError, match=r"corrupted checkpoint: .* has other bytes") as failure:
        train(tmp_path / "out", inputs)
    assert failure.value.hint is not None and "Delete" in failure.value.hint


def test_nan_names_step_and_rows(tmp_path: Path, inputs: dict[str, Path]) -> None:
    path = inputs["model"] / "model.safetensors"
    broken = weights(inputs["model"])
    next(iter(broken.values()))[:] = float("nan")
    save_file(broken, path, {"format": "pt"})
    with pytest.raises(UserError, match=r"sft step 1: loss nan, .*rows: sums/\d+") as failure:
        train(tmp_path / "out", inputs)
    assert failure.value.hint is not None and "learning_rate" in failure.value.hint
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_nothing_to_train_on(tmp_path: Path, inputs: dict[str, Path]) -> None:
    with pytest.raises(UserError, match="no rows to train on: 20 usable"):
        train(tmp_path / "out", inputs, num_eval_rows=20)


def test_lora_trains_few_weights_and_is_merged(tmp_path: Path, inputs: dict[str, Path]) -> None:
    folder = train(tmp_path / "out", inputs, lora=LoraConfig(rank=4), num_epochs=4, learning_rate=5e-3)
    lines = untimed_metrics(folder)
    evals = [line["eval_loss"] for line in lines if "eval_loss" in line]
    assert evals[-1] < evals[0]
    before, after = weights(inputs["model"]), weights(folder)
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all("proj" in name for name in changed)


def test_tiny_learning_rates_change_fp32_weights(tmp_path: Path, inputs: dict[str, Path]) -> None:
    """bf16 master weights would swallow updates of 1e-7."""
    folder = train(tmp_path / "out", inputs, learning_rate=1e-7)
    before, after = weights(inputs["model"]), weights(folder)
    moved = sum((before[name] != after[name]).sum().item() for name in before)
    assert moved > 0.3 * sum(tensor.numel() for tensor in before.values())


def test_two_ranks_train_the_same_model(tmp_path: Path) -> None:
    """With adapters, which only rank 0 draws, and which are merged into tied matrices at the end."""
    inputs, lora = write_inputs(tmp_path, kind="gemma3"), LoraConfig(rank=4)
    one = train(tmp_path / "one", inputs, lora=lora)
    two = train(tmp_path / "two", inputs, lora=lora, num_ranks=2, checkpoint_minutes=0)
    for line, expected in zip(untimed_metrics(two), untimed_metrics(one), strict=True):
        assert line == pytest.approx(expected, rel=1e-4)
    for name, expected in weights(one).items():
        torch.testing.assert_close(weights(two)[name], expected, rtol=1e-3, atol=1e-5)


def test_a_ranks_user_error_arrives_whole() -> None:
    with pytest.raises(UserError, match="what was wrong") as failure:
        start_ranks(2, fail_on_rank_1)
    assert failure.value.hint == "what to do"
