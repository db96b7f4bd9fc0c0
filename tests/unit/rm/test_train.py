"""The loop on a tiny model: it learns what pairs say, not how long they are; resumes exactly; refuses by name."""

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support import WholeDouble, largest_relative_difference, untimed_metrics
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from cameleer.core.errors import UserError
from cameleer.core.pairs import PAIRS, PreferencePair
from cameleer.core.stage import StageRun
from cameleer.core.training import LoraConfig, Overlong
from cameleer.core.types import Message
from cameleer.model.load import load_renderer, save_model
from cameleer.model.reward import RewardModel, RewardScorer, load_reward_model, new_reward_model
from cameleer.model.tiny import tiny_model, tiny_tokenizer
from cameleer.rm import train as rm
from cameleer.rm.config import RMConfig
from cameleer.rm.train import loss_function, scored_tree
from cameleer.train.accumulate import accumulate
from cameleer.train.distributed import World
from cameleer.train.layout import Segment, Tree
from cameleer.train.learner import Learner
from cameleer.train.pairs import load_pairs, pair_tree

ALONE = World(0, 1, torch.device("cpu"))
CONFIG = RMConfig(learning_rate=3e-3, batch_size=8, num_epochs=3, tokens_per_batch=256, num_eval_rows=40)


def sorted_pairs(count: int, seed: int = 0) -> list[PreferencePair]:
    """Chosen answers list digits in rising order; rejected ones do not. Both have any length from three to six."""
    random = np.random.default_rng(seed)
    pairs: list[PreferencePair] = []
    while len(pairs) < count:
        first, second = (random.permutation(10)[: random.integers(3, 7)].tolist() for _ in range(2))
        if second == sorted(second):
            continue
        prompt = (Message("user", "What is the answer?"),)
        chosen, rejected = "".join(map(str, sorted(first))), "".join(map(str, second))
        number = len(pairs)
        pairs.append(PreferencePair(str(number), f"source{number % 2}", prompt, chosen, rejected, 4.0, 1.0))
    return pairs


def write_inputs(folder: Path, pairs: list[PreferencePair]) -> dict[str, Path]:
    save_model(tiny_model(), tiny_tokenizer(), folder / "model")
    (folder / "pairs").mkdir()
    PAIRS.write(folder / "pairs", pairs)
    return {"model": folder / "model", "pairs": folder / "pairs"}


