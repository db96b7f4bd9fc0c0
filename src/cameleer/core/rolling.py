"""Hashes of all n-grams of many texts at once, from one running sum over their bytes.

With b_i the i-th byte, v random numbers and c an odd number, the hash of the bytes from j up to k is c^-j (s_k - s_j),
where s_k is the sum of v(b_i) c^i over i < k, all modulo 2^64. So an n-gram has the same hash wherever it stands. The
hashes of two that differ are equal with a probability of about 2^-64: whoever needs certainty looks at the tokens.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from cameleer.core.words import END

BLOCK_CHARACTERS = 1 << 18
"""A good size of a block: it stays in the processor's cache."""
BASE = 0x9E3779B97F4A7C15
INVERSE = pow(BASE, -1, 1 << 64)

Ints = NDArray[np.int64]
Hashes = NDArray[np.uint64]

_VALUES = np.random.default_rng(0).integers(1 << 64, size=256, dtype=np.uint64)


def _powers(base: int, count: int) -> Hashes:
    """The powers of a number modulo 2^64, from the 0th on."""
    return _power_table(base, max(count, 2 * BLOCK_CHARACTERS).bit_length())[:count]


@lru_cache(maxsize=4)
def _power_table(base: int, bits: int) -> Hashes:
    factors = np.full(1 << bits, base, np.uint64)
    factors[0] = 1
    return np.cumprod(factors)


class Block:
    """The tokens of some texts, at least one, each closed by the token END (`words.closed`).

    In the sum one space stands between two tokens.
    """

    def __init__(self, closed_texts: bytes) -> None:
        joined = np.frombuffer(closed_texts, np.uint8)
        is_token = joined != ord(" ")
        # One space after each token, which the last does not need.
        kept = joined[is_token | np.append(False, is_token[:-1])][:-1]
        spaces = np.flatnonzero(kept == ord(" "))
        self._starts, self._ends = np.append(0, spaces + 1), np.append(spaces, len(kept))
        self._sums = np.zeros(len(kept) + 1, np.uint64)
        np.cumsum(_VALUES.take(kept) * _powers(BASE, len(kept)), out=self._sums[1:])
        self._closes = np.flatnonzero(kept[self._starts] == ord(END))

    @property
    def closes(self) -> Ints:
        """Where the ENDs stand, one for each text."""
        return self._closes

    @property
    def num_tokens(self) -> int:
        return len(self._starts)

    def texts(self, places: Ints) -> Ints:
        """The numbers of the texts that some tokens are of."""
        return np.searchsorted(self._closes, places)

    def hashes(self, size: int) -> Hashes:
        """The hash of each run of `size` tokens, by its first."""
        count = max(self.num_tokens - size + 1, 0)
        return self._between(self._starts[:count], self._ends[size - 1 :])

    def hashes_at(self, places: Ints, sizes: Ints) -> Hashes:
        """The hashes of the runs that begin at some tokens."""
        return self._between(self._starts[places], self._ends[places + sizes - 1])

    def hashes_of_texts(self) -> Hashes:
        """The hash of each text, of which none may be empty."""
        first = np.append(0, self._closes[:-1] + 1)
        return self.hashes_at(first, self._closes - first)

    def _between(self, starts: Ints, ends: Ints) -> Hashes:
        sums, scales = self._sums, _powers(INVERSE, len(self._sums))
        return (sums.take(ends) - sums.take(starts)) * scales.take(starts)


def grouped(texts: Iterable[bytes], size: int) -> Iterator[list[bytes]]:
    """Runs of texts of about a size together."""
    group: list[bytes] = []
    length = 0
    for text in texts:
        group.append(text)
        length += len(text)
        if length >= size:
            yield group
            group, length = [], 0
    if group:
        yield group
