"""Sentence embeddings: a vector of length 1 for each text.

    e(text) = h / ‖h‖        h: the mean of the encoder's last hidden states over all tokens of the text

That is mean pooling (Reimers and Gurevych 2019, arXiv:1908.10084), as all-MiniLM, E5 and GTE models are used; models
that were trained to be read at one token (BGE's first, decoders' last) give poor vectors by it. A text longer than the
model's positions counts up to there.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModel, AutoTokenizer

Vectors = NDArray[np.float32]

TOKENS_PER_BATCH = 1 << 14
"""Tokens of a forward pass, padding included."""


class Embedder:
    """An encoder of this machine, in fp32, on a GPU where there is one."""

    def __init__(self, folder: Path) -> None:
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval().to(self._device)
        positions = getattr(self._model.config, "max_position_embeddings", self._tokenizer.model_max_length)
        self._max_tokens = min(self._tokenizer.model_max_length, positions)

    @property
    def width(self) -> int:
        return self._model.config.hidden_size

    @torch.inference_mode()
    def embed(self, texts: Sequence[str]) -> Vectors:
        """(N, D) unit vectors of N texts. A vector depends on its text alone, up to rounding."""
        vectors_ND = np.zeros((len(texts), self.width), np.float32)
        if not texts:
            return vectors_ND
        ids = self._tokenizer(list(texts), truncation=True, max_length=self._max_tokens)["input_ids"]
        order = sorted(range(len(ids)), key=lambda place: len(ids[place]))
        start = 0
        while start < len(order):
            end = start + 1
            while end < len(order) and (end + 1 - start) * len(ids[order[end]]) <= TOKENS_PER_BATCH:
                end += 1
            vectors_ND[order[start:end]] = self._embed([ids[place] for place in order[start:end]])
            start = end
        return vectors_ND

    def _embed(self, rows: Sequence[Sequence[int]]) -> Vectors:
        padded = self._tokenizer.pad({"input_ids": rows}, return_tensors="pt").to(self._device)
        hidden_NTD = self._model(**padded).last_hidden_state
        mask_NT1 = padded["attention_mask"][:, :, None]
        mean_ND = (hidden_NTD * mask_NT1).sum(1) / mask_NT1.sum(1)
        return torch.nn.functional.normalize(mean_ND, dim=-1).cpu().numpy()
