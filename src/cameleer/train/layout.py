"""The one token layout: trees of segments packed into batches by token budget.

    rows -> trees of segments -> plan (which trees share a batch) -> batches for `cameleer.model.Policy`

A tree's segments must share a batch because children attend to their parent; the parent is computed once for all of its
children. Every token of a tree may carry a loss weight; a token of weight 0 is context and its logits are never
computed. Nothing is dropped, and nothing is padded unless a kernel asks for it.
"""

import heapq
from bisect import bisect_left, insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cameleer.model.segments import Segments


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of tokens: `ids` (L,) int, `weights` (L,) float: the weight of each token *as a target*.

    `parent` is the index, within the tree, of the segment that this one continues; -1 for a root. `columns` holds what
    else a loss needs of each token, (L,) float by name: a reference's log-probability, an advantage.
    """

    ids: NDArray[np.int32]
    weights: NDArray[np.float32]
    parent: int = -1
    columns: Mapping[str, NDArray[np.floating[Any]]] = field(default_factory=dict[str, Any])


Tree = tuple[Segment, ...]


def tree_size(tree: Tree) -> int:
    """Number of tokens computed for the tree: each segment once."""
    return sum(len(segment.ids) for segment in tree)


@dataclass(frozen=True)
class Batch:
    """One row of T tokens in S segments with N targets.

    `source_N[n]` is the token whose hidden state predicts `target_N[n]`: the one before it on its path, so a prompt's
    last token predicts the first token of each of its children. `segment_N` and `tree_N` say where a target belongs,
    for reductions per sequence. `columns` holds the segments' columns at the targets, each (N,); a segment without one
    that others have has zeros there.
    """

    ids_T: Tensor
    positions_T: Tensor
    segments: Segments
    source_N: Tensor
    target_N: Tensor
    weight_N: Tensor
    segment_N: Tensor
    tree_N: Tensor
    columns: Mapping[str, Tensor]

    @property
    def num_tokens(self) -> int:
        return len(self.ids_T)

    def to(self, device: torch.device) -> "Batch":
        """The batch with its tensors on a device."""
        moved = {
            name: value.to(device, non_blocking=True) for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        columns = {name: value.to(device, non_blocking=True) for name, value in self.columns.items()}
        return Batch(segments=self.segments, columns=columns, **moved)

    def sums_per_segment(self, value_N: Tensor) -> Tensor:
        """(S,) sums of a value over the targets of each segment."""
        return value_N.new_zeros(len(self.segments.lengths)).index_add(0, self.segment_N, value_N)


def collate(trees: Sequence[Tree], pad_multiple: int = 1, pad_id: int = 0) -> Batch:
    """The batch of some trees, in their order.

    `pad_multiple` > 1 appends a segment of its own of `pad_id` tokens, seen by nobody and without targets, for kernels
    that want few distinct row lengths.
    """
    owners = [index for index, tree in enumerate(trees) for _ in tree]
    flat = [segment for tree in trees for segment in tree]
    bases = np.cumsum([0] + [len(tree) for tree in trees])
    parents = [
        int(bases[owner]) + each.parent if each.parent >= 0 else -1 for owner, each in zip(owners, flat, strict=True)
    ]
    missing = -sum(len(each.ids) for each in flat) % pad_multiple
    if missing:
        flat.append(Segment(np.full(missing, pad_id, np.int32), np.zeros(missing, np.float32)))
        parents.append(-1)
        owners.append(-1)
    segments = Segments(tuple(len(each.ids) for each in flat), tuple(parents))
    return _assemble(flat, segments, np.asarray(owners))


def _assemble(flat: list[Segment], segments: Segments, owners: NDArray[np.int_]) -> Batch:
    ids = np.concatenate([each.ids for each in flat]).astype(np.int64)
    weights = np.concatenate([each.weights for each in flat])
    segment_of = np.repeat(np.arange(len(flat)), segments.lengths)
    # The token before each token on its path: its neighbour, or for a segment's first token the parent's last.
    before = np.arange(len(ids)) - 1
    for start, parent in zip(segments.starts, segments.parents, strict=True):
        before[start] = segments.starts[parent] + segments.lengths[parent] - 1 if parent >= 0 else -1
    (trained,) = np.nonzero(weights)
    names = sorted({name for each in flat for name in each.columns})
    assert (before[trained] >= 0).all(), "the first token of a root segment has nothing before it that could predict it"
    return Batch(
        ids_T=torch.from_numpy(ids),
        positions_T=segments.positions(),
        segments=segments,
        source_N=torch.from_numpy(before[trained]),
        target_N=torch.from_numpy(ids[trained]),
        weight_N=torch.from_numpy(weights[trained]),
        segment_N=torch.from_numpy(segment_of[trained]),
        tree_N=torch.from_numpy(owners[segment_of[trained]]),
        columns={name: _column(flat, name)[trained] for name in names},
    )


def _column(flat: list[Segment], name: str) -> Tensor:
    """(T,) values of a column."""
    return torch.from_numpy(np.concatenate([each.columns.get(name, np.zeros(len(each.ids))) for each in flat]))


def pack(sizes: Sequence[int], budget: int, multiple_of: int = 1) -> list[list[int]]:
    """Distribute items over as few bins of at most `budget` tokens as best-fit decreasing finds, evenly filled.

    The number of bins is rounded up to `multiple_of` (the ranks), and tokens are balanced over the bins, since the
    fullest bin sets the pace. Returns the items of each bin; bins may be empty when there are fewer items than bins.
    Every item is in exactly one bin; one above the budget has a bin for itself.
    """
    order = sorted(range(len(sizes)), key=lambda item: -sizes[item])
    tight = _best_fit(order, sizes, budget)
    count = -(-len(tight) // multiple_of) * multiple_of
    even = _least_loaded(order, sizes, count)
    if all(sum(sizes[i] for i in items) <= budget or len(items) == 1 for items in even):
        return even
    return tight + [[] for _ in range(count - len(tight))]


def _best_fit(order: Sequence[int], sizes: Sequence[int], budget: int) -> list[list[int]]:
    """Best-fit decreasing: each item goes where it leaves the least room. O(n log n) for a bounded budget."""
    bins: list[list[int]] = []
    with_room: dict[int, list[int]] = {}
    rooms: list[int] = []
    for item in order:
        if sizes[item] > budget:
            bins.append([item])
            continue
        place = bisect_left(rooms, sizes[item])
        if place == len(rooms):
            bins.append([])
            room, chosen = budget, len(bins) - 1
        else:
            room = rooms[place]
            chosen = with_room[room].pop()
            if not with_room[room]:
                del with_room[room], rooms[place]
        bins[chosen].append(item)
        left = room - sizes[item]
        if left not in with_room:
            with_room[left] = []
            insort(rooms, left)
        with_room[left].append(chosen)
    return bins


def _least_loaded(order: Sequence[int], sizes: Sequence[int], count: int) -> list[list[int]]:
    """Longest first, each to the bin with the fewest tokens so far; ties go to the bin with the lowest number."""
    heap = [(0, number) for number in range(count)]
    bins: list[list[int]] = [[] for _ in range(count)]
    for item in order:
        load, number = heap[0]
        bins[number].append(item)
        heapq.heapreplace(heap, (load + sizes[item], number))
    return bins


def fill(bins: Sequence[Sequence[int]], sizes: Sequence[int]) -> float:
    """Share of the computed rows that is tokens, if every row were as long as the fullest."""
    loads = [sum(sizes[item] for item in items) for items in bins]
    return sum(loads) / (len(loads) * max(loads)) if loads else 1.0


@lru_cache(maxsize=2)
def shuffled(num_rows: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order of rows in an epoch: a function of its arguments alone, so a resumed run needs no stored state."""
    return np.random.default_rng([seed, epoch]).permutation(num_rows)


@dataclass(frozen=True)
class StepPlan:
    """Which rows each optimizer step takes: `batch_size` sequences a step, the last of an epoch takes what is left."""

    num_rows: int
    batch_size: int
    num_epochs: int
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.num_rows // self.batch_size)

    @property
    def num_steps(self) -> int:
        return self.steps_per_epoch * self.num_epochs

    def rows(self, step: int) -> NDArray[np.int64]:
        """The rows of a step, counted from 0."""
        epoch, place = divmod(step, self.steps_per_epoch)
        start = place * self.batch_size
        return shuffled(self.num_rows, self.seed, epoch)[start : start + self.batch_size]
