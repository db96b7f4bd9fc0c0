"""Low-rank adapters (Hu et al. 2021, arXiv:2106.09685) through peft.

W' = W + (alpha / rank) · B A,   A: (rank, in) drawn from U(−1/√in, 1/√in),   B: (out, rank) zero at the start
"""

import math
from typing import cast

import torch
from peft import LoraConfig as PeftLoraConfig
from peft import PeftModel, get_peft_model
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn
from transformers import PreTrainedModel

from cameleer.core.errors import UserError
from cameleer.core.training import LoraConfig

ADAPTER = "default"


def add_lora(model: PreTrainedModel, config: LoraConfig, seed: int) -> PreTrainedModel:
    """`model` inside a `PeftModel` with fresh adapters, the only weights that then train; it computes what it computed.

    Typed as the model because the wrapper forwards its attributes. Adapters are fp32 whatever the model's dtype. Their
    values depend on `seed` and the layers' names and shapes only, not on device, dtype or the global random state.
    Raises UserError for targets that the model lacks, and for its output head, which the loss reads as a plain matrix.
    """
    settings = PeftLoraConfig(
        r=config.rank,
        # peft declares an int and computes alpha / rank.
        lora_alpha=cast(int, config.alpha),
        target_modules=config.targets if isinstance(config.targets, str) else list(config.targets),
        task_type="CAUSAL_LM" if model.can_generate() else None,
        # A classifier's head is no output embedding, which alone peft leaves out by itself.
        exclude_modules=None if model.can_generate() else ["score"],
    )
    try:
        with torch.random.fork_rng():
            wrapped = get_peft_model(model, settings)
    except ValueError as failure:
        raise UserError(f"LoRA targets {config.targets} do not fit {type(model).__name__}: {failure}") from None
    if isinstance(model.get_output_embeddings(), LoraLinear):
        raise UserError(f"LoRA targets {config.targets} hold the output head of {type(model).__name__}; leave it out.")
    _draw_adapters(wrapped, seed)
    return cast(PreTrainedModel, wrapped)


@torch.no_grad()
def _draw_adapters(model: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for name, layer in sorted(lora_layers(model).items()):
        first, second = _adapter(layer)
        assert first.dtype == second.dtype == torch.float32, f"{name}: the adapter is {first.dtype}"
        bound = 1 / math.sqrt(first.shape[1])
        first.copy_(torch.empty(first.shape).uniform_(-bound, bound, generator=generator))
        second.zero_()


def lora_layers(model: nn.Module) -> dict[str, LoraLinear]:
    """The adapted layers by name."""
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, LoraLinear)}


def _adapter(layer: LoraLinear) -> tuple[Tensor, Tensor]:
    """A (rank, in) and B (out, rank)."""
    first, second = layer.lora_A[ADAPTER], layer.lora_B[ADAPTER]
    assert isinstance(first, nn.Linear) and isinstance(second, nn.Linear)
    return first.weight, second.weight


@torch.no_grad()
def merge_lora(model: PreTrainedModel) -> PreTrainedModel:
    """The plain model with the adapters added to its weights; `model`, from `add_lora`, is used up.

    Product and sum are taken in fp32 and rounded once to the weights' dtype. Adding to bf16 weights in place, as peft
    does, rounds the update first.
    """
    assert isinstance(model, PeftModel), f"{type(model).__name__} has no adapters"
    for layer in lora_layers(model).values():
        first, second = _adapter(layer)
        weight = cast(Tensor, layer.get_base_layer().weight)
        weight.copy_(weight.float() + layer.scaling[ADAPTER] * (second.float() @ first.float()))
    merged = cast(PreTrainedModel, model.unload())
    return merged.requires_grad_(True)
