"""The only loss head: log-probabilities of targets, without ever holding the logits of more than a chunk of tokens.

    logprob_n = z_n[target_n] - logsumexp(z_n)      entropy_n = -p_n · log p_n
    z_n = W h_n / temperature                       p_n = softmax(z_n)

Only the hidden states that predict a trained token come in, so logits of untrained positions are never computed. The
backward pass turns each chunk's logits in place into the gradient, with upstream gradients g of the log-probability and
e of the entropy

    dz_n = g_n (onehot(target_n) - p_n) - e_n p_n (log p_n + entropy_n)

It begins with the last chunk, whose logits the forward pass has left, and computes those of the others again; so a
micro-batch of one chunk computes its logits once, and the peak is one chunk of (C, V) numbers throughout, two where
entropies are asked for.
"""

from typing import Any

import torch
from torch import Tensor

CHUNK_BYTES = 96 << 20


def token_logprobs(hidden_ND: Tensor, weight_VD: Tensor, target_N: Tensor, temperature: float = 1.0) -> Tensor:
    """Log-probabilities (N,) of `target_N` under the softmax of `hidden_ND @ weight_VD.T / temperature`.

    Computed and returned in fp32 for fp16, bf16 and fp32 inputs, in fp64 for fp64. Differentiable in the first two.
    """
    return _apply(hidden_ND, weight_VD, target_N, temperature, False)[0]


def token_logprobs_and_entropies(
    hidden_ND: Tensor, weight_VD: Tensor, target_N: Tensor, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """`token_logprobs`, and (N,) the entropies in nats of the distributions that they come from, differentiable too."""
    return _apply(hidden_ND, weight_VD, target_N, temperature, True)


def _apply(
    hidden_ND: Tensor, weight_VD: Tensor, target_N: Tensor, temperature: float, with_entropy: bool
) -> tuple[Tensor, Tensor]:
    assert hidden_ND.shape[0] == target_N.shape[0] and hidden_ND.shape[1] == weight_VD.shape[1]
    found: Any = _TokenLogprobs.apply(hidden_ND, weight_VD, target_N, temperature, with_entropy)
    return found


class _TokenLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden_ND: Tensor, weight_VD: Tensor, target_N: Tensor, temperature: float, with_entropy: bool
    ) -> tuple[Tensor, Tensor]:
        """Log-probabilities (N,) and entropies, (N,) or empty."""
        precision = torch.promote_types(hidden_ND.dtype, torch.float32)
        logprob_N = torch.empty(len(target_N), dtype=precision, device=hidden_ND.device)
        normaliser_N = torch.empty_like(logprob_N)
        entropy_N = torch.empty_like(logprob_N if with_entropy else logprob_N[:0])
        logits_CV = hidden_ND.new_empty(0)
        for chunk in _chunks(hidden_ND, weight_VD):
            del logits_CV
            logits_CV = _logits(hidden_ND[chunk], weight_VD, temperature, precision)
            normaliser_N[chunk] = torch.logsumexp(logits_CV, dim=1)
            logprob_N[chunk] = logits_CV.gather(1, target_N[chunk, None])[:, 0] - normaliser_N[chunk]
            if with_entropy:
                # Not logsumexp - p · z: in fp32 a softmax over 50k tokens sums to 1 only up to 3e-5, times z.
                logits_CV.sub_(normaliser_N[chunk, None])
                entropy_N[chunk] = -logits_CV.exp().mul_(logits_CV).sum(1)
        ctx.save_for_backward(hidden_ND, weight_VD, target_N, normaliser_N, entropy_N)
        # Not a saved tensor: backward overwrites it, and then it is gone.
        ctx.last_logits, ctx.last_is_normalised = logits_CV, with_entropy
        ctx.temperature = temperature
        # An output that no loss uses comes back as None instead of zeros, and its share is not computed.
        ctx.set_materialize_grads(False)
        return logprob_N, entropy_N

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        hidden_ND, weight_VD, target_N, normaliser_N, entropy_N = ctx.saved_tensors
        upstream_N, of_entropy_N = (None if grad is None else grad / ctx.temperature for grad in grads)
        if upstream_N is None:
            upstream_N = torch.zeros_like(normaliser_N)
        needs_hidden, needs_weight = ctx.needs_input_grad[:2]
        grad_hidden = torch.empty_like(hidden_ND) if needs_hidden else None
        grad_weight = torch.zeros_like(weight_VD, dtype=normaliser_N.dtype) if needs_weight else None
        for chunk in reversed(_chunks(hidden_ND, weight_VD)):
            grad_CV, is_normalised = ctx.last_logits, ctx.last_is_normalised
            ctx.last_logits, ctx.last_is_normalised = None, False
            if grad_CV is None:
                grad_CV = _logits(hidden_ND[chunk], weight_VD, ctx.temperature, normaliser_N.dtype)
            if not is_normalised:
                grad_CV.sub_(normaliser_N[chunk, None])
            if of_entropy_N is None:
                grad_CV.exp_().mul_(-upstream_N[chunk, None])
            else:
                probability_CV = grad_CV.exp()
                grad_CV.add_(entropy_N[chunk, None]).mul_(of_entropy_N[chunk, None]).add_(upstream_N[chunk, None])
                grad_CV.mul_(probability_CV.neg_())
                del probability_CV
            grad_CV.scatter_add_(1, target_N[chunk, None], upstream_N[chunk, None])
            grad_CV = grad_CV.to(weight_VD.dtype)
            if grad_hidden is not None:
                torch.mm(grad_CV, weight_VD, out=grad_hidden[chunk])
            if grad_weight is not None:
                _add_product(grad_weight, grad_CV, hidden_ND[chunk])
            del grad_CV
        return grad_hidden, None if grad_weight is None else grad_weight.to(weight_VD.dtype), None, None, None


def _chunks(hidden_ND: Tensor, weight_VD: Tensor) -> list[slice]:
    """Even slices of the N rows whose logits in fp32 stay under CHUNK_BYTES."""
    rows, limit = len(hidden_ND), max(1, CHUNK_BYTES // (4 * len(weight_VD)))
    count = -(-rows // limit)
    return [slice(rows * i // count, rows * (i + 1) // count) for i in range(count)]


def _logits(hidden_CD: Tensor, weight_VD: Tensor, temperature: float, precision: torch.dtype) -> Tensor:
    logits_CV = (hidden_CD @ weight_VD.T).to(precision)
    return logits_CV if temperature == 1.0 else logits_CV.div_(temperature)


def _add_product(total_VD: Tensor, left_CV: Tensor, right_CD: Tensor) -> None:
    """total += left.T @ right; the sum over chunks is kept in the precision of `total` when the factors are coarser."""
    if total_VD.dtype == left_CV.dtype:
        total_VD.addmm_(left_CV.T, right_CD)
    else:
        total_VD += left_CV.T @ right_CD
