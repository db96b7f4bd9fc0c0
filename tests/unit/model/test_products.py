"""Packed products: the numbers of `functional.linear`, whatever calls it, with the weights as they are now."""

import pytest
import torch
from packed_operations import PackedOperations, needs_onednn
from torch import Tensor, nn
from torch.nn import functional

from cameleer.model.products import FEWEST_ROWS, PackedProducts

CPU = torch.device("cpu")
WIDE, DEEP = 1025, 256


def random_tensor(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


@needs_onednn
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("shape", [(1, DEEP), (40, DEEP), (1, 40, DEEP), (3, 40, DEEP), (600, DEEP), (DEEP,)])
@torch.inference_mode()
def test_a_packed_product_is_the_product(shape: tuple[int, ...], with_bias: bool) -> None:
    inputs, weight = random_tensor(*shape), nn.Parameter(random_tensor(WIDE, DEEP))
    bias = random_tensor(WIDE) if with_bias else None
    with PackedOperations() as operations:
        found = PackedProducts(CPU).linear(inputs, weight, bias)
    expected = functional.linear(inputs.double(), weight.double(), None if bias is None else bias.double())
    assert (operations.packed, operations.multiplied) == (1, 1)
    assert found.shape == expected.shape and found.is_contiguous()
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-4)


@needs_onednn
@torch.inference_mode()
def test_weights_are_packed_once_within_the_context_and_again_once_they_have_changed() -> None:
    products, layer, inputs = PackedProducts(CPU), nn.Linear(DEEP, WIDE), random_tensor(1, 40, DEEP)
    with PackedOperations() as operations, products.within(40):
        layer(inputs)
        layer(inputs)
        assert (operations.packed, operations.multiplied) == (1, 2)
        layer.weight.mul_(2)
        products.forget()
        found = layer(inputs)
        assert (operations.packed, operations.multiplied) == (2, 3)
    with PackedOperations() as outside:
        expected = layer(inputs)
    assert not outside.multiplied
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("rows", "device", "layer"),
    [
        (FEWEST_ROWS - 1, "cpu", nn.Linear(DEEP, WIDE)),
        (40, "cuda", nn.Linear(DEEP, WIDE)),
        (40, "cpu", nn.Linear(DEEP, 16)),
        (40, "cpu", nn.Linear(DEEP, WIDE).double()),
    ],
    ids=["few rows", "no CPU", "a small weight", "fp64"],
)
@torch.inference_mode()
def test_where_it_does_not_pay_nothing_is_packed(rows: int, device: str, layer: nn.Linear) -> None:
    inputs = random_tensor(1, 40, DEEP).to(layer.weight.dtype)
    with PackedOperations() as operations, PackedProducts(torch.device(device)).within(rows):
        found = layer(inputs)
    assert not operations.packed
    assert torch.equal(found, layer(inputs))
