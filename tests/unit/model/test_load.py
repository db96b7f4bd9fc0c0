"""Models to folders and back; tokenizers as their file says; tiny models are what they claim."""

import json
import stat
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tokenizers import pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    T5Config,
    ViTConfig,
)

from cameleer.core.errors import UserError
from cameleer.core.training import LoraConfig
from cameleer.model.load import load_model, load_renderer, load_tokenizer, save_model
from cameleer.model.lora import add_lora
from cameleer.model.tiny import KINDS, VOCABULARY_SIZE, TinyKind, tiny_model, tiny_tokenizer

IDS = torch.arange(3, 40)[None]


def logits(model: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits


# --- tiny models ---


@pytest.mark.parametrize("kind", list(KINDS))
def test_tiny_models_are_reproducible_and_opinionated(kind: TinyKind) -> None:
    state = torch.get_rng_state()
    model = tiny_model(kind, seed=3, attention="sdpa")
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(logits(model), logits(tiny_model(kind, seed=3, attention="sdpa")))
    assert not torch.equal(logits(model), logits(tiny_model(kind, seed=4, attention="sdpa")))
    assert logits(model).shape == (1, IDS.shape[1], VOCABULARY_SIZE)
    # Far from uniform, far from certain: a wrong token or mask shows in the loss.
    probabilities = logits(model).softmax(-1)
    assert 3 / VOCABULARY_SIZE < probabilities.amax(-1).mean() < 0.5
    config = model.config
    assert config.num_attention_heads == 2 * config.num_key_value_heads


def test_tiny_gemma_has_sliding_windows_that_matter() -> None:
    """A token 30 back reaches the last logits through the full layer alone; with that sliding too, not at all."""
    model = tiny_model("gemma3", attention="eager")
    assert model.config.layer_types == ["sliding_attention", "sliding_attention", "full_attention"]
    changed = IDS.clone()
    changed[0, 0] = 200
    with torch.no_grad():
        hidden = [model(input_ids=ids, output_hidden_states=True).hidden_states for ids in (IDS, changed)]
    reach = [int((a - b).abs().sum(-1)[0].nonzero().max()) for a, b in zip(*hidden, strict=True)]
    assert reach[:3] == [0, 7, 14] and reach[3] == IDS.shape[1] - 1


def test_tiny_tokenizer_round_trips_every_text() -> None:
    tokenizer = tiny_tokenizer()
    for text in ["the answer is 12", "  two\n\n\tthree ", "日本語 🐪 café", "".join(map(chr, range(1, 800)))]:
        assert tokenizer.decode(tokenizer(text, add_special_tokens=False).input_ids) == text
    assert tokenizer(" the user", add_special_tokens=False).tokens() == ["Ġthe", "Ġuser"]
    assert (tokenizer.bos_token, tokenizer.eos_token_id, tokenizer.pad_token_id) == (None, 2, 0)


# --- save and load ---


@pytest.mark.parametrize("kind", list(KINDS))
def test_saved_models_are_plain_transformers_models(kind: TinyKind, tmp_path: Path) -> None:
    """Made for segment attention, read by plain transformers: the same logits, tokenizer and template."""
    model = tiny_model(kind)
    save_model(model, tiny_tokenizer(), tmp_path)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path)
    model.set_attn_implementation("sdpa")
    assert plain.dtype == torch.float32
    assert torch.equal(logits(plain.eval()), logits(model))
    assert torch.equal(logits(load_model(tmp_path, attention="sdpa")), logits(model))
    assert "segments" not in (tmp_path / "config.json").read_text()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.get_vocab() == tiny_tokenizer().get_vocab()
    assert tokenizer.chat_template == tiny_tokenizer().chat_template


