import random
from collections import Counter

import pytest

from cameleer.core.spool import Place
from cameleer.curate.sample import Candidate, Sample, random_key, repeated, share_out


def candidate(row: int, seed: int = 0) -> Candidate:
    return Candidate(random_key(seed, "sample", "s", row), row, b"", None, Place(0, 0))


@pytest.mark.parametrize(
    ("total", "weights", "shares"),
    [
        (10, [0.1, 0.2, 0.7], [1, 2, 7]),
        (10, [1, 1, 1], [4, 3, 3]),
        (11, [1, 1, 1], [4, 4, 3]),
        (3, [5, 3, 2], [1, 1, 1]),  # 1.5, 0.9, 0.6: the two left over go to 0.9 and 0.6
        (7, [1], [7]),
        (10, [1, 1e-9], [10, 0]),
        (939_344, [1, 2, 3, 4], [93_934, 187_869, 281_803, 375_738]),  # remainders .4, .8, .2, .6
    ],
)
def test_largest_remainder(total: int, weights: list[float], shares: list[int]) -> None:
    assert share_out(total, weights) == shares


def test_shares_always_add_up() -> None:
    generator = random.Random(0)
    for _ in range(500):
        weights = [generator.uniform(1e-3, 1e3) for _ in range(generator.randrange(1, 20))]
        total = generator.randrange(1, 10_000)
        shares = share_out(total, weights)
        assert sum(shares) == total
        assert all(
            abs(share - total * weight / sum(weights)) < 1 for share, weight in zip(shares, weights, strict=True)
        )


def test_keys_are_the_same_on_every_machine() -> None:
    """BLAKE2b, 8 bytes, of seed, purpose, row, copy and source, joined by NUL: computed once with `b2sum -l 64`."""
    assert random_key(7, "sample", "alpaca", 12) == 0xF3934153F98E3D4F
    assert (
        len(
            {
                random_key(s, p, n, r, c)
                for s in (0, 1)
                for p in ("sample", "order")
                for n in "ab"
                for r in (1, 2)
                for c in (0, 1)
            }
        )
        == 32
    )


@pytest.mark.parametrize("limit", [1, 10, 700, 5000])
def test_a_sample_is_the_smallest_keys_in_any_order_of_reading(limit: int) -> None:
    everything = [candidate(row) for row in range(4000)]
    expected = sorted(everything)[:limit]
    for order in (everything, everything[::-1], random.Random(1).sample(everything, 4000)):
        sample = Sample(limit)
        for each in order:
            if sample.admits(each.key, each.row):
                sample.offer(each)
        assert sample.rows() == expected


def test_a_sample_without_limit_keeps_everything() -> None:
    sample = Sample(None)
    for row in range(100):
        sample.offer(candidate(row))
    assert {each.row for each in sample.rows()} == set(range(100))


def test_every_row_is_as_likely_as_another() -> None:
    """10 of 40 rows under 2000 seeds: each row 500 times, with a standard deviation of 19.4; 5 of them are 97."""
    taken: Counter[int] = Counter()
    for seed in range(2000):
        taken.update(each.row for each in sorted(candidate(row, seed) for row in range(40))[:10])
    assert len(taken) == 40
    assert all(abs(times - 500) < 97 for times in taken.values())


def test_repeats_are_whole_passes_and_a_remainder() -> None:
    assert repeated(3, 2) == [(0, 0), (0, 1)]
    assert repeated(3, 3) == [(0, 0), (0, 1), (0, 2)]
    assert repeated(3, 7) == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0)]
