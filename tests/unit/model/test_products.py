"""Products in blocks: the numbers of `functional.linear`, whatever calls it."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from cameleer.model.products import BLOCK, FEWEST_TOKENS, blocked_products, linear

CPU = torch.device("cpu")
WIDE = 2 * BLOCK + 76


def random_tensor(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


class Products(TorchDispatchMode):
    """Counts matrix products."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func._schema.name in ("aten::mm", "aten::addmm", "aten::linear")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("shape", [(40, 8), (1, 40, 8), (3, 40, 8), (5, 8), (8,)])
@pytest.mark.parametrize("outputs", [8, 2 * BLOCK, WIDE])
@torch.inference_mode()
def test_a_product_in_blocks_is_the_product(shape: tuple[int, ...], outputs: int, with_bias: bool) -> None:
    inputs, weight = random_tensor(*shape), random_tensor(outputs, 8)
    bias = random_tensor(outputs) if with_bias else None
    expected = functional.linear(inputs, weight, bias)
    found = linear(inputs, weight, bias)
    assert found.shape == expected.shape and found.is_contiguous()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@torch.inference_mode()
def test_products_of_any_module_are_in_blocks_within_the_context_and_nowhere_else() -> None:
    layer, inputs = nn.Linear(8, WIDE), random_tensor(1, 40, 8)
    with Products() as inside, blocked_products(40, CPU):
        found = layer(inputs)
    with Products() as outside:
        expected = layer(inputs)
    assert (inside.count, outside.count) == (3, 1)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("tokens", "device"), [(FEWEST_TOKENS - 1, "cpu"), (40, "cuda")])
@torch.inference_mode()
def test_where_it_does_not_pay_products_stay_whole(tokens: int, device: str) -> None:
    with Products() as products, blocked_products(tokens, torch.device(device)):
        nn.Linear(8, WIDE)(random_tensor(1, 40, 8))
    assert products.count == 1
