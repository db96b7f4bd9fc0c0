"""Attention of a sampling step: new tokens of many sequences in one row, over keys and values kept in slots.

A sequence is a path of up to three runs: a beginning that all prompts share, a prompt that several samples share, and
its own tokens. Each run is kept once (`cameleer.model.kv_cache`). The row holds first one token of each of R sequences
that are being continued, then pieces of prompts. A continued token attends to the runs of its path one by one; the
results are put together by their log-sum-exp, which is exact:

    o = Σ_i e^(l_i − m) o_i / Σ_i e^(l_i − m)        o_i, l_i: output and log-sum-exp over run i, m = max l_i

so keys shared by G sequences are read once for all of them. Pieces of prompts attend over their path's keys laid side
by side. Sliding windows are honoured; `cameleer.model.attention` refuses what neither path computes.

Shape suffixes: R continued sequences, T tokens of the row, S slots, W queries of one slot, K key heads, G query heads
for each key head, D size of a head, L keys.
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from cameleer.model.kv_cache import Sequence, SlotCache

FEW_QUERIES = 8
"""Up to so many queries of a slot, plain products are faster on a CPU than the fused kernel."""


@dataclass
class Write:
    """Where the keys and values of some of the row's tokens go."""

    cache: SlotCache
    token_N: Tensor
    slot_N: Tensor
    place_N: Tensor


Mask = tuple[Tensor, Tensor | None]
"""An additive mask (S, 1, W · G or 1, L), and (S, 1, W · G) which queries see no key if there may be such."""


@dataclass
class Run:
    """What R' of the continued tokens attend to in the slots of one cache.

    `is_own`: these are the runs that hold the tokens themselves; they come first, and each token has one. `row_R` says
    which tokens these are. `query_R` is where each stands among the S · W queries of the slots; None where every slot
    has exactly the one query that stands in its place.
    """

    cache: SlotCache
    is_own: bool
    row_R: Tensor | slice
    query_R: Tensor | None
    width: int
    length_S: Tensor
    start_S: Tensor
    longest: int
    position_R: Tensor
    masks: "dict[int | None, Mask]" = field(default_factory=lambda: {})


@dataclass
class Piece:
    """Consecutive tokens `first` to `last` of the row: the newest of the last sequence of `path`."""

    first: int
    last: int
    path: tuple[Sequence, ...]
    masks: dict[tuple[int | None, torch.dtype], Tensor | None] = field(
        default_factory=dict[tuple[int | None, torch.dtype], Tensor | None]
    )


