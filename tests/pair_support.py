"""What the tests of preference tuning share: random pairs with reference columns, and a step's gradients over them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from support import ALONE, VOCABULARY, Gradients, WholeDouble, tiny_policy, whole_gradients

from cameleer.core.pairs import PAIRS, PreferencePair
from cameleer.core.stage import StageRun
from cameleer.core.types import Message
from cameleer.dpo.config import DPOConfig, Objective, Smoothing
from cameleer.dpo.train import loss_function, mismatch_kl
from cameleer.model.load import save_model
from cameleer.model.policy import Policy
from cameleer.model.tiny import TinyKind, tiny_model, tiny_tokenizer
from cameleer.train.accumulate import accumulate, split_step
from cameleer.train.distributed import World, current_world, shard
from cameleer.train.layout import Segment, Tree
from cameleer.train.reference import REFERENCE

CONFIGS = {
    **{objective.value: DPOConfig(objective=objective) for objective in Objective},
    "conservative": DPOConfig(label_smoothing=0.1),
    "robust": DPOConfig(label_smoothing=0.1, smoothing=Smoothing.ROBUST, objective=Objective.DPO),
    "with_sft": DPOConfig(sft_coefficient=0.3),
}
"""Every objective and variant."""


def random_pairs(seed: int, count: int = 6, dtype: type = np.float64) -> list[Tree]:
    """Pairs of uneven lengths; the reference's log-probabilities are random numbers, mostly below the tiny models'."""
    random = np.random.default_rng(seed)

    def ids(low: int, high: int) -> Any:
        return random.integers(0, VOCABULARY, int(random.integers(low, high))).astype(np.int32)

    def answer() -> Segment:
        tokens = ids(1, 12)
        column = random.normal(-4.9, 0.5, len(tokens)).astype(dtype)
        return Segment(tokens, np.ones(len(tokens), np.float32), 0, {REFERENCE: column})

    trees: list[Tree] = []
    for _ in range(count):
        prompt = ids(2, 15)
        trees.append((Segment(prompt, np.zeros(len(prompt), np.float32)), answer(), answer()))
    return trees


def with_own_reference(trees: Sequence[Tree], policy: Policy) -> list[Tree]:
    """The trees with the policy's own log-probabilities as the reference's, each tree computed alone."""
    from cameleer.train.layout import collate

    done: list[Tree] = []
    for tree in trees:
        batch = collate([tree])
        with torch.no_grad():
            values = policy(batch).numpy()
        segments = [tree[0]]
        for segment in tree[1:]:
            segments.append(replace(segment, columns={REFERENCE: values[: len(segment.ids)]}))
            values = values[len(segment.ids) :]
        done.append(tuple(segments))
    return done


def pair_gradients(
    policy: Policy, config: DPOConfig, batches: Sequence[Sequence[Tree]], world: World = ALONE, kl: float = 0.0
) -> tuple[float, dict[str, float], Gradients]:
    """Loss, sums and gradients of a step that is split into these micro-batches."""
    policy.zero_grad(set_to_none=True)
    trees = [tree for batch in batches for tree in batch]
    with WholeDouble():
        loss, sums = accumulate(policy, batches, loss_function(config, trees, kl), world)
    return loss, sums, whole_gradients(policy)


def pair_gradients_on_ranks(
    kind: TinyKind, dtype: torch.dtype, names: Sequence[str], trees: Sequence[Tree], budget: int
) -> dict[str, tuple[float, dict[str, float], Gradients]]:
    """What one rank of a launch does with a step, for each of the named objectives; KTO's pass is over the trees."""
    world = current_world()
    policy = tiny_policy(kind, dtype)
    shard(policy, world, torch.float32)
    return {name: _step(policy, CONFIGS[name], trees, budget, world) for name in names}


def _step(
    policy: Policy, config: DPOConfig, trees: Sequence[Tree], budget: int, world: World
) -> tuple[float, dict[str, float], Gradients]:
    policy.zero_grad(set_to_none=True)
    with WholeDouble():
        kl = mismatch_kl(policy, trees, budget, world) if config.objective is Objective.KTO else 0.0
        batches = split_step(trees, budget, world)
        loss, sums = accumulate(policy, batches, loss_function(config, trees, kl), world)
    return loss, sums, {name: gradient.clone() for name, gradient in whole_gradients(policy).items()}


def pair_gradients_alone(
    kind: TinyKind, dtype: torch.dtype, names: Sequence[str], trees: Sequence[Tree]
) -> dict[str, tuple[float, dict[str, float], Gradients]]:
    """The same on one rank, in one batch."""
    policy = tiny_policy(kind, dtype)
    return {name: _step(policy, CONFIGS[name], trees, 1 << 20, ALONE) for name in names}


def preference_pairs(count: int, seed: int = 0) -> list[PreferencePair]:
    """Short sums, of which the right one is preferred."""
    random = np.random.default_rng(seed)
    rows: list[PreferencePair] = []
    for number in range(count):
        numbers = random.integers(0, 100, int(random.integers(2, 9))).tolist()
        prompt = (Message("user", "Add " + ", ".join(map(str, numbers)) + "."),)
        wrong = "No idea, " * int(random.integers(1, 4)) + "sorry."
        rows.append(PreferencePair(str(number), "sums", prompt, f"It is {sum(numbers)}.", wrong))
    return rows


def write_pair_inputs(folder: Path, num_pairs: int = 20, kind: TinyKind = "llama") -> dict[str, Path]:
    """A tiny model and pairs on disk, as the inputs of the stage; the model is its own reference."""
    save_model(tiny_model(kind), tiny_tokenizer(), folder / "sft")
    (folder / "pairs").mkdir()
    PAIRS.write(folder / "pairs", preference_pairs(num_pairs))
    return {"model": folder / "sft", "reference": folder / "sft", "pairs": folder / "pairs"}


def dpo_stage(folder: Path, inputs: dict[str, Path], seed: int = 3) -> StageRun:
    folder.mkdir(parents=True, exist_ok=True)
    return StageRun("dpo", folder, inputs, "model", seed)
