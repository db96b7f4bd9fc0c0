"""Packing and collation: every token where it belongs, exactly once."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cameleer.train.layout import Segment, StepPlan, Tree, collate, fill, pack, tree_size


def segment(ids: list[int], weights: list[float], parent: int = -1) -> Segment:
    return Segment(np.array(ids, np.int32), np.array(weights, np.float32), parent)


PAIR: Tree = (segment([10, 11, 12], [0, 0, 0]), segment([20, 21], [1, 1], 0), segment([30, 31, 32], [1, 0, 0.5], 0))
ROW: Tree = (segment([40, 41, 42], [0, 1, 1]),)


def test_collate_by_hand() -> None:
    """Tokens 10 11 12 | 20 21 | 30 31 32 | 40 41 42 at row indexes 0 .. 10.

    Both answers continue token 12 (index 2), so it predicts 20 and 30; 31 has weight 0 and is no target; 32 is
    predicted by 31 (index 6).
    """
    batch = collate([PAIR, ROW])
    assert batch.ids_T.tolist() == [10, 11, 12, 20, 21, 30, 31, 32, 40, 41, 42]
    assert batch.positions_T.tolist() == [0, 1, 2, 3, 4, 3, 4, 5, 0, 1, 2]
    assert batch.source_N.tolist() == [2, 3, 2, 6, 8, 9]
    assert batch.target_N.tolist() == [20, 21, 30, 32, 41, 42]
    assert batch.weight_N.tolist() == [1, 1, 1, 0.5, 1, 1]
    assert batch.segment_N.tolist() == [1, 1, 2, 2, 3, 3]
    assert batch.tree_N.tolist() == [0, 0, 0, 0, 1, 1]


def test_padding_is_a_segment_of_its_own() -> None:
    plain, padded = collate([PAIR, ROW]), collate([PAIR, ROW], pad_multiple=8, pad_id=7)
    assert padded.num_tokens == 16 and padded.ids_T[11:].tolist() == [7] * 5
    assert padded.segments.lengths[-1] == 5 and padded.segments.parents[-1] == -1
    for name in ("source_N", "target_N", "weight_N", "segment_N", "tree_N"):
        assert torch.equal(getattr(plain, name), getattr(padded, name))


def test_a_roots_first_token_cannot_be_a_target() -> None:
    with pytest.raises(AssertionError, match="nothing before it"):
        collate([(segment([1, 2], [1, 1]),)])


@settings(deadline=None)
@given(st.lists(st.integers(1, 100), min_size=1, max_size=80), st.integers(100, 300), st.integers(1, 4))
def test_pack_loses_and_repeats_nothing(sizes: list[int], budget: int, multiple: int) -> None:
    bins = pack(sizes, budget, multiple)
    assert sorted(item for items in bins for item in items) == list(range(len(sizes)))
    assert all(sum(sizes[item] for item in items) <= budget for items in bins)
    assert len(bins) % multiple == 0
    # Never more bins than one tree each, nor than twice what the tokens need (any-fit), before rounding to ranks.
    assert len(bins) < 2 * sum(sizes) / budget + 1 + multiple


def test_an_item_above_the_budget_is_alone() -> None:
    bins = pack([5, 101, 60, 40, 300], 100)
    assert [1] in bins and [4] in bins and len(bins) == 4


def chat_lengths(count: int, seed: int) -> list[int]:
    """Token counts spread like those of chat sets: log-normal, median 150, cut at 2,048."""
    drawn = np.random.default_rng(seed).lognormal(5.0, 0.9, count)
    return np.clip(drawn, 8, 2048).astype(int).tolist()


@pytest.mark.parametrize(("count", "budget", "ranks"), [(10_000, 2048, 1), (10_000, 8192, 8), (2_000, 4096, 4)])
def test_fill_of_a_chat_set(count: int, budget: int, ranks: int) -> None:
    """At least 99% of the fullest bin, which sets the pace; and of the budget, but for rounding to whole ranks."""
    sizes = chat_lengths(count, seed=0)
    bins = pack(sizes, budget, ranks)
    assert sum(sizes) / ((len(bins) - ranks + 1) * budget) >= 0.99
    assert fill(bins, sizes) >= 0.99


def test_fill_of_single_steps() -> None:
    """Steps of 128 rows on 4 ranks: what is computed is at least 99% tokens, over 50 steps."""
    sizes = chat_lengths(128 * 50, seed=1)
    steps = [sizes[i : i + 128] for i in range(0, len(sizes), 128)]
    assert np.mean([fill(pack(step, 4096, 4), step) for step in steps]) >= 0.99


def test_packing_a_large_set_is_fast() -> None:
    import time

    sizes = chat_lengths(200_000, seed=2)
    started = time.perf_counter()
    pack(sizes, 8192)
    assert time.perf_counter() - started < 10


def test_step_plan_uses_every_row_once_an_epoch() -> None:
    plan = StepPlan(num_rows=10, batch_size=4, num_epochs=3, seed=5)
    assert plan.steps_per_epoch == 3 and plan.num_steps == 9
    epochs = [np.concatenate([plan.rows(step) for step in range(e * 3, e * 3 + 3)]) for e in range(3)]
    assert all(sorted(epoch.tolist()) == list(range(10)) for epoch in epochs)
    assert not np.array_equal(epochs[0], epochs[1])
    assert np.array_equal(plan.rows(4), StepPlan(10, 4, 3, seed=5).rows(4))
    assert not np.array_equal(plan.rows(0), StepPlan(10, 4, 3, seed=6).rows(0))


def test_tree_size_counts_a_shared_prompt_once() -> None:
    assert tree_size(PAIR) == 8


def test_columns_stand_at_the_targets_and_are_zero_where_a_segment_has_none() -> None:
    prompt = Segment(np.arange(3, dtype=np.int32), np.zeros(3, np.float32))
    one = Segment(np.arange(2, dtype=np.int32), np.array([1, 0], np.float32), 0, {"extra": np.array([5.0, 6.0])})
    other = Segment(np.arange(2, dtype=np.int32), np.ones(2, np.float32), 0)
    batch = collate([(prompt, one, other)])
    assert batch.columns["extra"].tolist() == [5.0, 0.0, 0.0]
    assert batch.sums_per_segment(batch.weight_N).tolist() == [0.0, 1.0, 2.0]