@dataclass
class CachedStep:
    """Everything that attention needs to know of one forward pass."""

    writes: list[Write]
    runs: list[Run]
    pieces: list[Piece]
    num_continued: int

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float | None, window: int | None
    ) -> Tensor:
        """(1, H, T, D) queries and (1, K, T, D) keys and values of the row's tokens in; (1, T, H, D) out."""
        for write in self.writes:
            new_key, new_value = key[0].transpose(0, 1), value[0].transpose(0, 1)
            write.cache.write(layer, new_key[write.token_N], new_value[write.token_N], write.slot_N, write.place_N)
        scale = scaling if scaling is not None else 1 / math.sqrt(query.shape[-1])
        outputs: list[Tensor] = []
        if self.num_continued:
            query_RHD = query[0, :, : self.num_continued].transpose(0, 1)
            outputs.append(self._continued(layer, query_RHD, key.shape[1], scale, window))
        outputs += [_attend_piece(piece, layer, query, scale, window) for piece in self.pieces]
        return torch.cat(outputs)[None]

    def _continued(self, layer: int, query_RHD: Tensor, key_heads: int, scale: float, window: int | None) -> Tensor:
        """(R, H, D) outputs of the continued tokens over all runs of their paths."""
        count, heads, size = query_RHD.shape
        query_RKGD = query_RHD.reshape(count, key_heads, heads // key_heads, size)
        # In fp32 at least: bf16 would round weights between runs by several percent.
        precise = torch.promote_types(query_RKGD.dtype, torch.float32)
        output_RKGD = query_RKGD.new_empty(query_RKGD.shape, dtype=precise)
        lse_RKG = query_RKGD.new_empty(query_RKGD.shape[:3], dtype=precise)
        for run in self.runs:
            found = _attend_run(run, layer, query_RKGD[run.row_R], scale, window)
            if not run.is_own:
                found = _merge(output_RKGD[run.row_R], lse_RKG[run.row_R], *found)
            output_RKGD[run.row_R], lse_RKG[run.row_R] = found
        return output_RKGD.reshape(count, heads, size).to(query_RHD.dtype)


def _merge(output: Tensor, lse: Tensor, other: Tensor, other_lse: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs and log-sum-exps over two sets of keys put together; one of the two is not empty."""
    highest = torch.maximum(lse, other_lse)
    weight, other_weight = (lse - highest).exp_(), (other_lse - highest).exp_()
    total = weight + other_weight
    merged = output * (weight / total)[..., None] + other * (other_weight / total)[..., None]
    return merged, highest + total.log_()


def _attend_run(run: Run, layer: int, query_RKGD: Tensor, scale: float, window: int | None) -> tuple[Tensor, Tensor]:
    """(R', K, G, D) outputs and (R', K, G) log-sum-exps over a run's keys."""
    _, key_heads, groups, size = query_RKGD.shape
    slots = len(run.length_S)
    padded = query_RKGD
    if run.query_R is not None:
        padded = query_RKGD.new_zeros(slots * run.width, key_heads, groups, size)
        padded.index_copy_(0, run.query_R, query_RKGD)
    # The queries of a slot stand together behind each key head, so its keys are read once for all of them.
    query = padded.view(slots, run.width, key_heads, groups, size).transpose(1, 2)
    query = query.reshape(slots, key_heads, run.width * groups, size)
    keys = run.cache.keys[layer][:slots, :, : run.longest]
    values = run.cache.values[layer][:slots, :, : run.longest]
    mask, unseen = _run_mask(run, window, groups, query)
    output, lse = attend_with_lse(query, keys, values, mask.expand(-1, -1, query.shape[2], -1), scale)
    if unseen is not None:
        output, lse = output.masked_fill(unseen[..., None], 0.0), lse.masked_fill(unseen, -math.inf)
    output = output.reshape(slots, key_heads, run.width, groups, size).transpose(1, 2).reshape(padded.shape)
    lse = lse.reshape(slots, key_heads, run.width, groups).transpose(1, 2).reshape(padded.shape[:3])
    return (output, lse) if run.query_R is None else (output[run.query_R], lse[run.query_R])


def _run_mask(run: Run, window: int | None, groups: int, query: Tensor) -> Mask:
    """Hides from a slot's queries what lies past its length and, under a window, too far before each of them."""
    if window not in run.masks:
        place_L = torch.arange(run.longest, device=query.device)
        hidden = (place_L >= run.length_S[:, None])[:, None]
        if window is not None:
            asked = run.start_S.new_zeros(len(run.length_S) * run.width)
            asked[slice(None) if run.query_R is None else run.query_R] = run.position_R
            distance = asked.view(-1, run.width, 1) - (run.start_S[:, None, None] + place_L)
            hidden = (hidden | (distance >= window)).repeat_interleave(groups, dim=1)
        mask = torch.zeros(hidden.shape, dtype=query.dtype, device=query.device).masked_fill_(hidden, -math.inf)
        run.masks[window] = (mask[:, None], None if window is None else hidden.all(-1)[:, None])
    return run.masks[window]


def attend_with_lse(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Outputs (S, K, Q, D) and log-sum-exps (S, K, Q) of queries (S, K, Q, D) over keys (S, K, L, D).

    On a CPU by torch's fused kernel, which gives its log-sum-exps away, but where a slot has few queries: that kernel
    computes blocks of 32. Elsewhere by plain products. Both are undefined for a query that sees no key.
    """
    if query.device.type == "cpu" and query.shape[2] > FEW_QUERIES:
        fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        output, lse = fused(query, keys, values, 0.0, False, attn_mask=mask, scale=scale)
        return output, lse
    return plain_attend_with_lse(query, keys, values, mask, scale)


def plain_attend_with_lse(
    query: Tensor, keys: Tensor, values: Tensor, mask: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """`attend_with_lse` by its definition, in fp32 at least."""
    precise = torch.promote_types(query.dtype, torch.float32)
    scores = ((query * scale) @ keys.transpose(-1, -2)).to(precise).add_(mask)
    highest = scores.amax(dim=-1, keepdim=True)
    weights = scores.sub_(highest).exp_()
    total = weights.sum(dim=-1, keepdim=True)
    return (weights.to(values.dtype) @ values) / total, (highest + total.log())[..., 0]


def _attend_piece(piece: Piece, layer: int, query: Tensor, scale: float, window: int | None) -> Tensor:
    """(L', H, D) outputs of a piece's tokens over the keys of its path, its own among them."""
    own = query[:, :, piece.first : piece.last]
    keys = torch.cat([_kept(sequence, layer, values=False) for sequence in piece.path], 1)[None]
    values = torch.cat([_kept(sequence, layer, values=True) for sequence in piece.path], 1)[None]
    mask = _piece_mask(piece, keys.shape[2], window, query)
    output = functional.scaled_dot_product_attention(
        own,
        keys,
        values,
        attn_mask=mask,
        is_causal=mask is None and own.shape[2] > 1,
        scale=scale,
        enable_gqa=own.shape[1] != keys.shape[1],
    )
    return output[0].transpose(0, 1)


def _kept(sequence: Sequence, layer: int, values: bool) -> Tensor:
    """(K, L, D) keys or values of a sequence."""
    assert sequence.cache is not None, "a sequence without a slot has no keys"
    tensors = sequence.cache.values if values else sequence.cache.keys
    return tensors[layer][sequence.slot, :, : sequence.length]


def _piece_mask(piece: Piece, num_keys: int, window: int | None, like: Tensor) -> Tensor | None:
    """(L', L) additive mask of a piece; None where plain causality says it."""
    name = (window if window is not None and window < num_keys else None, like.dtype)
    if name not in piece.masks:
        count = piece.last - piece.first
        mask = None
        if name[0] is not None or count < num_keys:
            distance = torch.arange(num_keys - count, num_keys)[:, None] - torch.arange(num_keys)[None]
            hidden = (distance < 0) if name[0] is None else (distance < 0) | (distance >= name[0])
            mask = torch.zeros(hidden.shape).masked_fill_(hidden, -math.inf).to(like.device, like.dtype)
        piece.masks[name] = mask
    return piece.masks[name]
