"""Near-duplicates by MinHash (Broder 1997) with banding (Leskovec et al., Mining of Massive Datasets, ch. 3).

    shingles(x)  the set of runs of 5 words of the conversation x, or the one run of all its words if they are fewer
    J(x, y)      = |shingles(x) ∩ shingles(y)| / |shingles(x) ∪ shingles(y)|
    x is a near-duplicate of y  iff  J(x, y) >= threshold

Keep rule: rows are looked at in order of source and row, and a row is dropped if it is a near-duplicate of one that is
kept. So the first stays, no dropped row drops another, and every dropped row names a kept one that it resembles.

Words are `words`; all turns count, and the border of two turns is a word of its own. A shingle is known by 32 bits of
its hash, so J has an error of the order of 1e-7.

Which pairs are looked at: a row has k = 128 minima h_i = min over its shingles s of a_i s mod 2^32, a_i odd and random,
and P(h_i(x) = h_i(y)) = J. They are cut into b = k // r bands of r, and pairs that agree in all minima of some band are
looked at; for them J is computed from the shingles. The largest r is taken for which a pair at the threshold is missed
with a probability (1 - threshold^r)^b of at most 0.3%; at 0.8 that is r = 6, b = 21, 0.17%.

Memory holds some 8 b + 300 bytes a row; the shingles wait on disk (`spool`).
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cameleer.core.rolling import BLOCK_CHARACTERS, Block, Hashes, Ints
from cameleer.core.spool import Place, Spool
from cameleer.core.types import Conversation
from cameleer.core.words import closed

SHINGLE_WORDS = 5
NUM_MINIMA = 128
MAX_MISSED = 0.003
"""The probability with which a pair at the threshold may be missed."""

Shingles = NDArray[np.uint32]
"""Distinct and in order."""

_FACTORS = np.random.default_rng(0).integers(1 << 32, size=(NUM_MINIMA, 1), dtype=np.uint32) | np.uint32(1)
_MIX = (np.uint32(0x85EBCA6B), np.uint32(0xC2B2AE35))
_BAND_BASE = np.uint64(0x9E3779B97F4A7C15)


class Duplicate(NamedTuple):
    """What a dropped row resembles: the source and number of the kept row, and J."""

    source: str
    row: int
    similarity: float


class _Rows(NamedTuple):
    """Rows in order: the source and number of each, its bands (in matrices of some rows each), its shingles' place."""

    names: list[tuple[str, int]]
    bands: list[Hashes]
    places: list[Place]


class NearDuplicates:
    """Rows of one source after another: `add` them all, ask for the `duplicates`, say which were `taken`."""

    def __init__(self, threshold: float, folder: Path) -> None:
        self.threshold = threshold
        self._rows_per_band = rows_per_band(threshold)
        self._spool = Spool(folder)
        self._kept, self._read = _Rows([], [], []), _Rows([], [], [])
        self._waiting: list[Conversation] = []
        self._num_characters = 0

    def close(self) -> None:
        self._spool.close()

    def add(self, source: str, number: int, conversation: Conversation) -> None:
        """Take note of the next row of a source."""
        self._read.names.append((source, number))
        self._waiting.append(conversation)
        self._num_characters += sum(len(message.content) for message in conversation)
        if self._num_characters >= BLOCK_CHARACTERS:
            self._hash_waiting()

    def _hash_waiting(self) -> None:
        if self._waiting:
            shingles = list(_shingles(self._waiting))
            self._read.bands.append(np.stack([_bands(some, self._rows_per_band) for some in shingles]))
            self._read.places.extend(self._spool.append(some.tobytes()) for some in shingles)
        self._waiting, self._num_characters = [], 0

    def duplicates(self, excluded: Collection[int] = ()) -> dict[int, Duplicate]:
        """By number the rows of the source that resemble an earlier one or one taken before.

        Rows that are `excluded` count for nothing: neither do they drop others nor are they looked at.
        """
        self._hash_waiting()
        earlier = len(self._kept.names)
        names = self._kept.names + self._read.names
        places = self._kept.places + self._read.places
        alive = [row for row, (_, number) in enumerate(names) if row < earlier or number not in excluded]
        members: defaultdict[int, list[int]] = defaultdict(list)
        found: dict[int, Duplicate] = {}
        for row, groups in _groups(self._kept.bands + self._read.bands, np.array(alive, np.int64)):
            candidates = sorted({other for group in groups for other in members[group]}) if row >= earlier else []
            match = self._first_alike(row, candidates, places)
            if match is None:
                for group in groups:
                    members[group].append(row)
            else:
                found[names[row][1]] = Duplicate(*names[match[0]], match[1])
        return found

    def taken(self, numbers: Collection[int]) -> None:
        """End the source: of its rows only these stay, for later sources to be compared with."""
        stay = [row for row, (_, number) in enumerate(self._read.names) if number in numbers]
        if stay:
            self._kept.names.extend(self._read.names[row] for row in stay)
            self._kept.bands.append(np.concatenate(self._read.bands)[stay])
            self._kept.places.extend(self._read.places[row] for row in stay)
        self._read = _Rows([], [], [])

    def _first_alike(self, row: int, candidates: Sequence[int], places: Sequence[Place]) -> tuple[int, float] | None:
        """The first of the candidates that a row is a near-duplicate of, and their similarity."""
        if not candidates:
            return None
        mine = self._stored(places[row])
        similar = ((other, jaccard(mine, self._stored(places[other]))) for other in candidates)
        return next(((other, value) for other, value in similar if value >= self.threshold), None)

    def _stored(self, place: Place) -> Shingles:
        return np.frombuffer(self._spool.read(place), np.uint32)


