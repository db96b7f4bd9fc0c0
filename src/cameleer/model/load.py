"""Models and tokenizers between folders in Hugging Face format and memory."""

import copy
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from peft import PeftModel
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING
from transformers.utils import logging as transformers_logging

from cameleer.core.artifact import read_manifest
from cameleer.core.errors import UserError
from cameleer.core.render import ChatTokenizer, Renderer
from cameleer.core.types import ChatTemplate
from cameleer.model import attention as segment_attention

SEGMENTS = segment_attention.NAME
"""The attention that training uses; importing its module has registered it with transformers."""


def load_tokenizer(folder: Path | str) -> PreTrainedTokenizerFast:
    """The tokenizer of a model folder, exactly as its `tokenizer.json` describes it.

    AutoTokenizer of transformers 5 rebuilds the backend from vocabulary and merges when `tokenizer_config.json` names a
    model's tokenizer class, and loses the pre-tokenizer on the way: SmolLM2, whose config says GPT2Tokenizer, gets
    other ids for spaces before digits. It is used only for folders that have no `tokenizer.json`.
    """
    reader: Any = PreTrainedTokenizerFast if (Path(folder) / "tokenizer.json").is_file() else AutoTokenizer
    tokenizer = reader.from_pretrained(folder)
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise UserError(f"{folder}: {type(tokenizer).__name__} is not supported; Cameleer needs a tokenizer.json.")
    # Left from how the tokenizer was once used; either would cut or fill rows behind our back.
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    return tokenizer


def load_renderer(folder: Path | str, chat_template: ChatTemplate) -> Renderer:
    """The renderer on a model folder's tokenizer.

    Raises UserError if the folder has no chat template and none is chosen, and for a model whose manifest says that it
    was made under another template: it has never seen the like of what this renderer makes.
    """
    try:
        renderer = Renderer(cast(ChatTokenizer, load_tokenizer(folder)), chat_template)
    except UserError as error:
        raise UserError(f"{folder}: {error.what}", error.hint) from None
    manifest = read_manifest(Path(folder))
    made_under = None if manifest is None else manifest.template_fingerprint
    if made_under not in (None, renderer.fingerprint):
        raise UserError(
            f"{folder}: this model was made under another chat template than '{chat_template}' "
            f"(fingerprint {made_under[:12]}, here {renderer.fingerprint[:12]}).",
            "Set chat_template to what the recipe that made it says.",
        )
    return renderer


def load_model(
    folder: Path | str,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    attention: str = SEGMENTS,
) -> PreTrainedModel:
    """The causal language model of a folder with weights in `dtype`, in eval mode.

    `attention` is a name that transformers knows: "segments" (this package's, which needs `segments=` in each forward),
    "sdpa", "eager", … Raises UserError for an encoder-decoder or another kind of model, and for a checkpoint that
    leaves weights of the model unset, which transformers would fill at random. On the "meta" device nothing is read.
    """
    config = AutoConfig.from_pretrained(folder)
    if config.is_encoder_decoder:
        raise UserError(
            f"{folder}: {config.model_type} is an encoder-decoder model; Cameleer trains decoder-only language models."
        )
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise UserError(f"{folder}: transformers has no causal language model of type {config.model_type}.")
    loader: Any = AutoModelForCausalLM
    if torch.device(device).type == "meta":
        model = without_weights(loader, config, dtype, attention)
        if (Path(folder) / "generation_config.json").is_file():
            model.generation_config = GenerationConfig.from_pretrained(folder)
        return model
    with bars_on_terminals_only():
        model, report = loader.from_pretrained(
            folder, dtype=dtype, attn_implementation=attention, output_loading_info=True
        )
    unset = sorted([*report["missing_keys"], *(str(entry[0]) for entry in report["mismatched_keys"])])
    if unset:
        shown = ", ".join(unset[:3]) + (", …" if len(unset) > 3 else "")
        raise UserError(f"{folder}: weights and config disagree: {len(unset)} missing or of another shape: {shown}.")
    head = model.get_output_embeddings()
    if config.get_text_config().tie_word_embeddings and head.weight is not model.get_input_embeddings().weight:
        raise UserError(
            f"{folder}: its config ties embedding and head to one matrix, and its weights are two different ones.",
            "Set tie_word_embeddings to false in config.json, or take the second matrix out of the file.",
        )
    return model.to(device).eval()


