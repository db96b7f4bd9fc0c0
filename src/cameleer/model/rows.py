"""The rows of a sampling session and the plan of one forward pass over them.

A row's tokens are a path of up to three runs: a beginning that all prompts share, a prompt that several rows share, and
what is its own. Each run is computed and kept once (`cameleer.model.kv_cache`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random

import torch
from torch import Tensor

from cameleer.model.cached_attention import CachedStep, Piece, Run, Write
from cameleer.model.kv_cache import Sequence as Kept
from cameleer.model.kv_cache import SlotCache, Store


class FinishReason(StrEnum):
    """Why a completion ended: at a stop id or stop text, at its token limit, aborted by its caller, or out of time."""

    STOP = "stop"
    LENGTH = "length"
    ABORTED = "aborted"
    DEADLINE = "deadline"


@dataclass(eq=False)
class Shared(Kept):
    """A run of tokens that several rows continue, computed once, in `store` while one of its `users` is unfinished.

    `last_hidden` (D,) is the hidden state of its last token.
    """

    store: Store | None = None
    ids: Sequence[int] = ()
    users: int = 0
    last_hidden: Tensor | None = None

    @property
    def is_complete(self) -> bool:
        return self.length == len(self.ids)

    def make_room(self) -> bool:
        assert self.store is not None
        return self.store.make_room(self, len(self.ids))

    def forget(self) -> None:
        assert self.store is not None
        self.store.remove(self)
        self.last_hidden = None


@dataclass(eq=False)
class Row(Kept):
    """A completion in the making. Its own run is `own`, what its prompt shares with no other, and then `ids`."""

    index: int = 0
    prompt: Sequence[int] = ()
    own: Sequence[int] = ()
    shared: tuple[Shared, ...] = ()
    draws: Random = field(default_factory=Random)
    ids: list[int] = field(default_factory=list[int])
    logprobs: list[float] = field(default_factory=list[float])
    finish_reason: FinishReason | None = None
    weight_version: int = 0

    @property
    def num_own(self) -> int:
        """The tokens of its own run, computed or not."""
        return len(self.own) + len(self.ids)

    @property
    def is_reached(self) -> bool:
        """Whether all runs before its own are computed."""
        return all(shared.is_complete for shared in self.shared)

    def pending(self, most: int) -> list[int]:
        """The next tokens of its own run that are not computed yet, at most so many."""
        place = self.length
        if place >= len(self.own):
            return self.ids[place - len(self.own) :][:most]
        return [*self.own[place : place + most], *self.ids[: max(0, most - (len(self.own) - place))]]


@dataclass
class Plan:
    """One forward pass in the making: its tokens and where their keys go, and whose next token it gives.

    Sequences do not move between slots from the first `add` until the pass is done.
    """

    ids: list[int] = field(default_factory=list[int])
    positions: list[int] = field(default_factory=list[int])
    placed: list[tuple[Kept, int]] = field(default_factory=list[tuple[Kept, int]])
    continued: list[Row] = field(default_factory=list[Row])
    pieces: list[Piece] = field(default_factory=list[Piece])
    sampled: list[tuple[Row, int]] = field(default_factory=list[tuple[Row, int]])
    completed: list[tuple[Shared, int]] = field(default_factory=list[tuple[Shared, int]])

    def add(self, sequence: Kept, tokens: Sequence[int]) -> None:
        """Compute the next tokens of a sequence."""
        for token in tokens:
            self.placed.append((sequence, sequence.length))
            self.positions.append(sequence.start + sequence.length)
            self.ids.append(token)
            sequence.length += 1

    def add_piece(self, path: tuple[Kept, ...], tokens: Sequence[int]) -> None:
        """Compute tokens of the last sequence of a path, over all before them."""
        first = len(self.ids)
        self.add(path[-1], tokens)
        self.pieces.append(Piece(first, len(self.ids), path))

    def step(self, device: torch.device) -> CachedStep:
        """What attention needs."""
        return CachedStep(self._writes(device), self._runs(device), self.pieces, len(self.continued))

    def _writes(self, device: torch.device) -> list[Write]:
        by_cache: dict[SlotCache, list[tuple[int, int, int]]] = {}
        for token, (sequence, place) in enumerate(self.placed):
            assert sequence.cache is not None
            by_cache.setdefault(sequence.cache, []).append((token, sequence.slot, place))
        return [
            Write(cache, *(torch.tensor(column, device=device) for column in zip(*rows, strict=True)))
            for cache, rows in by_cache.items()
        ]

    def _runs(self, device: torch.device) -> list[Run]:
        """The runs that the continued rows attend to; rows' own ones first, in which each sees a key at least."""
        own: dict[SlotCache, list[tuple[int, Kept]]] = {}
        shared: dict[SlotCache, list[tuple[int, Kept]]] = {}
        for place, row in enumerate(self.continued):
            assert row.cache is not None
            own.setdefault(row.cache, []).append((place, row))
            for run in row.shared:
                assert run.cache is not None
                shared.setdefault(run.cache, []).append((place, run))
        kinds = ((own, True), (shared, False))
        return [self._run(cache, users, is_own, device) for kind, is_own in kinds for cache, users in kind.items()]

    def _run(self, cache: SlotCache, users: Sequence[tuple[int, Kept]], is_own: bool, device: torch.device) -> Run:
        """The run of continued rows over slots of one cache; `users` as (place in the row, sequence)."""
        counts: dict[int, int] = {}
        ranks: list[int] = []
        for _, sequence in users:
            ranks.append(counts.get(sequence.slot, 0))
            counts[sequence.slot] = ranks[-1] + 1
        width, num_slots = max(counts.values()), max(counts) + 1
        queries = [sequence.slot * width + rank for (_, sequence), rank in zip(users, ranks, strict=True)]
        rows = [place for place, _ in users]
        consecutive = rows == list(range(rows[0], rows[0] + len(rows)))
        owners = cache.owners[:num_slots]
        return Run(
            cache,
            is_own,
            row_R=slice(rows[0], rows[-1] + 1) if consecutive else torch.tensor(rows, device=device),
            query_R=None if queries == list(range(num_slots)) else torch.tensor(queries, device=device),
            width=width,
            length_S=torch.tensor([owner.length for owner in owners], device=device),
            start_S=torch.tensor([owner.start for owner in owners], device=device),
            longest=max(owners[slot].length for slot in counts),
            position_R=torch.tensor([self.positions[place] for place in rows], device=device),
        )
