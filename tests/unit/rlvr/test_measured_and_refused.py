"""The loop on a tiny model: what is measured beside training, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rlvr_support import (
    TARGET,
    assert_same_run,
    fail,
    grpo,
    outcome,
    problems,
    rollouts,
    train,
    untimed,
    weights,
    write_inputs,
)
from safetensors.torch import save_file

from cameleer.core.errors import UserError
from cameleer.core.types import Message
from cameleer.model.load import save_model
from cameleer.model.tiny import tiny_model, tiny_tokenizer
from cameleer.rlvr import measure, update
from cameleer.rlvr import train as rlvr
from cameleer.rlvr.config import Difficulty, HeldOut, KeptModel
from cameleer.rlvr.rollouts import RolloutFiles
from cameleer.verify import Outcome
from cameleer.verify.pool import VerifierPool

# --- what is measured ---


def test_the_best_weights_are_saved(tmp_path: Path, inputs: dict[str, Path]) -> None:
    """Of two runs that differ in what they keep, the one with `best` exports the weights of its best measurement."""
    held_out = HeldOut(num_problems=4, every=1)
    best = outcome(tmp_path / "best", inputs, held_out=held_out)
    last = outcome(tmp_path / "last", inputs, held_out=held_out.model_copy(update={"keep": KeptModel.LAST}))
    accuracies = [line["held_out"] for line in untimed(tmp_path / "best") if "held_out" in line]
    assert best.summary["held_out"] == max(accuracies) and last.summary["held_out"] == accuracies[-1]
    kept = best.summary["kept_step"]
    assert accuracies.index(max(accuracies)) == kept < 6 == last.summary["kept_step"]
    stopped = train(tmp_path / "stopped", inputs, held_out=HeldOut(num_problems=4, keep=KeptModel.LAST), num_steps=kept)
    assert all(torch.equal(weights(stopped)[name], each) for name, each in weights(tmp_path / "best").items())


def test_a_measurement_has_its_interval(tmp_path: Path, inputs: dict[str, Path]) -> None:
    folder = train(
        tmp_path / "out", inputs, num_steps=1, held_out=HeldOut(num_problems=4, tasks=("precise-if-dev",), num_items=6)
    )
    first = untimed(folder)[0]
    assert first["held_out"] == (first["held_out/words"] + first["held_out/precise-if-dev"]) / 2
    assert first["held_out_low/words"] <= first["held_out/words"] <= first["held_out_high/words"]


def test_problems_of_suitable_difficulty_are_kept(tmp_path: Path, inputs: dict[str, Path]) -> None:
    difficulty = Difficulty(num_samples=4, pass_rate=(0.25, 0.75), easy_first=True)
    folder = train(tmp_path / "out", inputs, difficulty=difficulty, held_out=HeldOut(), num_steps=2)
    rates: dict[str, float] = json.loads((folder / "pass_rates.json").read_text())
    asked = [name for frame in rollouts(folder) for name in frame.group_by("place").first().sort("place")["problem"]]
    suitable = [name for name, rate in rates.items() if 0.25 <= rate <= 0.75]
    assert 0 < len(suitable) < 16 and set(asked) <= set(suitable)
    epoch = [rates[name] for name in asked[: len(suitable)]]
    assert epoch == sorted(epoch, reverse=True)


def test_problems_that_no_verdict_is_known_of_are_not_hard(tmp_path: Path) -> None:
    """A verifier that fails on all answers to a problem: its pass rate is not 0 but unknown."""
    rows = [*problems(8), *problems(4, task="broken", target={"constraints": []})]
    difficulty = Difficulty(num_samples=2, pass_rate=(0.0, 1.0))
    result = outcome(tmp_path / "out", write_inputs(tmp_path, rows), difficulty=difficulty, held_out=HeldOut())
    assert (result.counts["train_problems"], result.counts["unmeasured"], result.counts["unsuitable"]) == (8, 4, 4)


def test_pass_rates_go_on_where_they_were_stopped(
    tmp_path: Path, inputs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was measured before a stop is not asked again, and the rates are those of one go."""
    changes = {"difficulty": Difficulty(num_samples=2), "held_out": HeldOut(), "num_steps": 1}
    whole = (train(tmp_path / "whole", inputs, **changes) / "pass_rates.json").read_text()
    sample, asked = rlvr.RolloutSource.sample, list[int]()

    def counted(self: Any, prompts: Any, *rest: Any) -> Any:
        asked.append(len(prompts))
        if len(asked) == 3:
            raise RuntimeError("stop here")
        return sample(self, prompts, *rest)

    monkeypatch.setattr(measure, "PROMPTS_PER_PART", 6)
    monkeypatch.setattr(rlvr.RolloutSource, "sample", counted)
    with pytest.raises(RuntimeError, match="stop here"):
        train(tmp_path / "cut", inputs, **changes)
    assert json.loads((train(tmp_path / "cut", inputs, **changes) / "pass_rates.json").read_text()) == json.loads(whole)
    assert asked == [6, 6, 4, 4, 4], "two parts, the one that failed, its second try, and the step's four prompts"