def train(folder: Path, inputs: dict[str, Path], **changes: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rm.run(CONFIG.model_copy(update=changes), StageRun("rm", folder, inputs, "model", 3))
    return folder


def test_it_orders_held_out_pairs_where_length_says_nothing(tmp_path: Path) -> None:
    pairs = sorted_pairs(440)
    inputs = write_inputs(tmp_path, pairs)
    lines = untimed_metrics(train(tmp_path / "out", inputs))
    accuracies = [line["eval_accuracy"] for line in lines if "eval_accuracy" in line]
    assert len(accuracies) == 4 and accuracies[0] < 0.75 <= 0.9 <= accuracies[-1], accuracies
    longer = np.mean([(len(p.chosen) > len(p.rejected)) + (len(p.chosen) == len(p.rejected)) / 2 for p in pairs])
    assert abs(longer - 0.5) < 0.1
    # The saved model, loaded anew, orders new pairs as well.
    scorer = RewardScorer(RewardModel(load_reward_model(tmp_path / "out")), load_renderer(tmp_path / "out", "model"))
    fresh = sorted_pairs(100, seed=1)
    scores = scorer.score([pair.prompt for pair in fresh], [[pair.chosen, pair.rejected] for pair in fresh])
    assert np.mean([chosen > rejected for chosen, rejected in scores]) >= 0.9
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    renderer = scorer.renderer
    ids = renderer.prompt(fresh[0].prompt) + renderer.answer(fresh[0].prompt, fresh[0].chosen)
    with torch.inference_mode():
        assert plain(torch.tensor([ids])).logits.item() == pytest.approx(scores[0][0], abs=1e-5)


def test_the_first_loss_is_that_of_the_new_models_scores(tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path, sorted_pairs(16))
    lines = untimed_metrics(train(tmp_path / "out", inputs, num_epochs=1, num_eval_rows=0, batch_size=16, margin=0.5))
    scorer = RewardScorer(
        RewardModel(new_reward_model(inputs["model"], seed=3)), load_renderer(inputs["model"], "model")
    )
    pairs = sorted_pairs(16)
    scores = scorer.score([pair.prompt for pair in pairs], [[pair.chosen, pair.rejected] for pair in pairs])
    losses = [np.log1p(np.exp(-(chosen - rejected - 0.5 * 3.0))) for chosen, rejected in scores]
    assert lines[0]["loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert lines[0]["accuracy"] == np.mean([chosen > rejected for chosen, rejected in scores])
    assert lines[0]["score_gap"] == pytest.approx(np.mean([c - r for c, r in scores]), abs=1e-6)


def random_pair_trees(count: int) -> list[Tree]:
    random = np.random.default_rng(5)
    ids = [[random.integers(3, 97, random.integers(1, 20)).tolist() for _ in range(3)] for _ in range(count)]
    return [scored_tree(pair_tree(*each), margin=0.25 * number) for number, each in enumerate(ids)]


def gradients(
    model: PreTrainedModel, batches: list[list[Tree]], num_pairs: int
) -> tuple[float, dict[str, torch.Tensor]]:
    reward = RewardModel(model)
    reward.zero_grad()
    with WholeDouble():
        loss, _ = accumulate(reward, batches, loss_function(num_pairs), ALONE)
    return loss, {name: p.grad.clone() for name, p in reward.named_parameters() if p.grad is not None}


def test_loss_and_gradients_do_not_depend_on_the_layout(tmp_path: Path) -> None:
    """fp64: packed in any way and order, and with the prompt repeated for each answer."""
    save_model(tiny_model(), tiny_tokenizer(), tmp_path)
    model = new_reward_model(tmp_path, seed=1).double()
    trees = random_pair_trees(6)
    reference = gradients(model, [trees], 6)
    repeated: list[Tree] = []
    for prompt, *answers in trees:
        again = [Segment(prompt.ids, prompt.weights)] * 2
        repeated.append(
            (
                *again,
                *(Segment(each.ids, each.weights, parent, each.columns) for parent, each in enumerate(answers)),
            )
        )
    layouts = [[[tree] for tree in trees], [trees[::-1]], [trees[:1], trees[1:]], [repeated]]
    for layout in layouts:
        loss, found = gradients(model, layout, 6)
        assert loss == pytest.approx(reference[0], rel=1e-10)
        assert largest_relative_difference(found, reference[1]) <= 1e-10


def test_a_run_that_is_killed_ends_with_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = write_inputs(tmp_path, sorted_pairs(60))
    whole = train(tmp_path / "whole", inputs, num_eval_rows=8)
    real = Learner.step

    def interrupted(self: Any, number: int, *arguments: Any) -> Any:
        if number == 9 and not (tmp_path / "stopped").exists():
            (tmp_path / "stopped").touch()
            os.kill(os.getpid(), signal.SIGINT)
        return real(self, number, *arguments)

    monkeypatch.setattr(Learner, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", inputs, num_eval_rows=8)
    cut = train(tmp_path / "cut", inputs, num_eval_rows=8)
    ours, theirs = load_file(whole / "model.safetensors"), load_file(cut / "model.safetensors")
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert untimed_metrics(whole) == untimed_metrics(cut)


def test_ranks_do_not_matter(tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path, sorted_pairs(13))
    one = train(tmp_path / "one", inputs, num_epochs=1, num_eval_rows=5)
    two = train(tmp_path / "two", inputs, num_epochs=1, num_eval_rows=5, num_ranks=2)
    for ours, theirs in zip(untimed_metrics(one), untimed_metrics(two), strict=True):
        assert ours == {key: pytest.approx(value, rel=1e-4, abs=1e-6) for key, value in theirs.items()}


def test_with_adapters_the_head_learns_and_the_saved_model_is_plain(tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path, sorted_pairs(120))
    lines = untimed_metrics(train(tmp_path / "out", inputs, lora=LoraConfig(rank=8), num_epochs=4))
    assert [line["eval_loss"] for line in lines if "eval_loss" in line][-1] < 0.6
    before = new_reward_model(inputs["model"], seed=3).state_dict()
    after = load_reward_model(tmp_path / "out").state_dict()
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert "score.weight" in changed and not any("norm" in name or "embed" in name for name in changed)


def test_what_cannot_be_learned_from_is_left_out_and_counted(tmp_path: Path) -> None:
    prompt = (Message("user", "q"),)
    pairs = [
        PreferencePair("same", "s", prompt, "a", "a"),
        PreferencePair("empty", "s", prompt, "a", " "),
        PreferencePair("long", "s", prompt, "a", "b" * 500),
        PreferencePair("long prompt", "s", (Message("user", "q" * 500),), "a", "b"),
        PreferencePair("equal once cut", "s", prompt, "a" * 400, "a" * 401),
        PreferencePair("good", "s", prompt, "a", "b"),
    ]
    inputs = write_inputs(tmp_path, pairs)
    renderer = load_renderer(inputs["model"], "model")
    cut = load_pairs(inputs["pairs"], renderer, 128, Overlong.TRUNCATE, shown=False)
    assert [pair.id for pair in cut.pairs] == ["long", "good"]
    assert max(sum(len(cut.trees[0][i].ids) for i in path) for path in ((0, 1), (0, 2))) == 128
    assert cut.counts == {
        "pairs": 2,
        "truncated": 1,
        "dropped_overlong": 2,
        "dropped_identical": 1,
        "dropped_empty": 1,
    }
    assert load_pairs(inputs["pairs"], renderer, 128, Overlong.DROP, shown=False).counts["dropped_overlong"] == 3
    with pytest.raises(UserError, match=r"pair s/long: .* more than max_tokens = 128"):
        load_pairs(inputs["pairs"], renderer, 128, Overlong.ERROR, shown=False)


def test_a_margin_needs_ratings(tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path, [PreferencePair("1", "s", (Message("user", "q"),), "a", "b")])
    with pytest.raises(UserError, match="pair s/1 has no ratings"):
        train(tmp_path / "out", inputs, margin=1.0, num_eval_rows=0)
    with pytest.raises(UserError, match="no pairs to train on"):
        train(tmp_path / "none", inputs, num_eval_rows=1)
