"""Adapters: nothing changes until they train, merging is exact to one rounding."""

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from cameleer.core.errors import UserError
from cameleer.core.training import LoraConfig
from cameleer.model.lora import ADAPTER, add_lora, lora_layers, merge_lora
from cameleer.model.tiny import TinyKind, tiny_model

CONFIG = LoraConfig(rank=4, alpha=6.0)
IDS = torch.arange(3, 40)[None]


def logits(model: PreTrainedModel) -> Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits


def adapters(model: PreTrainedModel) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.named_parameters() if "lora_" in name}


def disturb(model: PreTrainedModel, scale: float = 0.1) -> None:
    """Give every adapter weights as though it had been trained."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "lora_" in name:
                value.copy_(scale * torch.randn(value.shape, generator=generator))


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gemma3"])
def test_fresh_adapters_change_nothing_and_alone_train(kind: TinyKind) -> None:
    model = tiny_model(kind, attention="sdpa")
    before = logits(model)
    wrapped = add_lora(model, CONFIG, seed=1)
    assert torch.equal(logits(wrapped), before)
    trained = {name for name, value in wrapped.named_parameters() if value.requires_grad}
    assert trained == set(adapters(wrapped))
    # Seven linear layers in each decoder layer, two matrices each; the head has none.
    assert len(trained) == 2 * 7 * model.config.num_hidden_layers


def test_adapters_depend_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    first = adapters(add_lora(tiny_model(attention="sdpa"), CONFIG, seed=1))
    torch.manual_seed(2)
    state = torch.get_rng_state()
    second = adapters(add_lora(tiny_model(dtype=torch.bfloat16, attention="sdpa"), CONFIG, seed=1))
    assert torch.equal(torch.get_rng_state(), state)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = adapters(add_lora(tiny_model(attention="sdpa"), CONFIG, seed=2))
    assert not any(torch.equal(first[name], other[name]) for name in first if "lora_A" in name)


def test_first_matrix_is_uniform_within_its_bound() -> None:
    """U(−1/√in, 1/√in) has standard deviation 1/√(3 in)."""
    layer = next(iter(lora_layers(add_lora(tiny_model(attention="sdpa"), LoraConfig(rank=64), seed=3)).values()))
    values = layer.lora_A[ADAPTER].weight.detach()
    bound = values.shape[1] ** -0.5
    assert 0.95 * bound < values.abs().max() <= bound
    assert values.std() == pytest.approx(bound / 3**0.5, rel=0.05)


def test_merged_model_computes_what_the_adapters_did() -> None:
    """W + (6 / 4) B A, by hand for one layer and by logits for all."""
    wrapped = add_lora(tiny_model(attention="sdpa"), CONFIG, seed=1)
    disturb(wrapped)
    name, layer = next(iter(lora_layers(wrapped).items()))
    by_hand = layer.get_base_layer().weight + 1.5 * layer.lora_B[ADAPTER].weight @ layer.lora_A[ADAPTER].weight
    expected = logits(wrapped)
    merged = merge_lora(wrapped)
    assert type(merged).__name__ == "LlamaForCausalLM"
    assert not any("lora" in key for key in merged.state_dict())
    weight = dict(merged.named_modules())[name.removeprefix("base_model.model.")].weight
    torch.testing.assert_close(weight, by_hand, rtol=0, atol=1e-6)
    torch.testing.assert_close(logits(merged), expected, rtol=0, atol=2e-5)
    assert all(value.requires_grad for value in merged.parameters())


def test_bf16_weights_are_rounded_once() -> None:
    """The merged bf16 weights are the fp32 sum, rounded; an update smaller than half a bf16 step is not made larger."""
    wrapped = add_lora(tiny_model(dtype=torch.bfloat16, attention="sdpa"), CONFIG, seed=1)
    disturb(wrapped, scale=0.02)
    expected = {}
    for name, layer in lora_layers(wrapped).items():
        update = layer.lora_B[ADAPTER].weight @ layer.lora_A[ADAPTER].weight
        assert update.dtype == torch.float32
        expected[name.removeprefix("base_model.model.")] = layer.get_base_layer().weight.float() + 1.5 * update
    modules = dict(merge_lora(wrapped).named_modules())
    for name, value in expected.items():
        assert torch.equal(modules[name].weight, value.to(torch.bfloat16))


@pytest.mark.parametrize(
    ("targets", "words"),
    [(("q_porj",), "q_porj"), (("lm_head", "q_proj"), "output head"), (("lm_head",), "output head")],
)
def test_targets_that_do_not_fit_are_refused(targets: tuple[str, ...], words: str) -> None:
    with pytest.raises(UserError, match=words):
        add_lora(tiny_model("qwen2", attention="sdpa"), LoraConfig(targets=targets), seed=0)


def test_named_targets_only() -> None:
    wrapped = add_lora(tiny_model(attention="sdpa"), LoraConfig(targets=("q_proj", "v_proj")), seed=0)
    assert {name.rsplit(".")[-1] for name in lora_layers(wrapped)} == {"q_proj", "v_proj"}
