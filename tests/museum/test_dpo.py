"""Known failures of preference tuning, each shown in the usual way of doing it and absent here."""

import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from pair_support import CONFIGS, dpo_stage, pair_gradients, random_pairs, with_own_reference, write_pair_inputs
from safetensors.torch import load_file
from support import ALONE, tiny_policy, untimed_metrics

from cameleer.dpo import train as dpo
from cameleer.dpo.config import DPOConfig
from cameleer.dpo.loss import Answers
from cameleer.train.layout import collate
from cameleer.train.learner import Learner


def test_sums_go_by_answer_and_not_by_packed_row() -> None:
    """open-instruct #1900: with several pairs in a row, sums per row start DPO at a multiple of log 2."""
    policy = tiny_policy("llama", torch.float32)
    trees = with_own_reference(random_pairs(1, count=6), policy)
    batch = collate(trees)
    margins = torch.zeros(len(trees))
    per_row = -torch.nn.functional.logsigmoid(margins).sum().item()
    assert per_row == pytest.approx(6 * math.log(2), rel=1e-6)
    loss, _, _ = pair_gradients(policy, CONFIGS["dpo"], [trees])
    assert loss == pytest.approx(math.log(2), abs=1e-6)
    chosen, rejected = dpo.answers(policy(batch).detach(), batch)
    assert len(chosen.logratio_P) == len(rejected.logratio_P) == 6


def test_a_resumed_run_does_not_take_the_trained_model_for_the_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """open-instruct's dpo_tune_cache loads the checkpoint and then builds the reference cache from it.

    Here the cache is lost between the stop and the resume: the reference is that of the model which the recipe names.
    """
    inputs = write_pair_inputs(tmp_path)
    config = DPOConfig(learning_rate=1e-3, batch_size=4, tokens_per_batch=200, checkpoint_minutes=0)
    monkeypatch.setenv("CAMELEER_CACHE", str(tmp_path / "cache"))
    dpo.run(config, dpo_stage(tmp_path / "whole", inputs))
    step_once = Learner.step

    def stopping(self: Any, number: int, *arguments: Any) -> Any:
        if number == 3:
            raise KeyboardInterrupt
        return step_once(self, number, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "step", stopping)
        with pytest.raises(KeyboardInterrupt):
            dpo.run(config, dpo_stage(tmp_path / "cut", inputs))
    assert list((tmp_path / "cut" / "checkpoints").glob("step-*")), "there is a trained model to be mistaken for it"
    shutil.rmtree(tmp_path / "cache")
    (tmp_path / "cut" / dpo.REFERENCE_FILE).unlink()
    dpo.run(config, dpo_stage(tmp_path / "cut", inputs))
    assert untimed_metrics(tmp_path / "cut") == untimed_metrics(tmp_path / "whole")
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("cut", "whole"))
    assert all(torch.equal(one[name], other[name]) for name in other)


def test_accuracy_is_of_the_margin_that_the_loss_has() -> None:
    """TRL 1.16 logs sums of log ratios for length-normalised DPO too, and an accuracy that the loss never saw.

    Chosen: 10 tokens of log ratio 0.1; rejected: 1 token of 0.5. Sums say 1.0 > 0.5, right; means say 0.1 < 0.5, wrong.
    """
    chosen, rejected = (
        Answers(torch.tensor([-9.0]), torch.tensor([ratio]), torch.tensor([length]))
        for ratio, length in ((1.0, 10.0), (0.5, 1.0))
    )
    for name, accuracy in (("dpo", 1.0), ("dpo_norm", 0.0)):
        result = dpo.pair_losses(CONFIGS[name], chosen, rejected, 0.0)
        sums = dpo.log_sums(CONFIGS[name], chosen, rejected, result)
        assert sums["reward_accuracy"].item() == accuracy
        assert (result.loss_P.item() < math.log(2)) == (accuracy == 1.0)


def test_kl_is_estimated_over_the_step_and_not_per_micro_batch() -> None:
    """KTO in TRL takes max(0, mean) of each micro-batch: the mean of those is larger, and moves with the batch size."""
    policy, trees = tiny_policy("llama", torch.float64), random_pairs(5)
    whole = dpo.mismatch_kl(policy, trees, 10_000, ALONE)
    parts = [dpo.mismatch_kl(policy, [tree], 10_000, ALONE) for tree in trees]
    assert sum(parts) / len(parts) > whole > 0
    assert dpo.mismatch_kl(policy, trees, 20, ALONE) == pytest.approx(whole, rel=1e-6)
