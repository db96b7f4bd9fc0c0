"""The shape of Qwen3-0.6B with random weights, for benchmarks on a GPU."""

import torch
from transformers import PreTrainedModel, Qwen3Config, Qwen3ForCausalLM


def random_qwen3(
    implementation: str, vocabulary: int = 151936, layers: int = 28, dtype: torch.dtype = torch.float32
) -> PreTrainedModel:
    """The published shape, or one of fewer ids or layers, with the same weights each time."""
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=1024,
        intermediate_size=3072,
        num_hidden_layers=layers,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=128,
        max_position_embeddings=40960,
        tie_word_embeddings=True,
        attn_implementation=implementation,
        dtype=dtype,
    )
    return Qwen3ForCausalLM(config)
