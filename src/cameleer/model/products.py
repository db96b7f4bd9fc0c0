"""Matrix products of a sampling step on a CPU, with weights packed once for all its steps.

    X Wᵀ        X: the step's few tokens (T, I), W: a weight (O, I)

For few tokens, reading W takes longer than multiplying by it. oneDNN reads it in the order in which its kernel needs it
once the weight has been copied into that order, and is then 1.3 to 1.8 times as fast as the plain product for 8 to 128
tokens. The copy takes as much memory as the weight and as long as 6 to 20 products of eight tokens.

`PackedProducts.within` makes every `functional.linear` inside it work so, whatever module calls it: plain ones, LoRA's,
any model's, and the head. It knows no gradients. Whoever changes a weight calls `forget`.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

FEWEST_ROWS = 4
"""With fewer sequences that go on, a session ends before the copies have paid."""
FEWEST_WEIGHTS = 2**18
"""Smaller weights were slower packed: those of keys and values."""


class PackedProducts:
    """The packed copies of a model's weights, each made when it is first needed."""

    def __init__(self, device: torch.device) -> None:
        self._works = device.type == "cpu" and torch.backends.mkldnn.is_available()
        self._packed: dict[Tensor, Tensor] = {}

    def within(self, num_rows: int) -> AbstractContextManager[object]:
        """A context whose products use the copies, if so many sequences that go on make it worth while."""
        return _Packing(self) if self._works and num_rows >= FEWEST_ROWS else nullcontext()

    def linear(self, inputs: Tensor, weight_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
        """`functional.linear`, (…, I) in and (…, O) out, with a packed copy for a large fp32 weight of a model."""
        if not isinstance(weight_OI, nn.Parameter) or not _is_worth_packing(weight_OI):
            return functional.linear(inputs, weight_OI, bias_O)
        packed = self._packed.get(weight_OI)
        if packed is None:
            packed = torch.ops.mkldnn._reorder_linear_weight(weight_OI.detach(), 32)
            self._packed[weight_OI] = packed
        return torch.ops.mkldnn._linear_pointwise(inputs, packed, bias_O, "none", [], "")

    def forget(self) -> None:
        """Drop the copies: the weights have changed."""
        self._packed.clear()


def _is_worth_packing(weight_OI: Tensor) -> bool:
    return weight_OI.dtype == torch.float32 and weight_OI.numel() >= FEWEST_WEIGHTS and weight_OI.is_contiguous()


class _Packing(TorchFunctionMode):
    def __init__(self, products: PackedProducts) -> None:
        super().__init__()
        self._products = products

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is functional.linear and not kwargs:
            return self._products.linear(*args)
        return func(*args, **(kwargs or {}))