def test_a_pass_rate_without_a_verdict_is_asked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the first step: a verifier that was down when problems were measured has not made them unsuitable."""
    inputs = write_inputs(tmp_path, problems(8))
    changes = {"difficulty": Difficulty(num_samples=2), "held_out": HeldOut(), "num_steps": 1}
    down = VerifierPool(verify="rlvr_support:down")
    with monkeypatch.context() as patch:
        patch.setattr(rlvr, "VerifierPool", lambda **_: down)
        with pytest.raises(UserError, match="8 are not of the wanted difficulty, 8 of them for want of a verdict"):
            train(tmp_path / "out", inputs, **changes)
    assert outcome(tmp_path / "out", inputs, **changes).counts["unmeasured"] == 0


def test_a_task_without_a_verdict_leaves_a_measurement_unknown(
    tmp_path: Path, inputs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mean over the other tasks is of something else: it is not compared, and no weights are kept by it."""
    held_out = HeldOut(num_problems=4, tasks=("precise-if-dev",), num_items=4, every=1)
    sample, calls = measure.sample_on_ranks, 0

    def half(*given: Any) -> Any:
        nonlocal calls
        calls += 1
        sampled = sample(*given)
        gone = {"outcome": Outcome.TIMEOUT, "score": None, "reward": None}
        rows = [replace(each, **gone) if each.task == "words" else each for each in sampled.rollouts]
        return replace(sampled, rollouts=rows) if calls == 1 else sampled

    monkeypatch.setattr(measure, "sample_on_ranks", half)
    result = outcome(tmp_path / "out", inputs, held_out=held_out, num_steps=2)
    first, *others = [line for line in untimed(tmp_path / "out") if "held_out" in line]
    assert first["held_out"] is None and "held_out/words" not in first and "held_out/precise-if-dev" in first
    assert result.summary["held_out"] == max(line["held_out"] for line in others)
    assert result.summary["kept_step"] > 0 and result.summary["held_out_start"] is None


def without_verdicts(outcome: Outcome) -> Any:
    sample = measure.sample_on_ranks

    def sampled(*given: Any) -> Any:
        gone = {"outcome": outcome, "score": None, "reward": None, "detail": {"error": "no connection"}}
        found = sample(*given)
        return replace(found, rollouts=[replace(each, **gone) for each in found.rollouts])

    return sampled


def test_a_verifier_that_fails_before_the_first_step_is_named_and_measured_once_mended(
    tmp_path: Path, inputs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"held_out": HeldOut(num_problems=4, every=1), "num_steps": 2}
    with monkeypatch.context() as patch:
        patch.setattr(measure, "sample_on_ranks", without_verdicts(Outcome.ERROR))
        with pytest.raises(UserError, match=r"held-out words: verifiers failed on all 4 answers.*no connection"):
            train(tmp_path / "out", inputs, **changes)
    assert outcome(tmp_path / "out", inputs, **changes).summary["held_out_start"] is not None


