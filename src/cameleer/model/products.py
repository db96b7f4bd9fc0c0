"""Matrix products of a sampling step on a CPU, in blocks of outputs.

    X Wᵀ = [X W₁ᵀ  X W₂ᵀ  …]        X: the step's few tokens (T, I), W: a weight (O, I), W_i: 512 of its rows

For few tokens and many outputs, as feed-forward layers and the head have them, MKL takes 10–40% longer for the whole
than for its blocks, whose rows of W stay in the processor's cache. Each output is the same sum in the same order: the
bits are those of the whole product (measured; nothing here relies on it).

`blocked_products()` makes every `functional.linear` within it work so, whatever module calls it: plain ones, LoRA's,
any model's. No weight is copied, so new weights need no word about it. It knows no gradients.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

BLOCK = 512
FEWEST_TOKENS = 8


def blocked_products(num_tokens: int, device: torch.device) -> AbstractContextManager[object]:
    """Within this context, `functional.linear` works in blocks where that pays for a step of so many tokens."""
    worth = device.type == "cpu" and num_tokens >= FEWEST_TOKENS
    return _BlockedProducts() if worth else nullcontext()


def linear(inputs: Tensor, weight_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """`functional.linear`, (…, I) in and (…, O) out, in blocks of outputs for fp32 and more than two blocks."""
    num_outputs = len(weight_OI)
    if num_outputs <= 2 * BLOCK or weight_OI.dtype != torch.float32:
        return functional.linear(inputs, weight_OI, bias_O)
    flat_TI = inputs.reshape(-1, inputs.shape[-1])
    output_TO = flat_TI.new_empty(len(flat_TI), num_outputs)
    for start in range(0, num_outputs, BLOCK):
        block = slice(start, start + BLOCK)
        torch.mm(flat_TI, weight_OI[block].t(), out=output_TO[:, block])
    if bias_O is not None:
        output_TO += bias_O
    return output_TO.view(*inputs.shape[:-1], num_outputs)


class _BlockedProducts(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is functional.linear and not kwargs:
            return linear(*args)
        return func(*args, **(kwargs or {}))
