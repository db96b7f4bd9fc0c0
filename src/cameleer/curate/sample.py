"""Which rows of a source are taken, and where they stand in the mixture: by random keys, one per row.

A row's key is a hash of the seed, what the key is for, the source's name and the row's number. Sampling n rows without
replacement is taking the n smallest keys; shuffling is sorting by other keys. So the outcome depends neither on how
the rows are divided among readers nor on what else is in the mixture, and only the rows taken so far need be kept.
"""

from array import array
from collections import defaultdict
from collections.abc import Sequence
from fractions import Fraction
from hashlib import blake2b
from typing import Literal, NamedTuple

from cameleer.core.spool import Place


def random_key(seed: int, purpose: Literal["sample", "order"], source: str, row: int, copy: int = 0) -> int:
    """64 random bits that belong to this row for this purpose; the same on every machine."""
    text = f"{seed}\0{purpose}\0{row}\0{copy}\0{source}"
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def share_out(total: int, weights: Sequence[float]) -> list[int]:
    """Whole numbers that add up to `total`, in proportion to `weights`, by largest remainder; ties go to the earlier.

    A weight counts as the decimal that it is written as, so 0.1, 0.2 and 0.7 of 10 are exactly 1, 2 and 7.
    """
    exact = [Fraction(str(weight)) for weight in weights]
    quotas = [total * weight / sum(exact) for weight in exact]
    shares = [int(quota) for quota in quotas]
    by_remainder = sorted(range(len(shares)), key=lambda i: shares[i] - quotas[i])
    for i in by_remainder[: total - sum(shares)]:
        shares[i] += 1
    return shares


class Candidate(NamedTuple):
    """A usable row: its sampling key, number, digest of content, own id if it has one, and place in the spool."""

    key: int
    row: int
    digest: bytes
    own_id: str | None
    place: Place


class Sample:
    """The `limit` rows with the smallest keys of all rows offered; all of them without a limit."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._kept: list[Candidate] = []
        self._threshold: tuple[int, int] | None = None

    def admits(self, key: int, row: int) -> bool:
        """Whether the row can be among the smallest; what is not admitted need not be offered."""
        return self._threshold is None or (key, row) < self._threshold

    def offer(self, candidate: Candidate) -> None:
        self._kept.append(candidate)
        # Twice the limit between two cuts: the sorting costs little per row, the memory stays bounded.
        if self._limit is not None and len(self._kept) >= 2 * self._limit + 1024:
            self._kept = sorted(self._kept)[: self._limit]
            self._threshold = (self._kept[-1].key, self._kept[-1].row)

    def rows(self) -> list[Candidate]:
        """The rows taken, by key: any first n of them are a sample of n."""
        return sorted(self._kept)[: self._limit]


class Strata:
    """A sample of each stratum, of which proportional shares are taken."""

    def __init__(self, limit: int | None) -> None:
        # No stratum gives more than all give together.
        self._samples: defaultdict[str, Sample] = defaultdict(lambda: Sample(limit))
        self.counts: defaultdict[str, int] = defaultdict(int)

    def sample(self, stratum: str) -> Sample:
        """The stratum's sample, for one more row of it."""
        self.counts[stratum] += 1
        return self._samples[stratum]

    def rows(self, count: int) -> list[Candidate]:
        """`count` of all rows, shared out to the strata by their sizes, by key."""
        shares = self.shares(count)
        return sorted(row for name, share in shares.items() for row in self._samples[name].rows()[:share])

    def shares(self, count: int) -> dict[str, int]:
        """How many rows each stratum gives of `count`."""
        names = sorted(self.counts)
        return dict(zip(names, share_out(count, [self.counts[name] for name in names]), strict=True))


class Rows:
    """Rows taken of a source, by sampling key, in columns: a tenth of what as many candidates need."""

    def __init__(self, rows: Sequence[Candidate]) -> None:
        self.numbers = array("q", (row.row for row in rows))
        self.own_ids = [row.own_id for row in rows]
        self._offsets = array("q", (row.place.offset for row in rows))
        self._lengths = array("q", (row.place.length for row in rows))

    def __len__(self) -> int:
        return len(self.numbers)

    def place(self, index: int) -> Place:
        return Place(self._offsets[index], self._lengths[index])


def repeated(num_rows: int, count: int) -> list[tuple[int, int]]:
    """`count` rows as (number of the copy, row): all in turn, again from the first once each has had its turn."""
    return [(i // num_rows, i % num_rows) for i in range(count)]