def without_weights(loader: Any, config: PretrainedConfig, dtype: torch.dtype, attention: str) -> PreTrainedModel:
    """What `loader`, one of transformers' auto classes, makes of a config, on the meta device, in eval mode."""
    with torch.device("meta"):
        model: PreTrainedModel = loader.from_config(config, dtype=dtype, attn_implementation=attention)
    return model.eval()


def context_length(config: PretrainedConfig) -> int | None:
    """The most tokens that prompt and completion may have together; None for a model that states no limit."""
    return getattr(config.get_text_config(), "max_position_embeddings", None)


def check_same_tokens(renderer: Renderer, folder: Path, chat_template: ChatTemplate, what: str, model: Path) -> None:
    """Raise a UserError unless the model in `folder`, here called `what`, reads texts as the same tokens as `model`,
    which `renderer` belongs to."""
    other = load_renderer(folder, chat_template)
    vocabularies = [each.tokenizer.backend_tokenizer.get_vocab() for each in (renderer, other)]
    if other.fingerprint != renderer.fingerprint or vocabularies[0] != vocabularies[1]:
        raise UserError(
            f"{folder}: the {what} reads texts as other tokens than {model}: its tokenizer or chat template differs.",
            f"Choose a {what} with the same tokenizer.",
        )


def stored_dtype(folder: Path | str) -> torch.dtype:
    """The dtype in which a model folder holds its weights, as its config says; fp32 where it says nothing."""
    dtype = AutoConfig.from_pretrained(folder).dtype
    return dtype if isinstance(dtype, torch.dtype) else torch.float32


def save_model(
    model: PreTrainedModel,
    tokenizer: ChatTokenizer | PreTrainedTokenizerFast,
    folder: Path | str,
    dtype: torch.dtype | None = None,
    stop_ids: Sequence[int] = (),
) -> None:
    """Write model, tokenizer with its chat template, and generation config so that plain transformers reads them.

    Weights are cast to `dtype` (None: as they are) on the way out; `model` itself is not changed. `stop_ids`, if given,
    become the end tokens of the saved generation config, so that generation elsewhere ends where it ends here; a model
    that does not generate has no such config. LoRA must be merged first (`cameleer.model.lora.merge_lora`).
    """
    assert not isinstance(model, PeftModel), "merge_lora first: the adapter would be saved without its base"
    folder = Path(folder)
    weights = None if dtype is None else {name: value.detach().to(dtype) for name, value in model.state_dict().items()}
    with bars_on_terminals_only():
        model.save_pretrained(folder, state_dict=weights)
    if dtype is not None:
        # save_pretrained writes the dtype of the model in memory, and "auto" would load the weights in that.
        config = copy.deepcopy(model.config)
        config.dtype = dtype
        config.save_pretrained(folder)
    if stop_ids and model.can_generate():
        generation = copy.deepcopy(model.generation_config)
        generation.eos_token_id = list(stop_ids)
        # Else transformers derives the generation config anew from the model's and forgets the ids.
        generation._from_model_config = False  # pyright: ignore[reportPrivateUsage]
        generation.save_pretrained(folder)
    tokenizer.save_pretrained(str(folder))
    share_weights(folder)


def share_weights(folder: Path) -> None:
    """Give the weight files the mode of the other files: safetensors makes them readable by their owner only."""
    mode = (folder / "config.json").stat().st_mode & 0o777
    for file in folder.glob("*.safetensors"):
        file.chmod(mode)


@contextmanager
def quiet_loading() -> Generator[None, None, None]:
    """Without transformers' report of what a checkpoint lacks: for callers that look at it themselves."""
    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        with bars_on_terminals_only():
            yield
    finally:
        transformers_logging.set_verbosity(level)


@contextmanager
def bars_on_terminals_only() -> Generator[None, None, None]:
    """Keep transformers' progress bars out of logs and files."""
    if sys.stderr.isatty() or not transformers_logging.is_progress_bar_enabled():
        yield
        return
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.enable_progress_bar()
