"""The segment table of a batch, and what may attend to what.

A batch is one row of T tokens, cut into S segments. Each segment may continue a parent segment. A token sees the
tokens of its own segment up to itself and all those of its segment's ancestors; positions count along the path:

    visible(q, k) = segment(k) is segment(q) or an ancestor of it, and position(k) <= position(q)

(on a path positions strictly increase, so the second condition is causality within the own segment and always holds
for ancestors). A preference pair is a prompt with two children; an RL group a prompt with G; a plain row has no parent.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Segments:
    """Consecutive runs of a row's tokens: `lengths[s]` tokens each, `parents[s]` an earlier or later segment, or -1."""

    lengths: tuple[int, ...]
    parents: tuple[int, ...]

    def __post_init__(self) -> None:
        assert len(self.lengths) == len(self.parents) and min(self.lengths, default=1) > 0, (self.lengths, self.parents)
        assert all(-1 <= parent < len(self.lengths) for parent in self.parents), self.parents

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """The index of each segment's first token in the row."""
        starts, total = [], 0
        for length in self.lengths:
            starts.append(total)
            total += length
        return tuple(starts)

    @property
    def num_tokens(self) -> int:
        return sum(self.lengths)

    @cached_property
    def paths(self) -> tuple[tuple[int, ...], ...]:
        """For each segment its ancestors from the root down, then itself."""
        return tuple(self._path(segment) for segment in range(len(self.lengths)))

    def _path(self, segment: int) -> tuple[int, ...]:
        path = [segment]
        while self.parents[path[-1]] >= 0:
            path.append(self.parents[path[-1]])
            assert len(path) <= len(self.lengths), f"segment {segment} is its own ancestor: {self.parents}"
        return tuple(reversed(path))

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """The position of each segment's first token: the number of tokens of its ancestors."""
        return tuple(sum(self.lengths[ancestor] for ancestor in path[:-1]) for path in self.paths)

    def positions(self) -> Tensor:
        """Position of each token along its path, (T,) int64."""
        return torch.cat([torch.arange(start, start + n) for start, n in zip(self.offsets, self.lengths, strict=True)])

    def segment_of_token(self) -> Tensor:
        """The segment that each token belongs to, (T,) int64."""
        return torch.repeat_interleave(torch.arange(len(self.lengths)), torch.tensor(self.lengths))

    def ancestry(self) -> Tensor:
        """(S, S) bool: whether segment k is segment q or one of its ancestors, indexed [q, k]."""
        related = torch.zeros(len(self.lengths), len(self.lengths), dtype=torch.bool)
        for segment, path in enumerate(self.paths):
            related[segment, list(path)] = True
        return related

    def visible(self) -> Tensor:
        """(T, T) bool: the definition of this module's head, for checks; nothing on a main path builds it."""
        segment, position = self.segment_of_token(), self.positions()
        return self.ancestry()[segment][:, segment] & (position[:, None] >= position[None, :])

    @cached_property
    def window_masks(self) -> dict[tuple[int, int, int | None], Tensor]:
        """Memory for the masks that `attention` builds, so that the layers of a model share them."""
        return {}
