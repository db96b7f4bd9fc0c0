"""Prompts in order, rewards by hand, trees, and rollouts on disk."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rlvr_support import problems

from cameleer.core.errors import UserError
from cameleer.core.render import Renderer
from cameleer.model import attention
from cameleer.model.policy import Policy
from cameleer.model.tiny import tiny_model, tiny_tokenizer
from cameleer.rlvr.config import Format, Instructions, Overlong, Repetition, RewardConfig
from cameleer.rlvr.problems import Prompt, PromptOrder, as_prompts, hold_out, within
from cameleer.rlvr.rollouts import Rollout, RolloutFiles, groups_of, has_variance
from cameleer.rlvr.scoring import Answer, score, trees_of
from cameleer.rlvr.shaping import overlong, repetition, reward_of
from cameleer.train.distributed import World
from cameleer.train.layout import tree_size
from cameleer.verify import Outcome, Verdict, verify

ALONE = World(0, 1, torch.device("cpu"))


def prompts(*counts: tuple[str, int]) -> list[Prompt]:
    return [Prompt(row, (5, 6)) for task, count in counts for row in problems(count, task=task)]


def rollout(place: int = 0, sample: int = 0, length: int = 3, **changes: Any) -> Rollout:
    draw = np.random.default_rng([place, sample, length])
    made = Rollout(
        place=place,
        sample=sample,
        problem=f"words/{place}",
        task="words",
        prompt_ids=tuple(np.random.default_rng(place).integers(3, 300, 5 + place).tolist()),
        ids=tuple(draw.integers(3, 300, length).tolist()),
        logprobs=tuple((-draw.random(length)).astype(np.float32).tolist()),
        ended=True,
        weight_version=7,
        response="ein Wort, “zitiert” \u2028",
        outcome=Outcome.CORRECT,
        score=1.0,
        detail={"reason": None},
        reward=1.0,
        shaping={},
    )
    return replace(made, **changes)


# --- order ---


def test_each_epoch_has_every_problem_once_in_an_order_of_its_own() -> None:
    order = PromptOrder(prompts(("a", 5)), {}, seed=1)
    epochs = [[order.row(place) for place in range(start, start + 5)] for start in (0, 5, 10)]
    assert all(sorted(epoch) == list(range(5)) for epoch in epochs) and len(set(map(tuple, epochs))) > 1


def test_the_order_depends_on_the_seed_alone() -> None:
    """Asked backwards, or from the middle, it is the same one."""
    rows = prompts(("a", 7), ("b", 3))
    weights = {"a": 1.0, "b": 2.0}
    forwards = PromptOrder(rows, weights, seed=4)
    expected = [forwards.row(place) for place in range(40)]
    backwards = PromptOrder(rows, weights, seed=4)
    assert [backwards.row(place) for place in reversed(range(40))] == expected[::-1]
    other = PromptOrder(rows, weights, seed=5)
    assert [other.row(place) for place in range(40)] != expected


def test_weights_share_out_the_places_and_repeat_no_problem_within_an_epoch() -> None:
    """Weights 1 and 3 over 40 places: 10 and 30; of the task with 10 problems each comes three times."""
    rows = prompts(("a", 20), ("b", 10))
    order = PromptOrder(rows, {"a": 1.0, "b": 3.0}, seed=0)
    taken = [order.row(place) for place in range(40)]
    tasks = Counter(rows[row].problem.task for row in taken)
    assert tasks == {"a": 10, "b": 30}
    assert set(Counter(row for row in taken if row >= 20).values()) == {3}
    for end in range(4, 41, 4):
        assert Counter(rows[row].problem.task for row in taken[:end])["a"] == end // 4


def test_a_weight_without_problems_is_named() -> None:
    with pytest.raises(UserError, match=r"no problems of task 'words-dev'. Did you mean 'words'"):
        PromptOrder(prompts(("words", 2)), {"words-dev": 1.0}, seed=0)


def test_problems_without_a_weight_are_named() -> None:
    """They would be in the mixture and never be asked."""
    with pytest.raises(UserError, match="there are problems of sums, words, which have no weight"):
        PromptOrder(prompts(("if", 2), ("words", 2), ("sums", 2)), {"if": 1.0}, seed=0)


def test_easy_problems_come_first_in_every_epoch() -> None:
    rank = [0.3, 0.1, 0.2]
    order = PromptOrder(prompts(("a", 3)), {}, seed=0, easy_first=rank)
    assert [order.row(place) for place in range(6)] == [1, 2, 0, 1, 2, 0]


def test_held_out_problems_are_not_trained_on() -> None:
    rows = prompts(("a", 30))
    trained, held_out = hold_out(rows, 10, seed=2)
    assert len(held_out) == 10 and sorted([*trained, *held_out], key=rows.index) == rows
    assert hold_out(rows, 10, seed=2)[1] == held_out != hold_out(rows, 10, seed=3)[1]


def test_prompts_are_what_sampling_starts_from() -> None:
    renderer = Renderer(tiny_tokenizer())
    (prompt,) = as_prompts(problems(1), renderer, "problems")
    assert list(prompt.ids) == renderer.prompt(prompt.problem.messages)
    assert within([prompt], len(prompt.ids)) == [prompt] and within([prompt], len(prompt.ids) - 1) == []


# --- rewards ---

CORRECT, HALF = Verdict(Outcome.CORRECT, 1.0), Verdict(Outcome.WRONG, 0.5)
ERROR = Verdict(Outcome.ERROR, None)


def test_rewards_by_hand() -> None:
    """10 for correct, half of it for half; −10 in place of everything without an end token; none for an error."""
    config = RewardConfig()
    assert reward_of(config, CORRECT, [1], "", True, 8) == (10.0, {})
    assert reward_of(config, HALF, [1], "", True, 8) == (5.0, {})
    assert reward_of(config, CORRECT, [1], "", False, 8) == (-10.0, {})
    assert reward_of(config, ERROR, [1], "", False, 8) == (None, {})
    assert reward_of(RewardConfig(missing_end=None), CORRECT, [1], "", False, 8) == (10.0, {})


def test_shaping_terms_by_hand() -> None:
    """Buffer 4 of 8: at 6 tokens half of −1. 1 2 3 4 1 2 3 4 has 5 4-grams, 4 of them different: 1/5 repeated."""
    assert [overlong(length, 8, 4) for length in (3, 4, 6, 8)] == [0.0, 0.0, -0.5, -1.0]
    assert repetition([1, 2, 3, 4, 1, 2, 3, 4]) == pytest.approx(0.2) and repetition([1, 1, 1]) == 0.0
    config = RewardConfig(
        correct=1.0,
        overlong=Overlong(buffer_tokens=4, weight=2.0),
        repetition=Repetition(weight=0.5),
        format=Format(pattern=r"<b>.*</b>", weight=0.25),
    )
    reward, terms = reward_of(config, CORRECT, [1, 2, 3, 4, 1, 2, 3, 4], "so <b>it</b> is", True, 8)
    assert terms == {"overlong": -2.0, "repetition": pytest.approx(-0.1), "format": 0.25}
    assert reward == pytest.approx(1.0 - 2.0 - 0.1 + 0.25)


def test_each_instruction_that_an_answer_follows_is_worth_a_share() -> None:
    """Of two instructions one is followed, by either record; a sum is right or wrong, an error neither."""
    config = RewardConfig(correct=0.5, missing_end=0.0, instructions=Instructions(weight=0.5))

    def reward(response: str, verifier: str, target: Any) -> float | None:
        return reward_of(config, verify(response, verifier, target), [1], response, True, 8)[0]

    constraints = {"constraints": [{"id": "lowercase", "kwargs": {}}, {"id": "no_commas", "kwargs": {}}]}
    assert [reward(text, "constraints", constraints) for text in ("a b", "A b", "A, b")] == [1.0, 0.25, 0.0]
    names = ["startend:quotation", "punctuation:no_comma"]
    ifeval = {"instruction_id_list": names, "kwargs": [{}, {}]}
    assert [reward(text, "ifeval", ifeval) for text in ('"a b"', "a b")] == [1.0, 0.25]
    assert [reward(f"The answer is {number}", "number", "4") for number in (4, 5)] == [1.0, 0.0]
    assert reward_of(config, ERROR, [1], "", True, 8) == (None, {})
    assert reward_of(config, CORRECT, [1], "", False, 8) == (0.0, {})


# --- on disk ---


def test_rollouts_survive_the_disk_to_the_bit(tmp_path: Path) -> None:
    rows = [
        rollout(0, 0, shaping={"format": 0.1}),
        rollout(0, 1, outcome=Outcome.TIMEOUT, score=None, reward=None, ended=False),
        rollout(3, 0, advantages=(0.1, -1 / 3, 2e-300)),
    ]
    files = RolloutFiles(tmp_path / "rollouts")
    assert files.read(4) is None
    files.write(4, rows)
    assert files.read(4) == rows and files.read(5) is None
    assert [path.name for path in (tmp_path / "rollouts").iterdir()] == ["step-000005.parquet"]


def test_groups_and_their_variance() -> None:
    """Equal rewards have none; nor has a group in which all but one have no verdict."""
    rows = [rollout(place, sample) for place in (4, 2) for sample in range(2)]
    assert [[each.place for each in group] for group in groups_of(rows)] == [[2, 2], [4, 4]]
    assert not has_variance(rows[:2]) and has_variance([rollout(), rollout(reward=0.0)])
    assert not has_variance([rollout(), rollout(reward=None)])


# --- trees ---


def test_trees_share_prompts_within_the_budget_and_hold_every_answer_once() -> None:
    """Prompt 5, answers of 4: a budget of 14 holds two to a tree; an answer above it has a tree of its own."""
    rows = [rollout(0, sample, 4) for sample in range(5)] + [rollout(1, 0, 30), rollout(1, 1, 2)]
    trees, members = trees_of([Answer(row, {"advantages": np.full(len(row.ids), 1.0)}) for row in rows], 14)
    assert members == [[0, 1], [2, 3], [4], [5], [6]]
    assert [tree_size(tree) for tree in trees] == [13, 13, 9, 36, 8]
    for tree, own in zip(trees, members, strict=True):
        assert tree[0].ids.tolist() == list(rows[own[0]].prompt_ids) and not tree[0].weights.any()
        assert [tuple(answer.ids.tolist()) for answer in tree[1:]] == [rows[index].ids for index in own]
        assert all(answer.weights.all() and answer.parent == 0 for answer in tree[1:])


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_scores_are_each_answers_own_whatever_the_budget(temperature: float) -> None:
    """Each equals a plain forward pass of transformers over prompt and answer."""
    rows = [rollout(place, sample, 2 + sample) for place in range(3) for sample in range(3)]
    plain = tiny_model(attention="sdpa")
    policy = Policy(tiny_model(attention=attention.NAME), temperature)
    for budget in (8, 64, 4096):
        for row, found in zip(rows, score(policy, rows, budget, ALONE), strict=True):
            ids = torch.tensor([[*row.prompt_ids, *row.ids]])
            logprobs = (plain(ids).logits[0].detach() / temperature).log_softmax(1)
            start = len(row.prompt_ids)
            expected = [float(logprobs[start - 1 + place, token]) for place, token in enumerate(row.ids)]
            assert found.tolist() == pytest.approx(expected, abs=1e-5)
