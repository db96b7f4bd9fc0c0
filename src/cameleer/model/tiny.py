"""Tiny models and a tiny tokenizer, made in code from nothing: for tests and CI, offline and in milliseconds."""

from typing import Any, Literal

import torch
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from cameleer.model.load import SEGMENTS

TinyKind = Literal["llama", "qwen2", "qwen3", "gemma3"]

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
VOCABULARY_SIZE = 384
CHATML_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
# Each word gives a chain of merges, one per letter: " the" makes " t", " th", " the".
WORDS = (
    " the; and; user; assistant; system; of; is; that; what; answer; number;user;system;assistant;ing;the;and;The;What"
)

# What makes a kind worth testing: llama shares one matrix between embedding and head, qwen2 has biases and a head of
# its own, qwen3 normalises queries and keys, gemma3 has layers with a sliding window and its own scale of embeddings.
KINDS: dict[TinyKind, dict[str, Any]] = {
    "llama": {"model_type": "llama", "num_hidden_layers": 2, "tie_word_embeddings": True},
    "qwen2": {"model_type": "qwen2", "num_hidden_layers": 2, "tie_word_embeddings": False},
    "qwen3": {"model_type": "qwen3", "num_hidden_layers": 2, "tie_word_embeddings": True},
    "gemma3": {
        "model_type": "gemma3_text",
        "num_hidden_layers": 3,
        "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
        "sliding_window": 8,
        "query_pre_attn_scalar": 16,
        "tie_word_embeddings": True,
    },
}


def tiny_model(
    kind: TinyKind = "llama",
    vocab_size: int = VOCABULARY_SIZE,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    attention: str = SEGMENTS,
) -> PreTrainedModel:
    """A random model of 2–3 layers, width 64, 4 query heads on 2 key heads; the same one for the same arguments.

    `llama` has 86,336 weights.

    Weights are drawn in fp32 with a spread of 0.1, five times the usual, so that logits are far from uniform.
    """
    config = AutoConfig.for_model(
        **KINDS[kind],
        vocab_size=vocab_size,
        hidden_size=64,
        intermediate_size=96,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=1024,
        initializer_range=0.1,
        bos_token_id=None,
        eos_token_id=SPECIAL_TOKENS.index("<|im_end|>"),
        pad_token_id=SPECIAL_TOKENS.index("<|endoftext|>"),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, attn_implementation=attention, dtype=torch.float32)
    return model.to(dtype).eval()


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with ChatML's special tokens and chat template; every string survives the round trip.

    No begin token; `<|im_end|>` ends a turn and the text, `<|endoftext|>` pads.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = _merges()
    vocabulary = {token: i for i, token in enumerate([*SPECIAL_TOKENS, *alphabet, *(a + b for a, b in merges)])}
    assert len(vocabulary) <= VOCABULARY_SIZE
    tokenizer = Tokenizer(BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL_TOKENS])
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
    )
    wrapped.chat_template = CHATML_TEMPLATE
    return wrapped


def _merges() -> list[tuple[str, str]]:
    merges: dict[tuple[str, str], None] = {}
    for word in WORDS.replace(" ", "Ġ").split(";"):
        for end in range(1, len(word)):
            merges[(word[:end], word[end])] = None
    return list(merges)
