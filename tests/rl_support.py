"""What tests of reinforcement learning's losses share; here, so that ranks of a launch can import it."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from support import ALONE, VOCABULARY, Gradients, WholeDouble, random_forest, whole_gradients
from torch import Tensor

from cameleer.model import attention
from cameleer.model.load import save_model
from cameleer.model.policy import Policy, SegmentModel
from cameleer.model.reward import new_reward_model
from cameleer.model.tiny import TinyKind, tiny_model, tiny_tokenizer
from cameleer.model.value import ValueModel
from cameleer.rlvr.advantages import Floats
from cameleer.rlvr.names import Objective, ObjectiveConfig
from cameleer.rlvr.objective import (
    ADVANTAGES,
    BEHAVIOUR,
    OLD_VALUES,
    PROXIMAL,
    REFERENCE,
    RETURNS,
    Totals,
    policy_loss,
    value_loss,
)
from cameleer.rlvr.rollouts import Rollout
from cameleer.rlvr.scoring import score
from cameleer.train.accumulate import Sums, accumulate, split_step
from cameleer.train.distributed import World, current_world, shard
from cameleer.train.layout import Batch, Segment, Tree, collate
from cameleer.verify import Outcome

MAX_NEW_TOKENS = 16
TEMPERATURE = 0.8
Loss = Callable[[Any, Batch], tuple[Tensor, Sums]]
Found = tuple[float, dict[str, float], Gradients]
EVERYTHING = {"entropy_coefficient": 0.1, "kl_coefficient": 0.2, "correction": "truncate"}


def tempered_policy(dtype: torch.dtype, kind: TinyKind = "llama") -> Policy:
    """Log-probabilities and entropies at a temperature that is not 1."""
    model = tiny_model(kind, VOCABULARY, 0, dtype, attention=attention.NAME)
    return Policy(model, TEMPERATURE, with_entropy=True)


def forest(seed: int, near: Policy) -> list[Tree]:
    """Prompts with answers whose columns lie so near the policy that some ratios are clipped and some not."""
    random = np.random.default_rng(seed)
    trees = random_forest(seed, count=5)
    with torch.no_grad():
        batch = collate(trees)
        own = near.double()(batch)[0]
    result: list[Tree] = []
    place, taken = 0, own.numpy()
    for tree in trees:
        segments: list[Segment] = []
        for segment in tree:
            trained = segment.weights != 0
            logprobs = np.zeros(len(segment.ids))
            logprobs[trained] = taken[place : place + trained.sum()]
            place += trained.sum()
            columns = {
                PROXIMAL: logprobs + random.normal(0, 0.2, len(logprobs)),
                BEHAVIOUR: logprobs + random.normal(0, 0.3, len(logprobs)),
                REFERENCE: logprobs + random.normal(0, 0.3, len(logprobs)),
                ADVANTAGES: random.normal(size=len(logprobs)),
                RETURNS: random.normal(size=len(logprobs)),
                OLD_VALUES: random.normal(size=len(logprobs)),
            }
            segments.append(replace(segment, columns=columns) if segment.parent >= 0 else segment)
        result.append(tuple(segments))
    return result


def alone(trees: Sequence[Tree]) -> list[Tree]:
    """Each answer as a row of its own with its prompt repeated before it, and its columns moved along."""
    rows: list[Tree] = []
    for tree in trees:
        for number, segment in enumerate(tree):
            if not segment.weights.any():
                continue
            before, parent = [], tree[number].parent
            while parent >= 0:
                before.insert(0, tree[parent].ids)
                parent = tree[parent].parent
            context = np.concatenate(before)
            zeros = np.zeros(len(context))
            columns = {name: np.concatenate([zeros, values]) for name, values in segment.columns.items()}
            ids = np.concatenate([context, segment.ids])
            rows.append((Segment(ids, np.concatenate([zeros, segment.weights]).astype(np.float32), columns=columns),))
    return rows


def objective_loss(objective: Objective, settings: dict[str, Any], totals: Totals) -> Loss:
    config = ObjectiveConfig.parse({"objective": objective, **settings}, "")

    def loss_of(found: Tensor, batch: Batch) -> tuple[Tensor, Sums]:
        return policy_loss(config, found[0], batch, totals, found[1])

    return loss_of


def values_loss(totals: Totals) -> Loss:
    return lambda value_N, batch: value_loss(value_N, batch, totals, clip=0.5)


def gradients(model: SegmentModel, batches: Sequence[Sequence[Tree]], loss_of: Loss, world: World = ALONE) -> Found:
    model.zero_grad(set_to_none=True)
    with WholeDouble():
        loss, sums = accumulate(model, batches, loss_of, world)
    return loss, sums, {name: gradient.clone() for name, gradient in whole_gradients(model).items()}


def value_model(folder: Path, dtype: torch.dtype) -> ValueModel:
    if not folder.exists():
        save_model(tiny_model("qwen3", VOCABULARY), tiny_tokenizer(), folder)
    return ValueModel(new_reward_model(folder, seed=1).to(dtype))


def answers(count: int, num_tokens: int) -> list[Rollout]:
    """Answers to as many prompts, each of so many tokens with its prompt."""
    random = np.random.default_rng(count)
    length = num_tokens // 2
    return [
        Rollout(
            place=place,
            sample=0,
            problem=str(place),
            task="",
            prompt_ids=tuple(random.integers(3, VOCABULARY, num_tokens - length).tolist()),
            ids=tuple(random.integers(3, VOCABULARY, length).tolist()),
            logprobs=(0.0,) * length,
            ended=True,
            weight_version=0,
            response="",
            outcome=Outcome.CORRECT,
            score=1.0,
            detail={},
            reward=1.0,
            shaping={},
        )
        for place in range(count)
    ]


def all_scores(folder: Path) -> list[list[Floats]]:
    """What a rank gives for each token of one answer, and of three that each take more than half of the budget: of two
    ranks one has nothing of its own to do, once or in its second turn."""
    world = current_world()
    models = tempered_policy(torch.float64), value_model(folder, torch.float64)
    for each in models:
        shard(each, world, torch.float32)
    with WholeDouble():
        return [score(model, answers(count, 30), 48, world) for model in models for count in (1, 3)]


def gradients_and_scores(trees: list[Tree], folder: Path) -> tuple[dict[str, Found], list[list[Floats]]]:
    return all_gradients(trees, folder), all_scores(folder)


def all_gradients(trees: list[Tree], folder: Path) -> dict[str, Found]:
    """What one rank finds for each loss."""
    world, totals = current_world(), Totals.of(trees, MAX_NEW_TOKENS)
    model, values = tempered_policy(torch.float64), value_model(folder, torch.float64)
    for each in (model, values):
        shard(each, world, torch.float32)
    batches = split_step(trees, 48, world)
    found = {
        str(objective): gradients(model, batches, objective_loss(objective, EVERYTHING, totals), world)
        for objective in Objective
    }
    return found | {"value": gradients(values, batches, values_loss(totals), world)}
