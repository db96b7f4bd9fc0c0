"""From logits to the next token: filters, the draw, and the log-probability of what was drawn.

    z ← repetition penalty (Keskar et al. 2019)      z / temperature
    top-k: the k likeliest      top-p: of these the likeliest that together reach p (Holtzman et al. 2020)
    min-p: of these all with at least min_p times the likeliest's probability (Nguyen et al. 2024)

The log-probability is that of the distribution drawn from: after temperature and filters, normalised. At temperature 0
the likeliest token is taken, and its log-probability is that of temperature 1 without filters, since a certain choice
carries none. Filters are applied in this order, as transformers does.

A draw inverts the cumulative distribution at one uniform number per row, which the row's own stream gives: it is the
same alone and in any batch. Sums over the vocabulary are taken in two levels, so that no pass over it is in fp64.

Shape suffixes: B rows, V vocabulary, C candidates.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cameleer.core.errors import UserError

BLOCK = 256
FIRST_CANDIDATES = 64


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to sample. `temperature` 0 is greedy; `top_k` 0, `top_p` 1, `min_p` 0 and `repetition_penalty` 1 are off.

    An answer ends with a stop id, the token that completes a `stop` text, or at `max_new_tokens`; the first two only
    from `min_new_tokens` on, stop ids being no choice before. What is unfinished `deadline_seconds` after the start is
    cut off there.
    """

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int = 0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    min_new_tokens: int = 0
    deadline_seconds: float | None = None

    def __post_init__(self) -> None:
        for holds, words in (
            (self.max_new_tokens >= 1, f"max_new_tokens: must be at least 1, got {self.max_new_tokens}."),
            (
                0 <= self.min_new_tokens <= self.max_new_tokens,
                f"min_new_tokens: must be from 0 to max_new_tokens = {self.max_new_tokens}, got {self.min_new_tokens}.",
            ),
            (
                0 <= self.temperature < math.inf,
                f"temperature: must be 0 (greedy) or a positive number, got {self.temperature}.",
            ),
            (0 < self.top_p <= 1, f"top_p: must be above 0 and at most 1, got {self.top_p}."),
            (self.top_k >= 0, f"top_k: must be 0 (off) or positive, got {self.top_k}."),
            (0 <= self.min_p < 1, f"min_p: must be from 0 (off) to below 1, got {self.min_p}."),
            (self.repetition_penalty > 0, f"repetition_penalty: must be positive, got {self.repetition_penalty}."),
            ("" not in self.stop, "stop: an empty text would end every answer before it begins."),
        ):
            if not holds:
                raise UserError(words)


