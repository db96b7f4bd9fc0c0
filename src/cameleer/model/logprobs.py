"""The only loss head: log-probabilities of targets, without ever holding the logits of more than one chunk.

    logprob_n = z_n[target_n] - logsumexp(z_n),   z_n = W h_n / temperature

Only the hidden states that predict a trained token come in, so logits of untrained positions are never computed. The
backward pass turns each chunk's logits in place into the gradient (softmax - onehot). It begins with the last chunk,
whose logits the forward pass has left, and computes those of the others again; so a micro-batch of one chunk computes
its logits once, and the peak is one chunk of (C, V) numbers throughout.
"""

from typing import Any

import torch
from torch import Tensor

CHUNK_BYTES = 96 << 20


def token_logprobs(hidden_ND: Tensor, weight_VD: Tensor, target_N: Tensor, temperature: float = 1.0) -> Tensor:
    """Log-probabilities (N,) of `target_N` under the softmax of `hidden_ND @ weight_VD.T / temperature`.

    Computed and returned in fp32 for fp16, bf16 and fp32 inputs, in fp64 for fp64. Differentiable in the first two.
    """
    assert hidden_ND.shape[0] == target_N.shape[0] and hidden_ND.shape[1] == weight_VD.shape[1]
    logprobs: Tensor = _TokenLogprobs.apply(hidden_ND, weight_VD, target_N, temperature)  # pyright: ignore
    return logprobs


class _TokenLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden_ND: Tensor, weight_VD: Tensor, target_N: Tensor, temperature: float) -> Tensor:
        precision = torch.promote_types(hidden_ND.dtype, torch.float32)
        logprob_N = torch.empty(len(target_N), dtype=precision, device=hidden_ND.device)
        normaliser_N = torch.empty_like(logprob_N)
        logits_CV = hidden_ND.new_empty(0)
        for chunk in _chunks(hidden_ND, weight_VD):
            del logits_CV
            logits_CV = _logits(hidden_ND[chunk], weight_VD, temperature, precision)
            normaliser_N[chunk] = torch.logsumexp(logits_CV, dim=1)
            logprob_N[chunk] = logits_CV.gather(1, target_N[chunk, None])[:, 0] - normaliser_N[chunk]
        ctx.save_for_backward(hidden_ND, weight_VD, target_N, normaliser_N)
        # Not a saved tensor: backward overwrites it, and then it is gone.
        ctx.last_logits = logits_CV
        ctx.temperature = temperature
        return logprob_N

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        hidden_ND, weight_VD, target_N, normaliser_N = ctx.saved_tensors
        scaled_N = grads[0] / ctx.temperature
        needs_hidden, needs_weight = ctx.needs_input_grad[:2]
        grad_hidden = torch.empty_like(hidden_ND) if needs_hidden else None
        grad_weight = torch.zeros_like(weight_VD, dtype=normaliser_N.dtype) if needs_weight else None
        for chunk in reversed(_chunks(hidden_ND, weight_VD)):
            logits_CV, ctx.last_logits = ctx.last_logits, None
            if logits_CV is None:
                logits_CV = _logits(hidden_ND[chunk], weight_VD, ctx.temperature, normaliser_N.dtype)
            grad_CV = logits_CV.sub_(normaliser_N[chunk, None]).exp_().mul_(-scaled_N[chunk, None])
            grad_CV.scatter_add_(1, target_N[chunk, None], scaled_N[chunk, None])
            grad_CV = grad_CV.to(weight_VD.dtype)
            if grad_hidden is not None:
                torch.mm(grad_CV, weight_VD, out=grad_hidden[chunk])
            if grad_weight is not None:
                _add_product(grad_weight, grad_CV, hidden_ND[chunk])
            del logits_CV, grad_CV
        return grad_hidden, None if grad_weight is None else grad_weight.to(weight_VD.dtype), None, None


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
