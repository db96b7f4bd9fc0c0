"""Segment attention against a dense masked softmax, and what it refuses."""

import pytest
import torch
from torch.nn.attention.flex_attention import flex_attention

from cameleer.core.errors import UserError
from cameleer.model.attention import reference_attention, refuse_unsupported
from cameleer.model.flex import flex_block_mask
from cameleer.model.segments import Segments

TREES = [
    Segments((9,), (-1,)),
    Segments((5, 1, 7), (-1, -1, -1)),
    Segments((6, 3, 4, 1), (-1, 0, 0, 0)),
    Segments((4, 3, 2, 5, 8, 2), (-1, 0, 1, 0, -1, 4)),
    Segments((3, 6, 2), (1, -1, 0)),
]


def dense(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, segments: Segments, window: int | None
) -> torch.Tensor:
    """softmax(Q K^T / sqrt(d) + mask) V with the visibility rule written out as a (T, T) matrix."""
    repeat = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(repeat, 1), value.repeat_interleave(repeat, 1)
    visible = segments.visible()
    if window is not None:
        position = segments.positions()
        visible &= position[:, None] - position[None, :] < window
    scores = query @ key.transpose(2, 3) / query.shape[3] ** 0.5
    return scores.masked_fill(~visible, float("-inf")).softmax(-1) @ value


def test_visible_by_hand() -> None:
    """A prompt of 2 with answers of 2 and 1: answers see the prompt and themselves, never each other."""
    expected = """
    1 0 0 0 0
    1 1 0 0 0
    1 1 1 0 0
    1 1 1 1 0
    1 1 0 0 1
    """
    rows = [[int(x) for x in line.split()] for line in expected.strip().splitlines()]
    assert Segments((2, 2, 1), (-1, 0, 0)).visible().int().tolist() == rows


@pytest.mark.parametrize("segments", TREES)
@pytest.mark.parametrize("window", [None, 1, 3, 100])
@pytest.mark.parametrize("key_heads", [4, 2, 1])
def test_reference_equals_dense(segments: Segments, window: int | None, key_heads: int) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [(1, heads, segments.num_tokens, 8) for heads in (4, key_heads, key_heads)]
    inputs = [torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True) for shape in shapes]
    weights = torch.randn(shapes[0], generator=generator, dtype=torch.float64)
    ours = reference_attention(*inputs, segments, None, window)
    plain = dense(*inputs, segments, window)
    torch.testing.assert_close(ours, plain, rtol=1e-12, atol=1e-13)
    for one, other in zip(
        torch.autograd.grad((ours * weights).sum(), inputs),
        torch.autograd.grad((plain * weights).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("segments", TREES)
@pytest.mark.parametrize("window", [None, 3])
def test_flex_mask_is_the_same_rule(segments: Segments, window: int | None) -> None:
    """The kernel itself needs a GPU for its gradients; its mask is checked here through its eager form."""
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(1, heads, segments.num_tokens, 16, generator=generator) for heads in (4, 2, 2))
    mask = flex_block_mask(segments, window, torch.device("cpu"))
    flexed = flex_attention(query, key, value, block_mask=mask, enable_gqa=True)
    torch.testing.assert_close(flexed, dense(query, key, value, segments, window), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("feature", "word"), [("softcap", "soft-capped"), ("s_aux", "sinks")])
def test_unsupported_features_are_refused_by_name(feature: str, word: str) -> None:
    with pytest.raises(UserError, match=word):
        refuse_unsupported("SomeAttention", 0.0, {feature: torch.ones(1)})


def test_attention_dropout_is_refused() -> None:
    with pytest.raises(UserError, match=r"attention dropout 0\.1"):
        refuse_unsupported("SomeAttention", 0.1, {})