def choose(logits_BV: Tensor, sampling: Sampling, uniforms: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Chosen ids (B,) and their log-probabilities (B,), for one uniform number in [0, 1) a row.

    The logits are in fp32 at least and are overwritten. A row whose logits are not finite gives a log-probability that
    is not finite either.
    """
    if sampling.temperature == 0:
        chosen_B = logits_BV.argmax(dim=1)
        return chosen_B, logits_BV.gather(1, chosen_B[:, None])[:, 0] - torch.logsumexp(logits_BV, dim=1)
    logits_BV.div_(sampling.temperature)
    uniform_B = torch.tensor(uniforms, dtype=torch.float64, device=logits_BV.device)
    if sampling.top_k or sampling.top_p < 1 or sampling.min_p:
        return _choose_filtered(logits_BV, sampling, uniform_B)
    return _choose_of_all(logits_BV, uniform_B)


def penalise(logits_V: Tensor, seen: Sequence[int], penalty: float) -> None:
    """Make the ids seen so far less likely, in place: positive logits are divided by the penalty, others multiplied."""
    index = torch.tensor(sorted(set(seen)), device=logits_V.device)
    values = logits_V[index]
    logits_V[index] = torch.where(values > 0, values / penalty, values * penalty)


def _choose_of_all(logits_BV: Tensor, uniform_B: Tensor) -> tuple[Tensor, Tensor]:
    """Draw from the softmax: first a block of the vocabulary, then a token within it."""
    vocabulary = logits_BV.shape[1]
    highest_B1 = logits_BV.amax(dim=1, keepdim=True)
    # In place: fresh memory for a batch of logits costs more than its arithmetic.
    mass_BV = logits_BV.sub_(highest_B1).exp_()
    whole = vocabulary // BLOCK * BLOCK
    blocks = [mass_BV[:, :whole].unflatten(1, (-1, BLOCK)).sum(dim=2)] if whole else []
    if whole < vocabulary:
        blocks.append(mass_BV[:, whole:].sum(dim=1, keepdim=True))
    cumulative = torch.cat(blocks, dim=1).double().cumsum(dim=1)
    total_B = cumulative[:, -1]
    block_B, before_B = _invert(cumulative, uniform_B * total_B)
    place_BC = (block_B[:, None] * BLOCK + torch.arange(BLOCK, device=mass_BV.device)).clamp_max(vocabulary - 1)
    inner_BC = mass_BV.gather(1, place_BC).double()
    if whole < vocabulary:
        # The last block is shorter; its clamped places repeat the last token.
        inner_BC = inner_BC * (block_B[:, None] * BLOCK + torch.arange(BLOCK, device=mass_BV.device) < vocabulary)
    within_B, _ = _invert(inner_BC.cumsum(dim=1), uniform_B * total_B - before_B)
    chosen_B = place_BC.gather(1, within_B[:, None])[:, 0]
    chosen_mass_B = mass_BV.gather(1, chosen_B[:, None])[:, 0]
    return chosen_B, (chosen_mass_B.double() / total_B).log().to(logits_BV.dtype)


def _choose_filtered(logits_BV: Tensor, sampling: Sampling, uniform_B: Tensor) -> tuple[Tensor, Tensor]:
    """Draw from the candidates that the filters leave."""
    value_BC, id_BC = _candidates(logits_BV, sampling)
    logprob_BC = torch.log_softmax(value_BC, dim=1)
    cumulative = logprob_BC.double().exp().cumsum(dim=1)
    place_B, _ = _invert(cumulative, uniform_B * cumulative[:, -1])
    return id_BC.gather(1, place_B[:, None])[:, 0], logprob_BC.gather(1, place_B[:, None])[:, 0]


def _candidates(logits_BV: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """The likeliest tokens as (logits, ids), those that a filter leaves out at −∞.

    Sorting a whole vocabulary costs more than a small model's forward pass, so as few tokens are sorted as the filters
    leave: first 64, then four times as many until every row has what it needs.
    """
    vocabulary = logits_BV.shape[1]
    count = min(sampling.top_k or FIRST_CANDIDATES, vocabulary)
    total_B1 = None if sampling.top_k else torch.logsumexp(logits_BV, dim=1, keepdim=True)
    while True:
        value_BC, id_BC = logits_BV.topk(count, dim=1)
        normaliser_B1 = torch.logsumexp(value_BC, dim=1, keepdim=True) if total_B1 is None else total_B1
        mass_BC = (value_BC - normaliser_B1).double().exp()
        before_BC = mass_BC.cumsum(dim=1) - mass_BC
        kept_BC = before_BC < sampling.top_p
        kept_BC[:, 0] = True
        if sampling.min_p:
            kept_BC &= value_BC >= value_BC[:, :1] + math.log(sampling.min_p)
        # A row whose last candidate is still kept may need more of them.
        if sampling.top_k or count == vocabulary or not bool(kept_BC[:, -1].any()):
            return value_BC.masked_fill(~kept_BC, -math.inf), id_BC
        count = min(4 * count, vocabulary)


def _invert(cumulative: Tensor, target_B: Tensor) -> tuple[Tensor, Tensor]:
    """The first place of each row whose cumulative mass exceeds the target, and the mass before it.

    A target at or above the row's total, which rounding can make, is taken just below it, so that no place without
    mass is ever found.
    """
    target_B = torch.minimum(target_B, cumulative[:, -1] * (1 - 2.0**-52)).clamp_min(0)
    place_B = torch.searchsorted(cumulative, target_B[:, None], right=True)[:, 0].clamp_max(cumulative.shape[1] - 1)
    before = torch.where(place_B > 0, cumulative.gather(1, (place_B - 1).clamp_min(0)[:, None])[:, 0], 0.0)
    return place_B, before