def rows_per_band(threshold: float) -> int:
    """The most minima in a band with which a pair at the threshold is seldom missed."""
    fitting = (r for r in range(NUM_MINIMA, 1, -1) if (1 - threshold**r) ** (NUM_MINIMA // r) <= MAX_MISSED)
    return next(fitting, 1)


def jaccard(first: Shingles, second: Shingles) -> float:
    """The Jaccard similarity of two sets."""
    shared = len(np.intersect1d(first, second, assume_unique=True))
    return shared / (len(first) + len(second) - shared)


def _shingles(conversations: Sequence[Conversation]) -> Iterator[Shingles]:
    """The shingles of each conversation."""
    block = Block(closed([message.content for conversation in conversations for message in conversation]))
    last_turns = np.cumsum([len(conversation) for conversation in conversations]) - 1
    # The END of its last turn is not of a conversation.
    ends = block.closes[last_turns]
    starts = np.append(0, ends[:-1] + 1)
    hashes = _mixed(block.hashes(SHINGLE_WORDS))
    whole = _mixed(block.hashes_at(starts, np.maximum(ends - starts, 1)))
    for start, end, all_of_it in zip(starts.tolist(), ends.tolist(), whole, strict=True):
        several = hashes[start : end - SHINGLE_WORDS + 1] if end - start >= SHINGLE_WORDS else all_of_it[None]
        yield np.unique(several)


def _mixed(hashes: Hashes) -> Shingles:
    """32 bits of each hash, every one of which depends on all of the hash's upper ones (MurmurHash3's finalizer)."""
    mixed = (hashes >> np.uint64(32)).astype(np.uint32)
    for shift, factor in zip((16, 13), _MIX, strict=True):
        mixed ^= mixed >> np.uint32(shift)
        mixed *= factor
    return mixed ^ mixed >> np.uint32(16)


def _bands(shingles: Shingles, rows_per_band: int) -> Hashes:
    """One number for each band of the minima."""
    minima = (_FACTORS * shingles).min(axis=1).astype(np.uint64)
    count = NUM_MINIMA // rows_per_band
    banded = minima[: count * rows_per_band].reshape(count, rows_per_band)
    numbers = np.zeros(count, np.uint64)
    for offset in range(rows_per_band):
        numbers = numbers * _BAND_BASE + banded[:, offset] + np.uint64(1)
    return numbers


def _groups(bands: Sequence[Hashes], rows: Ints) -> Iterator[tuple[int, list[int]]]:
    """Those of the rows that agree with another one in some band, in order, each with the numbers of its groups."""
    if not len(rows):
        return
    members: list[Ints] = []
    numbers: list[Ints] = []
    first = 0
    for values in np.concatenate(bands)[rows].T:
        _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
        shared = np.flatnonzero(sizes[group] > 1)
        members.append(rows[shared])
        numbers.append(group[shared] + first)
        first += len(sizes)
    row_of, group_of = np.concatenate(members), np.concatenate(numbers)
    order = np.argsort(row_of, kind="stable")
    starts = np.flatnonzero(np.diff(row_of[order], prepend=-1))
    for some in np.split(order, starts[1:]) if len(order) else ():
        yield int(row_of[some[0]]), group_of[some].tolist()