def test_without_any_measurement_the_last_weights_are_saved(
    tmp_path: Path, inputs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """None is the best."""
    monkeypatch.setattr(measure, "sample_on_ranks", without_verdicts(Outcome.TIMEOUT))
    found = outcome(tmp_path / "out", inputs, held_out=HeldOut(num_problems=4, every=1), num_steps=2)
    assert (found.summary["kept_step"], found.summary["held_out"]) == (2, None)


def test_held_out_verdicts_are_made_once(
    tmp_path: Path, inputs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that goes on decides by the verdicts that it had, and its answers are on disk."""
    held_out = HeldOut(num_problems=4, every=1)
    whole = train(tmp_path / "whole", inputs, held_out=held_out, num_steps=3)
    with monkeypatch.context() as patch:
        patch.setattr(rlvr, "choose", fail)
        with pytest.raises(RuntimeError, match="stop here"):
            train(tmp_path / "cut", inputs, held_out=held_out, num_steps=3)
    monkeypatch.setattr(rlvr, "greedy_answers", fail)
    train(tmp_path / "cut", inputs, held_out=held_out, num_steps=3)
    assert_same_run(tmp_path / "cut", whole)
    files = sorted(path.name for path in (whole / "held_out").iterdir())
    assert files == [f"step-00000{number}.parquet" for number in range(4)]


def test_a_planted_exploit_raises_the_alarm(tmp_path: Path) -> None:
    """The verifier in training counts words alone; the task, as held-out problems judge it, also asks for one word.

    The alarm comes within 20 steps. Where both are judged alike there is none.
    """
    strictly = {"constraints": [*TARGET["constraints"], {"id": "starts_with", "kwargs": {"phrase": "About"}}]}
    rows = problems(16)
    honest = write_inputs(tmp_path / "honest", rows)
    held_out = HeldOut(num_problems=4, every=2)
    chosen = rlvr.hold_out([rlvr.Prompt(row, ()) for row in rows], 4, seed=3)[1]
    names = {prompt.problem.id for prompt in chosen}
    twins = zip(rows, problems(16, target=strictly), strict=True)
    strict = [told if row.id in names else row for row, told in twins]
    planted = write_inputs(tmp_path / "planted", strict)
    changes = {"num_steps": 24, "held_out": held_out}
    alarmed = outcome(tmp_path / "alarmed", planted, **changes).summary["alarms"]
    quiet = outcome(tmp_path / "quiet", honest, **changes).summary["alarms"]
    assert "reward_without_accuracy" in alarmed and "reward_without_accuracy" not in quiet
    (line,) = [line for line in untimed(tmp_path / "alarmed") if "reward_without_accuracy" in line.get("alarms", {})]
    assert line["step"] <= 20


# --- what is refused ---


def test_an_unknown_verifier_names_its_problem(tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path, problems(4, verifier="constraint"))
    with pytest.raises(UserError, match=r"problem words/\d: Unknown verifier 'constraint'. Did you mean 'constraints'"):
        train(tmp_path / "out", inputs)


def test_prompts_that_are_all_too_long(tmp_path: Path, inputs: dict[str, Path]) -> None:
    with pytest.raises(UserError, match="no problems to train on: of 16, 16 have more than 5 tokens"):
        train(tmp_path / "out", inputs, max_prompt_tokens=5)


def test_prompts_beyond_the_context_are_left_out_and_counted(tmp_path: Path) -> None:
    """A context of 1,024 tokens leaves 1,016 beside answers of eight: the run does not end at a prompt of more."""
    long = replace(problems(1, task="long")[0], messages=(Message("user", "Say it. " * 200),))
    inputs = write_inputs(tmp_path, [*problems(7), long])
    result = outcome(tmp_path / "out", inputs, num_steps=4)
    assert (result.counts["problems"], result.counts["too_long"]) == (8, 1)
    assert all((frame["task"] == "words").all() for frame in rollouts(tmp_path / "out"))
    with pytest.raises(UserError, match="have more than -1024 tokens"):
        train(tmp_path / "other", inputs, max_new_tokens=2048)


def test_a_held_out_task_that_no_verifier_judges(
    tmp_path: Path, inputs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be measured as 0 at every step."""
    task = SimpleNamespace(problems=lambda count, seed: problems(count, verifier="likelihood"))
    monkeypatch.setattr(rlvr, "find_task", lambda name: task)
    with pytest.raises(UserError, match=r"held_out: precise-if-dev: problem words/\d: Unknown verifier 'likelihood'"):
        train(tmp_path / "out", inputs, held_out=HeldOut(tasks=("precise-if-dev",), num_items=4))


def test_a_reference_with_other_tokens(tmp_path: Path, inputs: dict[str, Path]) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["<other>"])
    save_model(tiny_model("llama"), tokenizer, tmp_path / "other")
    given = {**inputs, "reference": tmp_path / "other"}
    with pytest.raises(UserError, match="the reference reads texts as other tokens"):
        train(
            tmp_path / "out",
            given,
            objective=grpo(kl_coefficient=0.1),
            reference="other",
        )


def test_a_loss_that_is_not_finite_is_named(
    tmp_path: Path, inputs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    policy_loss = update.policy_loss

    def broken(*arguments: Any) -> Any:
        loss, sums = policy_loss(*arguments)
        return loss * float("nan"), sums

    monkeypatch.setattr(update, "policy_loss", broken)
    with pytest.raises(UserError, match=r"rlvr step 1: loss nan, gradient norm nan\. Its rows: words/"):
        train(tmp_path / "out", inputs)
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_logits_that_are_not_finite_are_named(tmp_path: Path, inputs: dict[str, Path]) -> None:
    path = inputs["model"] / "model.safetensors"
    broken = weights(inputs["model"])
    next(iter(broken.values()))[:] = float("nan")
    save_file(broken, path, {"format": "pt"})
    with pytest.raises(UserError, match=r"sampling answers to words/\d+.*not finite"):
        train(tmp_path / "out", inputs)
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_a_damaged_file_of_rollouts_is_named(tmp_path: Path, inputs: dict[str, Path]) -> None:
    files = RolloutFiles(tmp_path / "out" / "rollouts")
    train(tmp_path / "out", inputs, num_steps=1)
    path = tmp_path / "out" / "rollouts" / "step-000001.parquet"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match=r"step-000001.parquet: not a readable Parquet file"):
        files.read(0)
