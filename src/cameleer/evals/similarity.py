"""BERTScore (Zhang et al. 2020, arXiv 1904.09675): how alike two texts are, by the embeddings of their tokens.

    s_ij = cosine of token i of the candidate and token j of the reference, both from one layer of an encoder
    precision P = mean over i of max_j s_ij      recall R = mean over j of max_i s_ij      F1 = 2PR / (P + R)

As in the bert-score package with its default settings (no idf weights, no rescaling with a baseline): the tokenizer's
begin and end tokens may be the best match of a token, but have no vote of their own; a text without tokens scores 0;
text beyond the encoder's length is cut off; byte-level tokenizers read a text as though a space stood before it.

A text is encoded alone and once, so that its score is the same in any batch and equal texts tie exactly.

Suffixes: I tokens of the candidate, J tokens of the reference, T tokens of a text, H width of the encoder.
"""

import json
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModel, PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from cameleer.core.errors import UserError
from cameleer.model.load import bars_on_terminals_only, load_tokenizer
from cameleer.model.source import resolve_model

DEFAULT_ENCODER, DEFAULT_LAYER = "roberta-large", 17
"""What HREF uses, and the package's default for English."""
POSITION_OFFSETS = {"roberta": 2, "xlm-roberta": 2, "camembert": 2}
"""Model types that number positions from their padding id + 1: so many of their positions are never used."""


@dataclass(frozen=True, slots=True)
class Similarity:
    """BERTScore of a candidate and a reference."""

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class Encoded:
    """Unit vectors of a text's tokens, and which of them vote: all but the tokenizer's begin and end tokens."""

    units_TH: Tensor
    votes_T: Tensor


class Encoder:
    """One layer of an encoder model. Keeps what it has encoded, by text."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
        """`model` ends with the layer whose output is wanted."""
        self.model, self.tokenizer = model, tokenizer
        self._max_tokens = max_tokens(model, tokenizer)
        self._prefix = " " if _is_byte_level(tokenizer) else ""
        self._encoded: dict[str, Encoded] = {}

    @torch.inference_mode()
    def encode(self, text: str) -> Encoded:
        """The layer's unit vectors of a text, white space around it left out."""
        if text not in self._encoded:
            stripped = text.strip()
            read = self.tokenizer(
                self._prefix + stripped if stripped else "",
                truncation=True,
                max_length=self._max_tokens,
                return_special_tokens_mask=True,
                return_tensors="pt",
            )
            votes_T = read.pop("special_tokens_mask")[0] == 0
            output_TH = self.model(**read.to(self.model.device)).last_hidden_state[0].float().cpu()
            self._encoded[text] = Encoded(torch.nn.functional.normalize(output_TH, dim=-1), votes_T)
        return self._encoded[text]


def encoder_folder(spec: str) -> Path:
    """The folder of an encoder's spec, fetched first if need be."""
    # Hub names without an organisation are an old form that resolve_model does not know.
    return resolve_model({"roberta-large": "FacebookAI/roberta-large"}.get(spec, spec))


def load_encoder(spec: str = DEFAULT_ENCODER, layer: int = DEFAULT_LAYER) -> Encoder:
    """The encoder of a folder or hub id, cut after `layer` (1: the first).

    Raises UserError when the model has fewer layers or leaves weights unset.
    """
    folder = encoder_folder(spec)
    config = AutoConfig.from_pretrained(folder)
    if not 1 <= layer <= config.num_hidden_layers:
        raise UserError(f"{spec}: layer {layer} was asked for; it has layers 1 to {config.num_hidden_layers}.")
    config.num_hidden_layers = layer
    with bars_on_terminals_only(), _quiet():
        model, report = AutoModel.from_pretrained(folder, config=config, dtype=torch.float32, output_loading_info=True)
    # The pooler reads the output, it does not make it: many checkpoints have none.
    unset = sorted(key for key in report["missing_keys"] if not key.startswith("pooler."))
    if unset or report["mismatched_keys"]:
        raise UserError(f"{spec}: weights and config disagree: {', '.join(unset[:3]) or report['mismatched_keys']}.")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return Encoder(model.to(device).eval(), load_tokenizer(folder))


@contextmanager
def _quiet() -> Generator[None]:
    """Keep transformers from listing the weights of the layers that are cut off; missing ones are checked here."""
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)


def max_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> int:
    """The most tokens that a text may have, the tokenizer's own included."""
    positions = model.config.max_position_embeddings - POSITION_OFFSETS.get(model.config.model_type, 0)
    return min(positions, int(tokenizer.model_max_length))


def bert_score(encoder: Encoder, candidates: Sequence[str], references: Sequence[str]) -> list[Similarity]:
    """The similarity of each candidate with the reference beside it."""
    pairs = zip(candidates, references, strict=True)
    return [similarity(encoder.encode(candidate), encoder.encode(reference)) for candidate, reference in pairs]


def similarity(candidate: Encoded, reference: Encoded) -> Similarity:
    """BERTScore of two encoded texts."""
    if not candidate.votes_T.any() or not reference.votes_T.any():
        return Similarity(0.0, 0.0, 0.0)
    cosine_IJ = candidate.units_TH @ reference.units_TH.T
    precision = float(cosine_IJ.max(dim=1).values[candidate.votes_T].double().mean())
    recall = float(cosine_IJ.max(dim=0).values[reference.votes_T].double().mean())
    total = precision + recall
    return Similarity(precision, recall, 2 * precision * recall / total if total else 0.0)


def _is_byte_level(tokenizer: PreTrainedTokenizerFast) -> bool:
    """Whether the tokenizer is GPT-2's or RoBERTa's kind, and puts no space before a text by itself."""
    rule = json.loads(tokenizer.backend_tokenizer.to_str()).get("pre_tokenizer") or {}
    return rule.get("type") == "ByteLevel" and not rule.get("add_prefix_space")
