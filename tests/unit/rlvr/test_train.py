"""The loop on a tiny model: what it writes, that it is on policy, that it resumes exactly."""

import os
import random
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rlvr_support import (
    GROUPS,
    assert_same_run,
    fail,
    gain,
    grpo,
    outcome,
    problems,
    rollouts,
    steps,
    train,
    weights,
    write_inputs,
)
from transformers import AutoModelForCausalLM

from cameleer.core.errors import UserError
from cameleer.core.log import read_metrics
from cameleer.core.training import LoraConfig
from cameleer.model.load import save_model
from cameleer.model.policy import Policy
from cameleer.model.reward import new_reward_model
from cameleer.model.tiny import tiny_tokenizer
from cameleer.rlvr import measure, update
from cameleer.rlvr import train as rlvr
from cameleer.rlvr.config import HeldOut, RewardConfig, RLVRConfig
from cameleer.rlvr.names import Correction, Objective, ObjectiveConfig
from cameleer.rlvr.objective import Totals
from cameleer.rlvr.rollouts import Sampled
from cameleer.verify import Outcome as Verdicts

PPO = GROUPS.model_copy(
    update={
        "objective": ObjectiveConfig(objective=Objective.PPO),
        "reward": RewardConfig(missing_end=None),
        "learning_rate": 3e-3,
        "prompts_per_step": 8,
        "samples_per_prompt": 1,
        "num_passes": 2,
        "num_mini_batches": 2,
        "value_model": None,
    }
)


def test_it_learns_and_saves_a_plain_model(tmp_path: Path, inputs: dict[str, Path]) -> None:
    result = outcome(tmp_path / "out", inputs, num_steps=12)
    lines = steps(tmp_path / "out")
    assert gain(lines, 3) > 0.2
    assert result.summary["held_out"] > result.summary["held_out_start"]
    assert torch.isfinite(AutoModelForCausalLM.from_pretrained(tmp_path / "out")(torch.tensor([[5, 6]])).logits).all()


@pytest.mark.parametrize("temperature", [0.7, 1.0, 1.3])
def test_on_policy_the_first_ratio_is_one_at_any_temperature(
    tmp_path: Path, inputs: dict[str, Path], temperature: float
) -> None:
    """The sampler's log-probabilities are the trainer's: at that temperature, after every update, within 1e-5."""
    for line in steps(train(tmp_path / "out", inputs, temperature=temperature)):
        assert 0 < line["sampler_gap"] <= 1e-5 and abs(line["ratio"] - 1) <= 1e-5
        assert line["clip_fraction"] == 0 and line["staleness"] == 0


