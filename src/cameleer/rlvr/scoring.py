"""From rollouts to segment trees, and what a model says of each of their tokens.

    the answers to a prompt  ->  trees (prompt, answer, answer, …), as many answers to a tree as the budget holds

A prompt is computed once for all answers of its tree. Answers weigh 1, prompts 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from cameleer.model.policy import SegmentModel
from cameleer.rlvr.advantages import Floats
from cameleer.rlvr.rollouts import Rollout
from cameleer.train.accumulate import split_step
from cameleer.train.distributed import World
from cameleer.train.layout import Segment, Tree, collate


@dataclass(frozen=True)
class Answer:
    """A rollout with what a loss reads of its tokens: (L,) by column."""

    rollout: Rollout
    columns: dict[str, Floats] = field(default_factory=dict[str, Floats])


def trees_of(answers: Sequence[Answer], tokens_per_batch: int) -> tuple[list[Tree], list[list[int]]]:
    """Trees of answers, and the indices into `answers` of each tree's. Answers of one place stand together."""
    members: list[list[int]] = []
    room, place = 0, -1
    for index, answer in enumerate(answers):
        rollout = answer.rollout
        if rollout.place != place or len(rollout.ids) > room:
            members.append([])
            room, place = tokens_per_batch - len(rollout.prompt_ids), rollout.place
        members[-1].append(index)
        room -= len(rollout.ids)
    return [_tree([answers[index] for index in each]) for each in members], members


def _tree(answers: Sequence[Answer]) -> Tree:
    prompt = np.asarray(answers[0].rollout.prompt_ids, np.int32)
    root = Segment(prompt, np.zeros(len(prompt), np.float32))
    return (root, *map(_segment, answers))


def _segment(answer: Answer) -> Segment:
    ids = np.asarray(answer.rollout.ids, np.int32)
    return Segment(ids, np.ones(len(ids), np.float32), 0, answer.columns)


@torch.no_grad()
def score(model: SegmentModel, rollouts: Sequence[Rollout], tokens_per_batch: int, world: World) -> list[Floats]:
    """What `model` gives for each token of each answer, (L,) an answer: log-probabilities, or values. On every rank."""
    trees, members = trees_of([Answer(rollout) for rollout in rollouts], tokens_per_batch)
    number_of = {id(tree): number for number, tree in enumerate(trees)}
    training = model.training
    model.eval()
    found: dict[int, Floats] = {}
    for batch in split_step(trees, tokens_per_batch, world) if trees else ():
        output: Tensor = model(collate(batch, 128 if world.device.type == "cuda" else 1).to(world.device))
        # Of log-probabilities and entropies the former.
        given = (output if output.ndim == 1 else output[0]).double().cpu().numpy()
        taken = 0
        for tree in batch:
            # A rank without a tree of its own computes a copy of another's, which has no targets.
            for index in members[number_of[id(tree)]] if id(tree) in number_of else ():
                length = len(rollouts[index].ids)
                found[index] = given[taken : taken + length]
                taken += length
    model.train(training)
    merged = {index: values for part in world.gather(found) for index, values in part.items()}
    return [merged[index] for index in range(len(rollouts))]
