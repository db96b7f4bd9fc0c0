"""One optimizer step's gradient from any number of micro-batches on any number of ranks.

    gradient = d/dw  sum over all micro-batches and ranks of loss(batch)

The loss of a batch must already be divided by the *global* count of the step (of tokens or sequences), never by the
batch's own: then the split into micro-batches and ranks cannot matter.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from cameleer.model.policy import SegmentModel
from cameleer.train.distributed import World
from cameleer.train.layout import Batch, Tree, collate, pack, tree_size

Sums = dict[str, Tensor]
"""Scalars by name that add up over batches: a count, a sum that the caller divides by one."""
LossFunction = Callable[[Tensor, Batch], tuple[Tensor, Sums]]
"""From what the model gives for a batch (log-probabilities (N,)) to this batch's share of the step's loss and sums."""


def split_step(trees: Sequence[Tree], tokens_per_batch: int, world: World) -> list[list[Tree]]:
    """This rank's micro-batches of a step: equally many on each rank, even in tokens, every tree on exactly one.

    Where there are fewer trees than ranks, a rank without any gets a copy with all weights 0, since each rank must take
    part in every collective operation.
    """
    sizes = [tree_size(tree) for tree in trees]
    bins = sorted(
        pack(sizes, tokens_per_batch, multiple_of=world.size), key=lambda items: -sum(sizes[i] for i in items)
    )
    mine = bins[world.rank :: world.size]
    return [[trees[item] for item in items] or [_untrained(trees[0])] for items in mine]


def _untrained(tree: Tree) -> Tree:
    return tuple(replace(segment, weights=torch.zeros(len(segment.ids)).numpy()) for segment in tree)


def accumulate(
    model: SegmentModel, batches: Iterable[Sequence[Tree]], loss_of: LossFunction, world: World
) -> tuple[float, dict[str, float]]:
    """Add the step's gradient to the parameters' `.grad`; the step's loss and sums over micro-batches and ranks.

    Every batch of a step must give the same names.
    """
    total = 0.0
    sums: dict[str, float] = {}
    for trees in batches:
        batch = collate(trees, pad_multiple=128 if world.device.type == "cuda" else 1).to(world.device)
        loss, found = loss_of(model(batch), batch)
        # FSDP averages gradients over ranks; the sum is meant.
        (loss * world.size).backward()
        total += loss.item()
        for name, value in found.items():
            sums[name] = sums.get(name, 0.0) + float(value)
    total, *values = world.sum([total, *sums.values()])
    return total, dict(zip(sums, values, strict=True))