def test_the_gap_shows_a_temperature_that_only_the_sampler_applies(
    tmp_path: Path, inputs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The known bug, put in."""
    monkeypatch.setattr(rlvr, "Policy", lambda model, temperature, *rest: Policy(model, 1.0, *rest))
    (line, *_) = steps(train(tmp_path / "out", inputs, temperature=0.7, num_steps=1))
    assert line["sampler_gap"] > 0.1


def test_a_second_pass_moves_the_ratio_and_the_clip_acts(tmp_path: Path, inputs: dict[str, Path]) -> None:
    """One pass: the ratio is 1. A second pass at a large rate: tokens are clipped."""
    once = steps(train(tmp_path / "once", inputs, num_steps=2))
    twice = steps(train(tmp_path / "twice", inputs, num_steps=2, num_passes=2))
    assert [line["clip_fraction"] for line in once] == [0.0, 0.0]
    assert once[0]["optimizer_steps"] == 1 and twice[0]["optimizer_steps"] == 2
    assert twice[0]["clip_fraction"] > 0.05 and abs(twice[0]["ratio"] - 1) > 1e-3


def test_every_prompt_is_asked_once_an_epoch(tmp_path: Path, inputs: dict[str, Path]) -> None:
    """12 problems, 3 steps of 4 an epoch, two epochs."""
    asked = [frame.group_by("place").first().sort("place") for frame in rollouts(train(tmp_path / "out", inputs))]
    assert [place for frame in asked for place in frame["place"]] == list(range(24))
    names = [name for frame in asked for name in frame["problem"]]
    assert len(set(names[:12])) == 12 and sorted(names[:12]) == sorted(names[12:]) and names[:12] != names[12:]


def test_no_two_answers_share_their_draws(tmp_path: Path, inputs: dict[str, Path]) -> None:
    """At next to no rate a prompt of a second epoch is answered by the same weights, and otherwise."""
    frames = rollouts(train(tmp_path / "out", inputs, learning_rate=1e-30))
    answers = [tuple(ids) for frame in frames for ids in frame["ids"]]
    assert len(answers) == 96 and len(set(answers)) > 90


def test_rollouts_hold_what_was_sampled(tmp_path: Path, inputs: dict[str, Path]) -> None:
    """Ids decode to the response; groups' advantages are (r − mean) / std; versions count steps."""
    tokenizer = tiny_tokenizer()
    for step, frame in enumerate(rollouts(train(tmp_path / "out", inputs))):
        assert len(frame) == 16 and set(frame["weight_version"]) == {step}
        for row in frame.iter_rows(named=True):
            assert tokenizer.decode(row["ids"], skip_special_tokens=True) == row["response"]
            assert len(row["logprobs"]) == len(row["ids"]) == len(row["advantages"])
            assert row["ended"] == (row["ids"][-1] in (0, 2))
        for _, group in frame.group_by("place"):
            rewards = group["reward"].to_numpy()
            spread = rewards.std(ddof=1)
            expected = (rewards - rewards.mean()) / spread if spread else np.zeros(4)
            assert [row[0] for row in group["advantages"]] == pytest.approx(expected.tolist())


def test_draws_do_not_depend_on_batches(tmp_path: Path, inputs: dict[str, Path]) -> None:
    one, few = (
        rollouts(train(tmp_path / str(size), inputs, num_steps=2, sampling_batch_size=size)) for size in (128, 3)
    )
    assert all(a["ids"].equals(b["ids"]) for a, b in zip(one, few, strict=True))


def test_the_budget_of_a_forward_pass_changes_nothing(tmp_path: Path, inputs: dict[str, Path]) -> None:
    """One prompt with its answers at once, each answer alone, all together: neither policy's nor value's loss."""
    config = PPO.model_copy(update={"samples_per_prompt": 2, "prompts_per_step": 4, "num_steps": 1})
    (expected,) = steps(train(tmp_path / "256", inputs, config))
    for budget in (8, 4096):
        (line,) = steps(train(tmp_path / str(budget), inputs, config, tokens_per_batch=budget))
        for key in ("loss", "grad_norm", "value_loss", "value_grad_norm", "ratio", "kl_reference"):
            assert line[key] == pytest.approx(expected[key], rel=1e-4, abs=1e-7), key


@pytest.mark.parametrize("correction", [Correction.NONE, Correction.TRUNCATE])
def test_staleness_one_learns_from_the_second_latest(
    tmp_path: Path, inputs: dict[str, Path], correction: Correction
) -> None:
    """Rollouts of a step come from the weights before the last update, and their proximal policy is computed anew."""
    folder = train(
        tmp_path / "out",
        inputs,
        max_staleness=1,
        objective=grpo(correction=correction),
    )
    assert [set(frame["weight_version"]) for frame in rollouts(folder)] == [{0}, {0}, {1}, {2}, {3}, {4}]
    lines = steps(folder)
    assert [line["staleness"] for line in lines] == [0, 1, 1, 1, 1, 1]
    assert lines[0]["proximal_gap"] <= 1e-5 and all(line["proximal_gap"] > 1e-3 for line in lines[1:])
    assert all(abs(line["ratio"] - 1) <= 1e-5 for line in lines)


# --- stopping and going on ---


@pytest.mark.parametrize("config", [GROUPS, GROUPS.model_copy(update={"max_staleness": 1}), PPO], ids=["0", "1", "ppo"])
def test_ctrl_c_saves_and_the_resumed_run_is_the_same(
    tmp_path: Path, inputs: dict[str, Path], monkeypatch: pytest.MonkeyPatch, config: RLVRConfig
) -> None:
    """SIGINT in every second step, until the run is through."""
    whole = train(tmp_path / "whole", inputs, config)
    learn, count = rlvr.learn, 0

    def interrupted(*arguments: Any) -> Any:
        nonlocal count
        count += 1
        if count % 2 == 0:
            os.kill(os.getpid(), signal.SIGINT)
        return learn(*arguments)

    monkeypatch.setattr(rlvr, "learn", interrupted)
    stops = 0
    while not (tmp_path / "cut" / "model.safetensors").exists():
        try:
            train(tmp_path / "cut", inputs, config)
        except KeyboardInterrupt:
            stops += 1
    assert stops >= 2 and count == 6, "no step is lost or done twice"
    assert_same_run(tmp_path / "cut", whole)


@pytest.mark.parametrize("staleness", [0, 1])
def test_killed_anywhere_the_resumed_run_is_the_same(tmp_path: Path, inputs: dict[str, Path], staleness: int) -> None:
    """SIGKILL at random moments: sampling, verifying, learning, measuring, saving."""
    changes = {"max_staleness": staleness, "checkpoint_minutes": 0, "num_steps": 8}
    whole = train(tmp_path / "whole", inputs, **changes)
    draw = random.Random(staleness)
    for _ in range(3):
        killed = kill_after(draw.choice([1, 2]), draw.uniform(0, 0.2), tmp_path / "cut", inputs, changes)
        assert killed, "the run came to its end: make it longer"
    train(tmp_path / "cut", inputs, **changes)
    assert_same_run(tmp_path / "cut", whole)


def kill_after(num_lines: int, seconds: float, folder: Path, inputs: dict[str, Path], changes: dict[str, Any]) -> bool:
    """Train in a process that is killed some time after it has written so many lines of metrics; False if it ended."""
    metrics = folder / "metrics.jsonl"
    child = os.fork()
    if child == 0:
        status = 1
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        try:
            train(folder, inputs, **changes)
            status = 0
        finally:
            os._exit(status)
    before = len(read_metrics(metrics)) if metrics.exists() else 0
    deadline = time.monotonic() + 120
    while not metrics.exists() or len(read_metrics(metrics)) < before + num_lines:
        assert time.monotonic() < deadline and os.waitpid(child, os.WNOHANG) == (0, 0), "no progress"
        time.sleep(0.01)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def test_stored_verdicts_are_used_again(
    tmp_path: Path, inputs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A verifier that would say something else the second time changes nothing: its step has a file."""
    whole = train(tmp_path / "whole", inputs, num_steps=1)
    with monkeypatch.context() as patch:
        patch.setattr(rlvr, "learn", fail)
        with pytest.raises(RuntimeError, match="stop here"):
            train(tmp_path / "cut", inputs, num_steps=1)
    sample = rlvr.RolloutSource.sample
    asked: list[int] = []
    monkeypatch.setattr(
        rlvr.RolloutSource, "sample", lambda self, *rest: (asked.append(rest[1]), sample(self, *rest))[1]
    )
    train(tmp_path / "cut", inputs, num_steps=1)
    assert asked == [1], "held-out problems alone were asked"
    assert_same_run(tmp_path / "cut", whole)


def test_lost_rollouts_of_older_weights_are_named(
    tmp_path: Path, inputs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"max_staleness": 1, "checkpoint_minutes": 0, "num_steps": 3}
    with monkeypatch.context() as patch:
        patch.setattr(rlvr, "choose", fail)
        with pytest.raises(RuntimeError, match="stop here"):
            train(tmp_path / "out", inputs, **changes)
    (tmp_path / "out" / "rollouts" / "step-000003.parquet").unlink()
    with pytest.raises(UserError, match="rollouts of step 3 are gone") as failure:
        train(tmp_path / "out", inputs, **changes)
    assert failure.value.hint is not None and "checkpoints" in failure.value.hint


# --- what is learned from ---


def unjudged(sampled: Sampled, verdict: Verdicts) -> Sampled:
    nothing: dict[str, Any] = {"score": None, "reward": None, "shaping": {}, "detail": {"error": "no connection"}}
    return replace(sampled, rollouts=[replace(each, outcome=verdict, **nothing) for each in sampled.rollouts])


def test_answers_without_a_verdict_have_no_gradient(
    tmp_path: Path, inputs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A verifier that is always late leaves the weights as they were, is counted and raises its alarm."""
    sample = rlvr.sample_on_ranks
    for module in (rlvr, measure):
        monkeypatch.setattr(module, "sample_on_ranks", lambda *given: unjudged(sample(*given), Verdicts.TIMEOUT))
    result = outcome(tmp_path / "out", inputs)
    before, after = weights(inputs["model"]), weights(tmp_path / "out")
    assert all(torch.equal(before[name], after[name]) for name in before)
    for line in steps(tmp_path / "out"):
        assert line["outcome/timeout"] == 16 and line["optimizer_steps"] == 0
    assert result.summary["held_out"] is None, "not known, and not 0"
    assert set(result.summary["alarms"]) == {"verifier"} and "step 5" in result.summary["alarms"]["verifier"]
    assert rollouts(tmp_path / "out")[0]["reward"].is_null().all()


def test_verifiers_that_fail_on_everything_stop_the_run_until_they_are_mended(
    tmp_path: Path, inputs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the failed step is kept, and the run that goes on is the one that never failed."""
    whole = train(tmp_path / "whole", inputs)
    sample, calls = rlvr.sample_on_ranks, 0

    def failing(*given: Any) -> Sampled:
        nonlocal calls
        calls += 1
        return unjudged(sample(*given), Verdicts.ERROR) if calls == 4 else sample(*given)

    monkeypatch.setattr(rlvr, "sample_on_ranks", failing)
    with pytest.raises(UserError, match=r"step 4: verifiers failed on all 16 answers; on one to words/\d+: no connect"):
        train(tmp_path / "cut", inputs)
    train(tmp_path / "cut", inputs)
    assert_same_run(tmp_path / "cut", whole)


def test_a_stop_before_anything_was_learned_changes_nothing(
    tmp_path: Path, inputs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first steps have no verdicts; an optimizer is saved that has taken no step."""
    sample = rlvr.sample_on_ranks

    def late_at_first(source: Any, world: Any, asked: Any, *rest: Any) -> Sampled:
        sampled = sample(source, world, asked, *rest)
        return unjudged(sampled, Verdicts.TIMEOUT) if asked[0][0] < 2 * PPO.prompts_per_step else sampled

    monkeypatch.setattr(rlvr, "sample_on_ranks", late_at_first)
    whole = train(tmp_path / "whole", inputs, PPO)
    learn, count = rlvr.learn, 0

    def interrupted(*arguments: Any) -> Any:
        nonlocal count
        count += 1
        if count == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return learn(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(rlvr, "learn", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "cut", inputs, PPO)
    train(tmp_path / "cut", inputs, PPO)
    assert_same_run(tmp_path / "cut", whole)
    saving = train(tmp_path / "saving", inputs, PPO, checkpoint_minutes=0)
    assert_same_run(saving, whole)


def test_groups_that_teach_nothing_take_no_step(tmp_path: Path) -> None:
    """No answer of eight tokens has a thousand words: all rewards are 0, and no weight moves."""
    target = {"constraints": [{"id": "word_count", "kwargs": {"relation": "at least", "count": 1000}}]}
    inputs = write_inputs(tmp_path, problems(16, target=target))
    folder = train(tmp_path / "out", inputs, num_steps=2)
    for line in steps(folder):
        assert line["groups_with_variance"] == 0 and line["optimizer_steps"] == 0 and line["outcome/wrong"] == 16
    before, after = weights(inputs["model"]), weights(folder)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_answers_that_teach_nothing_count_in_the_means(
    tmp_path: Path, inputs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their forward pass is saved; the loss is divided by all of the step's tokens."""
    make, totals = update.policy_loss_function, list[Totals]()

    def recorded(config: RLVRConfig, given: Totals, gaps: list[float]) -> Any:
        totals.append(given)
        return make(config, given, gaps)

    monkeypatch.setattr(update, "policy_loss_function", recorded)
    folder = train(tmp_path / "out", inputs, num_passes=2)
    seen = 0
    for line, frame, (first, second) in zip(
        steps(folder), rollouts(folder), zip(totals[::2], totals[1::2], strict=True), strict=True
    ):
        lengths, advantages = frame["ids"].list.len(), frame["advantages"].list.first()
        useful = lengths.filter(advantages != 0)
        assert first == second and (first.num_tokens, first.num_sequences) == (lengths.sum(), 16)
        assert line["num_trained_tokens"] == 2 * useful.sum()
        seen += len(useful) < 16
    assert seen, "every group had variance: nothing was tested"


def test_some_answers_without_a_verdict_change_nothing_for_the_others(tmp_path: Path) -> None:
    """Half of the problems fail: their answers have no advantages, the others learn."""
    rows = [*problems(8), *problems(8, task="broken", target={"constraints": []})]
    folder = train(tmp_path / "out", write_inputs(tmp_path, rows), held_out=HeldOut(), num_steps=2)
    for frame in rollouts(folder):
        broken = frame["task"] == "broken"
        assert broken.any() and frame.filter(broken)["advantages"].is_null().all()
        assert frame.filter(~broken)["advantages"].is_not_null().all()
    line = steps(folder)[0]
    assert line["outcome/error"] > 0 and line["optimizer_steps"] == 1
    assert line["pass_rate"] == pytest.approx(line["outcome/correct"] / (16 - line["outcome/error"]))


def test_dynamic_sampling_replaces_groups_without_variance(tmp_path: Path, inputs: dict[str, Path]) -> None:
    """Refilled up to the bound; what has no variance is kept on record, is not learned from, and costs its places."""
    folder = train(tmp_path / "out", inputs, max_refills=2, samples_per_prompt=2, num_steps=4)
    place = 0
    for frame in rollouts(folder):
        places = frame["place"].unique().sort().to_list()
        assert places == list(range(place, place + len(places)))
        place += len(places)
        varied = 0
        for _, group in frame.group_by("place"):
            differs = group["reward"].n_unique() > 1
            varied += differs
            assert group["advantages"].is_null().all() == (not differs)
        assert varied == 4 or len(places) > 4
    assert place > 16


def test_every_objective_learns_without_a_fault(tmp_path: Path, inputs: dict[str, Path]) -> None:
    for objective in Objective:
        if objective is not Objective.PPO:
            chosen = ObjectiveConfig(objective=objective, kl_coefficient=0.01, entropy_coefficient=0.001)
            (line, _) = steps(train(tmp_path / objective, inputs, objective=chosen, num_steps=2))
            assert abs(line["ratio"] - 1) <= 1e-5 and abs(line["kl_reference"]) <= 1e-9 and line["entropy"] > 1


def test_a_reference_holds_the_policy_near(tmp_path: Path, inputs: dict[str, Path]) -> None:
    free, held = (
        steps(
            train(
                tmp_path / str(beta),
                inputs,
                objective=grpo(kl_coefficient=beta),
                num_passes=2,
            )
        )
        for beta in (1e-9, 1.0)
    )
    assert held[-1]["kl_reference"] < 0.5 * free[-1]["kl_reference"]


def test_the_adapters_of_lora_reach_the_sampler(tmp_path: Path, inputs: dict[str, Path]) -> None:
    lines = steps(train(tmp_path / "out", inputs, lora=LoraConfig(rank=4), num_passes=2))
    assert all(line["sampler_gap"] <= 1e-5 for line in lines)
    before, after = weights(inputs["model"]), weights(tmp_path / "out")
    assert {name for name in before if not torch.equal(before[name], after[name])}


def test_two_ranks_sample_and_learn_the_same(tmp_path: Path, inputs: dict[str, Path]) -> None:
    """Each samples its share of the prompts on a whole copy of the sharded weights."""
    one = train(tmp_path / "one", inputs, PPO, num_steps=2)
    two = train(tmp_path / "two", inputs, PPO, num_steps=2, num_ranks=2, checkpoint_minutes=0)
    assert all(a["ids"].equals(b["ids"]) for a, b in zip(rollouts(one), rollouts(two), strict=True))
    for name, expected in weights(one).items():
        torch.testing.assert_close(weights(two)[name], expected, rtol=1e-3, atol=1e-4)


def test_bf16_samples_a_copy_and_clips_around_the_trainers_own_numbers(tmp_path: Path, inputs: dict[str, Path]) -> None:
    lines = steps(train(tmp_path / "out", inputs, PPO, num_steps=2, precision="bf16"))
    for line in lines:
        assert 0 < line["proximal_gap"] < 0.05, "the copy's rounding is not the trainer's"
        assert line["kl_reference"] >= 0 and line["optimizer_steps"] == PPO.num_passes * PPO.num_mini_batches
    assert lines[0]["sampler_gap"] < 0.2


# --- PPO ---


def test_ppo_learns_and_its_values_predict_returns(tmp_path: Path, inputs: dict[str, Path]) -> None:
    folder = train(tmp_path / "out", inputs, PPO, num_steps=16, prompts_per_step=16)
    lines = steps(folder)
    assert gain(lines, 4) > 0.2
    off = [abs(line["value"] - line["return"]) for line in lines]
    assert np.mean(off[-4:]) < off[0], "values come nearer to returns"
    assert lines[-1]["value_loss"] < lines[0]["value_loss"] and lines[0]["optimizer_steps"] == 4
    whitened = np.concatenate([np.concatenate(list(frame["advantages"])) for frame in rollouts(folder)[:1]])
    assert whitened.mean() == pytest.approx(0, abs=1e-9) and whitened.std() == pytest.approx(1, abs=1e-2)


def test_the_value_model_starts_from_a_reward_model(tmp_path: Path, inputs: dict[str, Path]) -> None:
    save_model(new_reward_model(inputs["model"], 0), tiny_tokenizer(), tmp_path / "rm")
    given = {**inputs, "value_model": tmp_path / "rm"}
    (line,) = steps(train(tmp_path / "out", given, PPO, value_model="rm", num_steps=1))
    (zeros,) = steps(train(tmp_path / "zeros", inputs, PPO, num_steps=1))
    assert line["value_loss"] != zeros["value_loss"]


def test_an_answer_without_end_gets_its_own_reward(tmp_path: Path, inputs: dict[str, Path]) -> None:
    (frame,) = rollouts(train(tmp_path / "out", inputs, num_steps=1, reward=RewardConfig(missing_end=-10.0)))
    cut = frame.filter(~frame["ended"])
    assert len(cut) and set(cut["reward"]) == {-10.0}
