"""The claim that everything rests on: a loss and all its gradients do not depend on how the tokens were laid out."""

import pytest
import torch
from support import (
    WholeDouble,
    gradients_on_ranks,
    largest_relative_difference,
    of_each,
    random_forest,
    random_rows,
    step_gradients,
    tiny_policy,
    total_weight,
    unshared,
)

from cameleer.model.tiny import TinyKind, tiny_model
from cameleer.train.distributed import start_ranks
from cameleer.train.layout import Tree, tree_size

KINDS: tuple[TinyKind, ...] = ("llama", "qwen2", "qwen3", "gemma3")
TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-5}
DTYPES = list(TOLERANCES)


def assert_same(
    one: tuple[float, dict[str, torch.Tensor]], other: tuple[float, dict[str, torch.Tensor]], dtype: torch.dtype
) -> None:
    assert one[0] == pytest.approx(other[0], rel=TOLERANCES[dtype])
    assert largest_relative_difference(one[1], other[1]) <= TOLERANCES[dtype]


def plain_gradients(
    kind: TinyKind, dtype: torch.dtype, rows: list[Tree], padding: str | None
) -> tuple[float, dict[str, torch.Tensor]]:
    """Plain transformers, its own attention and full logits: one padded batch, or row by row without padding."""
    model = tiny_model(kind, 97, 0, dtype, attention="sdpa")
    denominator = total_weight(rows)
    longest = max(map(tree_size, rows))
    total = torch.zeros((), dtype=dtype)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros(len(rows), longest, dtype=torch.long)
    weights = torch.zeros(len(rows), longest, dtype=dtype)
    for number, ((segment,)) in enumerate(rows):
        length = len(segment.ids)
        place = slice(longest - length, longest) if padding == "left" else slice(0, length)
        ids[number, place] = torch.from_numpy(segment.ids).long()
        weights[number, place] = torch.from_numpy(segment.weights).to(dtype)
        mask[number, place] = 1
    with WholeDouble():
        if padding:
            positions = (mask.cumsum(1) - 1).clamp(min=0)
            logits = model(input_ids=ids, attention_mask=mask, position_ids=positions).logits
            total = nll(logits, ids, weights)
        else:
            for row_ids, row_weights, row_mask in zip(ids, weights, mask, strict=True):
                length = int(row_mask.sum())
                logits = model(input_ids=row_ids[None, :length]).logits
                total = total + nll(logits, row_ids[None, :length], row_weights[None, :length])
    (total / denominator).backward()
    gradients = {
        f"model.{name}": parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None
    }
    return (total / denominator).item(), gradients


def nll(logits: torch.Tensor, ids: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    logprobs = torch.log_softmax(logits[:, :-1], -1).gather(2, ids[:, 1:, None])[:, :, 0]
    return -(logprobs * weights[:, 1:]).sum()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("padding", [None, "left", "right"])
def test_packed_equals_plain_transformers(kind: TinyKind, dtype: torch.dtype, padding: str | None) -> None:
    rows = random_rows(1)
    assert_same(step_gradients(tiny_policy(kind, dtype), [rows]), plain_gradients(kind, dtype, rows, padding), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_accumulation_order_and_packing_do_not_matter(kind: TinyKind, dtype: torch.dtype) -> None:
    rows, policy = random_rows(2), tiny_policy(kind, dtype)
    reference = step_gradients(policy, [rows])
    layouts = {
        "8 x 1": [[row] for row in rows],
        "2 x 4": [rows[:4], rows[4:]],
        "4 x 2": [rows[i : i + 2] for i in range(0, 8, 2)],
        "uneven": [rows[:1], rows[1:7], rows[7:]],
        "reversed": [rows[::-1]],
    }
    for layout in layouts.values():
        assert_same(step_gradients(policy, layout), reference, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_shared_prompts_equal_repeated_prompts(kind: TinyKind, dtype: torch.dtype) -> None:
    trees, policy = random_forest(3), tiny_policy(kind, dtype)
    rows = unshared(trees)
    assert sum(map(tree_size, rows)) > 1.3 * sum(map(tree_size, trees))
    reference = plain_gradients(kind, dtype, rows, None)
    assert_same(step_gradients(policy, [trees]), reference, dtype)
    assert_same(step_gradients(policy, [trees[:1], trees[1:]]), reference, dtype)
    assert_same(step_gradients(policy, [rows]), reference, dtype)


@pytest.mark.parametrize("num_ranks", [2, 4])
def test_ranks_do_not_matter(num_ranks: int) -> None:
    """Rows and shared prompts in one step, with a budget that gives each rank several micro-batches; and one row, which
    leaves ranks without any."""
    cases: list[tuple[TinyKind, torch.dtype, list[Tree], int]] = [
        *(("llama", dtype, random_rows(4) + random_forest(5), 48) for dtype in DTYPES),
        ("qwen3", torch.float64, random_rows(6, count=1), 48),
    ]
    many = start_ranks(num_ranks, of_each, gradients_on_ranks, cases)
    for found, (kind, dtype, trees, _) in zip(many, cases, strict=True):
        assert_same(found, step_gradients(tiny_policy(kind, dtype), [trees]), dtype)


def test_the_comparison_sees_a_leak() -> None:
    """The bug itself: rows that see each other (one segment instead of two) must break the equality."""
    import numpy as np

    from cameleer.train.layout import Segment

    rows = random_rows(7, count=2)
    policy = tiny_policy("llama", torch.float64)
    leaky = [(Segment(np.concatenate([r[0].ids for r in rows]), np.concatenate([r[0].weights for r in rows])),)]
    honest, broken = step_gradients(policy, [rows]), step_gradients(policy, [leaky])
    assert largest_relative_difference(broken[1], honest[1]) > 1e-3


def test_mean_of_microbatch_means_is_another_loss() -> None:
    """What other trainers shipped: were each micro-batch divided by its own count, the gradient would differ."""
    rows, policy = random_rows(8), tiny_policy("llama", torch.float64)
    halves = [rows[:3], rows[3:]]
    means = [step_gradients(policy, [half]) for half in halves]
    averaged = {name: (means[0][1][name] + means[1][1][name]) / 2 for name in means[0][1]}
    assert largest_relative_difference(averaged, step_gradients(policy, halves)[1]) > 1e-2
