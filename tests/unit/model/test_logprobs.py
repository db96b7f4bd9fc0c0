"""The loss head against full logits, by hand and by finite differences."""

import math
from collections.abc import Callable

import pytest
import torch
from support import random_forest, tiny_policy

from cameleer.model import logprobs
from cameleer.model.logprobs import token_logprobs, token_logprobs_and_entropies
from cameleer.model.policy import Policy
from cameleer.train.layout import collate


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


@pytest.mark.parametrize("head", [token_logprobs, lambda *inputs: sum(token_logprobs_and_entropies(*inputs))])
def test_logits_never_exceed_a_chunk(monkeypatch: pytest.MonkeyPatch, head: Callable[..., torch.Tensor]) -> None:
    """No tensor made in forward or backward is as large as the full logits."""
    monkeypatch.setattr(logprobs, "CHUNK_BYTES", 4 * 500 * 10)
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            nonlocal largest
            result = function(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor) and result.ndim == 2 and result.shape[1] == 500:
                largest = max(largest, result.shape[0])
            return result

    hidden, weight = torch.randn(100, 4, requires_grad=True), torch.randn(500, 4, requires_grad=True)
    with Watch():
        head(hidden, weight, torch.randint(0, 500, (100,))).sum().backward()
    assert 0 < largest <= 10


def test_entropy_by_hand() -> None:
    """Logits 0, 1, 2: S = 1 + e + e², H = log S − (e + 2 e²) / S = 0.83239558…; at temperature → ∞ it is log 3."""
    hidden = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    weight = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    total = 1 + math.e + math.e**2
    expected = math.log(total) - (math.e + 2 * math.e**2) / total
    assert expected == pytest.approx(0.8323955818399, abs=1e-12)
    logprob, entropy = token_logprobs_and_entropies(hidden, weight, torch.tensor([2]))
    assert entropy.item() == pytest.approx(expected, abs=1e-15)
    assert logprob.item() == token_logprobs(hidden, weight, torch.tensor([2])).item()
    flat = token_logprobs_and_entropies(hidden, weight, torch.tensor([2]), 1e9)[1]
    assert flat.item() == pytest.approx(math.log(3), abs=1e-9)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("chunk_rows", [1, 7, 64])
def test_entropy_equals_full_logits_in_any_chunks(
    monkeypatch: pytest.MonkeyPatch, chunk_rows: int, temperature: float
) -> None:
    monkeypatch.setattr(logprobs, "CHUNK_BYTES", chunk_rows * 4 * 50)
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(23, 8, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(50, 8, generator=generator, dtype=torch.float64, requires_grad=True)
    target = torch.randint(0, 50, (23,), generator=generator)
    upstream, of_entropy = torch.randn(2, 23, generator=generator, dtype=torch.float64)
    log_p = torch.log_softmax(hidden @ weight.T / temperature, -1)
    full, full_entropy = log_p.gather(1, target[:, None])[:, 0], -(log_p.exp() * log_p).sum(1)
    ours, our_entropy = token_logprobs_and_entropies(hidden, weight, target, temperature)
    torch.testing.assert_close(our_entropy, full_entropy, rtol=1e-12, atol=1e-12)
    our_loss, full_loss = (
        (ours @ upstream) + (our_entropy @ of_entropy),
        (full @ upstream) + (full_entropy @ of_entropy),
    )
    for one, other in zip(
        torch.autograd.grad(our_loss, [hidden, weight]), torch.autograd.grad(full_loss, [hidden, weight]), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("used", ["both", "entropy", "logprob"])
def test_gradcheck_with_entropy(used: str) -> None:
    """Also where the loss uses only one of the two outputs."""
    hidden = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
    target = torch.tensor([0, 6, 3, 3, 1])

    def function(h: torch.Tensor, w: torch.Tensor) -> tuple[torch.Tensor, ...]:
        logprob, entropy = token_logprobs_and_entropies(h, w, target, 0.9)
        return {"both": (logprob, entropy), "entropy": (entropy,), "logprob": (logprob,)}[used]

    assert torch.autograd.gradcheck(function, (hidden, weight))


def test_entropy_in_fp32_over_a_real_vocabulary() -> None:
    """Within 1e-5 nats: logsumexp(z) − p · z, the usual shortcut, is off by 1e-4 here."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(32, 64, generator=generator)
    weight = torch.randn(49152, 64, generator=generator) * 3 / 8 + 10 / 64 * hidden.mean(0).sign()
    log_p = torch.log_softmax(hidden.double() @ weight.double().T, 1)
    entropy = token_logprobs_and_entropies(hidden, weight, torch.zeros(32, dtype=torch.long))[1]
    torch.testing.assert_close(entropy.double(), -(log_p.exp() * log_p).sum(1), rtol=0, atol=1e-5)


def test_measuring_entropy_changes_no_gradient() -> None:
    """Bit for bit: a run that only watches its entropy trains as one that does not."""
    hidden, weight = torch.randn(9, 3, requires_grad=True), torch.randn(7, 3, requires_grad=True)
    target = torch.randint(0, 7, (9,))
    plain = torch.autograd.grad(token_logprobs(hidden, weight, target).sum(), [hidden, weight])
    watched = torch.autograd.grad(token_logprobs_and_entropies(hidden, weight, target)[0].sum(), [hidden, weight])
    assert all(torch.equal(one, other) for one, other in zip(plain, watched, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_policy_gives_entropies_beside_the_same_logprobs(dtype: torch.dtype) -> None:
    policy = tiny_policy("llama", dtype)
    batch = collate(random_forest(0))
    logprob, entropy = Policy(policy.model, 0.7, with_entropy=True)(batch)
    assert torch.equal(logprob, Policy(policy.model, 0.7)(batch))
    logits = policy.hidden_states(batch)[batch.source_N] @ policy.head_weight.T / 0.7
    expected = torch.distributions.Categorical(logits=logits.double()).entropy()
    torch.testing.assert_close(entropy.double(), expected, rtol=1e-5, atol=1e-5)