@pytest.mark.parametrize("kind", list(KINDS))
def test_tied_matrices_are_stored_once_and_stay_tied(kind: TinyKind, tmp_path: Path) -> None:
    save_model(tiny_model(kind), tiny_tokenizer(), tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert ("lm_head.weight" in file.keys()) == (kind == "qwen2")  # noqa: SIM118
    model = load_model(tmp_path)
    tied = model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert tied == (kind != "qwen2")


def test_saving_in_bf16_casts_the_copy_only(tmp_path: Path) -> None:
    model = tiny_model("llama")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    save_model(model, tiny_tokenizer(), tmp_path, torch.bfloat16)
    assert model.dtype == torch.float32
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "bfloat16"
    plain = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert plain.dtype == torch.bfloat16
    assert all(torch.equal(value, before[name].to(torch.bfloat16)) for name, value in plain.state_dict().items())
    assert load_model(tmp_path).dtype == torch.float32


def test_stop_ids_go_into_the_generation_config(tmp_path: Path) -> None:
    model = tiny_model("llama", attention="sdpa")
    save_model(model, tiny_tokenizer(), tmp_path, stop_ids=(0, 2))
    assert GenerationConfig.from_pretrained(tmp_path).eos_token_id == [0, 2]
    assert model.generation_config.eos_token_id == 2
    plain = AutoModelForCausalLM.from_pretrained(tmp_path)
    # All the weight of the head on id 0: the first token sampled ends the text.
    with torch.no_grad():
        plain.get_input_embeddings().weight[0] = 50 * plain.model(input_ids=IDS).last_hidden_state[0, -1]
    assert plain.generate(IDS, attention_mask=torch.ones_like(IDS), max_new_tokens=5)[0, IDS.shape[1] :].tolist() == [0]


def test_weights_are_readable_by_whoever_reads_the_config(tmp_path: Path) -> None:
    """safetensors writes files for their owner's eyes only; a group shares models."""
    save_model(tiny_model(), tiny_tokenizer(), tmp_path)
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("config.json", "model.safetensors")}
    assert len(modes) == 1


def test_adapters_are_not_saved_as_a_model(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="merge_lora first"):
        save_model(add_lora(tiny_model(), LoraConfig(rank=2), 0), tiny_tokenizer(), tmp_path)


# --- refusals ---


def test_encoder_decoder_is_refused_by_name(tmp_path: Path) -> None:
    T5Config().save_pretrained(tmp_path)
    with pytest.raises(UserError, match="t5 is an encoder-decoder"):
        load_model(tmp_path)


def test_other_kinds_of_models_are_refused_by_name(tmp_path: Path) -> None:
    ViTConfig().save_pretrained(tmp_path)
    with pytest.raises(UserError, match="no causal language model of type vit"):
        load_model(tmp_path)


def test_missing_weights_are_refused_by_name(tmp_path: Path) -> None:
    """transformers would fill them at random and say so in a warning."""
    save_model(tiny_model("qwen2"), tiny_tokenizer(), tmp_path)
    weights = tiny_model("qwen2").state_dict()
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"1 missing .*model.layers.1.mlp.up_proj.weight"):
        load_model(tmp_path)


# --- tokenizers ---


def test_tokenizer_is_what_its_file_says(tmp_path: Path) -> None:
    """SmolLM2's published config names GPT2Tokenizer. AutoTokenizer then makes GPT-2's pre-tokenizer, which does not
    take digits apart, and other ids come out."""
    tokenizer = tiny_tokenizer()
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(True), byte_level])
    save_model(tiny_model(), tokenizer, tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config | {"tokenizer_class": "GPT2Tokenizer"}))

    def words(reader: PreTrainedTokenizerFast) -> list[str]:
        return [word for word, _ in reader.backend_tokenizer.pre_tokenizer.pre_tokenize_str("a  12")]

    assert words(load_tokenizer(tmp_path)) == ["a", "ĠĠ", "1", "2"]
    assert words(AutoTokenizer.from_pretrained(tmp_path)) == ["a", "Ġ", "Ġ12"]


def test_truncation_left_in_a_file_does_not_cut(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.enable_truncation(4)
    tokenizer.backend_tokenizer.enable_padding(length=64)
    tokenizer.save_pretrained(tmp_path)
    text = "a longer text than that"
    expected = tiny_tokenizer().backend_tokenizer.encode(text).ids
    assert load_tokenizer(tmp_path).backend_tokenizer.encode(text).ids == expected
    assert len(expected) > 4


def test_renderer_errors_name_the_folder(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=f"{tmp_path.name}: .*no chat template"):
        load_renderer(tmp_path, "model")
    assert load_renderer(tmp_path, "tulu").stop_ids == (2,)
