"""AdamW over fp32 master weights, and the gradient norm."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from cameleer.core.training import AdamWConfig


def build_optimizer(model: nn.Module, config: AdamWConfig) -> torch.optim.AdamW:
    """AdamW on the trainable parameters, which must be fp32 or fp64: bf16 weights would swallow small updates."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert trainable, "no parameter requires a gradient"
    coarse = {parameter.dtype for parameter in trainable} - {torch.float32, torch.float64}
    assert not coarse, f"master weights must be fp32, found {coarse}"
    groups = [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]
    present = [group for group in groups if group["params"]]
    return torch.optim.AdamW(present, lr=0.0, betas=config.betas, eps=config.eps, fused=True)


def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float | None) -> float:
    """Scale the gradients down to a global 2-norm of at most `max_norm` (None: leave them); the norm before."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients, foreach=False)
    total: Tensor = norm.full_tensor() if isinstance(norm, DTensor) else norm
    value = total.item()
    if max_norm is not None and value > max_norm:
        for gradient in gradients:
            gradient.mul_(max_norm / value)
    return value
