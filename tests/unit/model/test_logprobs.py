"""The loss head against full logits, by hand and by finite differences."""

import math

import pytest
import torch

from cameleer.model import logprobs
from cameleer.model.logprobs import token_logprobs


def test_by_hand() -> None:
    """h = (1, 2), W rows (0, 0), (1, 0), (0, 1): logits 0, 1, 2; log p(2) = 2 - log(1 + e + e^2) = -0.40760596..."""
    hidden = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    weight = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    expected = 2 - math.log(1 + math.e + math.e**2)
    assert token_logprobs(hidden, weight, torch.tensor([2])).item() == pytest.approx(expected, abs=1e-15)
    assert expected == pytest.approx(-0.4076059644443804, abs=1e-15)
    # At temperature 2 the logits are 0, 1/2, 1.
    cooler = 1 - math.log(1 + math.sqrt(math.e) + math.e)
    assert token_logprobs(hidden, weight, torch.tensor([2]), 2.0).item() == pytest.approx(cooler, abs=1e-15)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("chunk_rows", [1, 7, 64])
def test_equals_full_logits_in_any_chunks(monkeypatch: pytest.MonkeyPatch, chunk_rows: int, temperature: float) -> None:
    monkeypatch.setattr(logprobs, "CHUNK_BYTES", chunk_rows * 4 * 50)
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(23, 8, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(50, 8, generator=generator, dtype=torch.float64, requires_grad=True)
    target = torch.randint(0, 50, (23,), generator=generator)
    upstream = torch.randn(23, generator=generator, dtype=torch.float64)
    ours = token_logprobs(hidden, weight, target, temperature)
    full = torch.log_softmax(hidden @ weight.T / temperature, -1).gather(1, target[:, None])[:, 0]
    torch.testing.assert_close(ours, full, rtol=1e-13, atol=1e-13)
    our_grads = torch.autograd.grad((ours * upstream).sum(), [hidden, weight])
    full_grads = torch.autograd.grad((full * upstream).sum(), [hidden, weight])
    for one, other in zip(our_grads, full_grads, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-13)


def test_gradcheck() -> None:
    hidden = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
    target = torch.tensor([0, 6, 3, 3, 1])
    assert torch.autograd.gradcheck(lambda h, w: token_logprobs(h, w, target, 0.9), (hidden, weight))


def test_no_targets_give_zero_gradients() -> None:
    """A rank without rows of its own still runs the model: its gradient must exist and be zero."""
    hidden, weight = torch.randn(0, 3, requires_grad=True), torch.randn(7, 3, requires_grad=True)
    token_logprobs(hidden, weight, torch.zeros(0, dtype=torch.long)).sum().backward()
    assert weight.grad is not None and not weight.grad.any()


def test_bf16_inputs_are_normalised_in_fp32() -> None:
    hidden, weight = torch.randn(64, 16).bfloat16(), torch.randn(1000, 16).bfloat16()
    target = torch.randint(0, 1000, (64,))
    ours = token_logprobs(hidden, weight, target)
    exact = torch.log_softmax((hidden @ weight.T).double(), -1).gather(1, target[:, None])[:, 0]
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours.double(), exact, rtol=0, atol=1e-5)


def test_logits_never_exceed_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """No tensor made in forward or backward is as large as the full logits."""
    monkeypatch.setattr(logprobs, "CHUNK_BYTES", 4 * 500 * 10)
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal largest
            result = function(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor) and result.ndim == 2 and result.shape[1] == 500:
                largest = max(largest, result.shape[0])
            return result

    hidden, weight = torch.randn(100, 4, requires_grad=True), torch.randn(500, 4, requires_grad=True)
    with Watch():
        token_logprobs(hidden, weight, torch.randint(0, 500, (100,))).sum().backward()
    assert 0 < largest <= 10
