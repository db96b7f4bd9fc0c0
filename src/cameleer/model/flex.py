"""Segment attention on CUDA: one FlexAttention kernel over the row (Dong et al. 2024, arXiv:2412.05496)."""

from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from cameleer.model.attention import reference_attention
from cameleer.model.segments import Segments

_checked_shapes: set[tuple[Any, ...]] = set()
_BLOCK_MASKS = "flex_block_masks"
_compiled_flex = torch.compile(flex_attention, dynamic=True)


def flex_segment_attention(
    query: Tensor, key: Tensor, value: Tensor, segments: Segments, scaling: float | None, window: int | None
) -> Tensor:
    """Attention of the row in one kernel; shapes as in `attention.reference_attention`."""
    shape = (query.shape[1], key.shape[1], query.shape[3], query.dtype, window is None, scaling)
    if shape not in _checked_shapes:
        _checked_shapes.add(shape)
        check_against_reference(query, key.shape[1], scaling, window)
    return cast(Tensor, _run_flex(query, key, value, segments, scaling, window))


def _run_flex(
    query: Tensor, key: Tensor, value: Tensor, segments: Segments, scaling: float | None, window: int | None
) -> Any:
    mask = flex_block_mask(segments, window, query.device)
    gqa = query.shape[1] != key.shape[1]
    return _compiled_flex(query, key, value, block_mask=mask, scale=scaling, enable_gqa=gqa)


def flex_block_mask(segments: Segments, window: int | None, device: torch.device) -> BlockMask:
    """The visibility rule as a FlexAttention block mask, made once per batch and window and kept with its segments."""
    masks: dict[int | None, BlockMask] = segments.__dict__.setdefault(_BLOCK_MASKS, {})
    if window not in masks:
        segment_T = segments.segment_of_token().to(device)
        position_T = segments.positions().to(device)
        related_SS = segments.ancestry().to(device)

        def visible(batch: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:
            distance = position_T[q] - position_T[k]
            seen = related_SS[segment_T[q], segment_T[k]] & (distance >= 0)
            return seen if window is None else seen & (distance < window)

        total = segments.num_tokens
        masks[window] = create_block_mask(visible, None, None, total, total, device=str(device))
    return masks[window]


def check_against_reference(like: Tensor, num_key_heads: int, scaling: float | None, window: int | None) -> None:
    """Compare FlexAttention with the reference on a small random tree, outputs and gradients; fail if they differ.

    `like` gives heads, width, dtype and device. The tolerance is that of the dtype: both sides round differently.
    """
    tree = Segments(lengths=(37, 11, 23, 150, 5), parents=(-1, 0, 0, -1, 2))
    generator = torch.Generator().manual_seed(0)
    heads, width = like.shape[1], like.shape[3]

    def draw(count: int) -> Tensor:
        drawn = torch.randn(1, count, tree.num_tokens, width, generator=generator)
        return drawn.to(like.device, like.dtype).requires_grad_()

    inputs = query, key, value = draw(heads), draw(num_key_heads), draw(num_key_heads)
    weights = draw(heads).detach()
    small_window = None if window is None else 16
    with torch.enable_grad():
        results: list[list[Tensor]] = []
        for attend in (_run_flex, reference_attention):
            output: Tensor = attend(query, key, value, tree, scaling, small_window)
            results.append([output, *torch.autograd.grad((output * weights).sum(), inputs)])
    tolerance = 64 * torch.finfo(like.dtype).eps
    for name, fast, slow in zip(("output", "dQ", "dK", "dV"), *results, strict=True):
        error = ((fast - slow).float().norm() / slow.float().norm()).item()
        if not error <= tolerance:
            raise AssertionError(
                f"FlexAttention's {name} differs from the reference by {error:.1e} (relative), above {tolerance:.1e}, "
                f"for {heads}/{num_key_heads} heads of width {width} in {like.dtype} with torch {torch.__version__}"
            )
