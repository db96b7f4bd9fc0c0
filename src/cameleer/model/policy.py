"""A language model as training sees it: a batch of segments in, one log-probability per target out."""

from typing import Protocol

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from cameleer.core.errors import UserError
from cameleer.model.logprobs import token_logprobs, token_logprobs_and_entropies
from cameleer.model.segments import Segments

# Post-processing of logits that some models' own heads do and `token_logprobs` does not.
LOGIT_FEATURES = ("final_logit_softcapping", "logit_scale", "logits_scaling", "output_multiplier_scale")


class Tokens(Protocol):
    """What a decoder reads of a batch (`cameleer.train.layout.Batch`): T tokens in segments."""

    @property
    def ids_T(self) -> Tensor: ...
    @property
    def positions_T(self) -> Tensor: ...
    @property
    def segments(self) -> Segments: ...


class Targets(Tokens, Protocol):
    """What the policy reads of a batch: N targets, and the tokens whose hidden states predict them."""

    @property
    def source_N(self) -> Tensor: ...
    @property
    def target_N(self) -> Tensor: ...


class SegmentModel(nn.Module):
    """Wraps a transformers decoder loaded with `attention="segments"`; its `forward` takes a batch of segments."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    @property
    def causal_model(self) -> PreTrainedModel:
        """The transformers model itself, inside the LoRA wrapper if there is one."""
        get_base = getattr(self.model, "get_base_model", None)
        return get_base() if get_base is not None else self.model

    def hidden_states(self, batch: Tokens) -> Tensor:
        """(T, D) final hidden states of the batch's tokens."""
        decoder = self.causal_model.base_model
        output = decoder(
            input_ids=batch.ids_T[None], position_ids=batch.positions_T[None], segments=batch.segments, use_cache=False
        )
        return output.last_hidden_state[0]


class Policy(SegmentModel):
    """A causal language model: `forward(batch)` returns (N,) log-probabilities of the batch's targets at a temperature;
    or, `with_entropy`, (2, N): these, and below them the entropies of the whole distributions.

    The head runs inside this module's forward, so that sharding the wrapper (FSDP2) gathers the embedding and the head
    exactly when they are needed.
    """

    def __init__(self, model: PreTrainedModel, temperature: float = 1.0, with_entropy: bool = False) -> None:
        super().__init__(model)
        refuse_logit_features(model)
        self.temperature, self.with_entropy = temperature, with_entropy

    @property
    def head_weight(self) -> Tensor:
        """The (V, D) matrix that turns hidden states into logits."""
        head = self.causal_model.get_output_embeddings()
        assert isinstance(head, nn.Linear) and head.bias is None, (
            f"the head of {type(self.causal_model).__name__} is not a plain matrix"
        )
        return head.weight

    def forward(self, batch: Targets) -> Tensor:
        hidden_ND = self.hidden_states(batch).index_select(0, batch.source_N)
        if self.with_entropy:
            both = token_logprobs_and_entropies(hidden_ND, self.head_weight, batch.target_N, self.temperature)
            return torch.stack(both)
        return token_logprobs(hidden_ND, self.head_weight, batch.target_N, self.temperature)


def refuse_logit_features(model: PreTrainedModel) -> None:
    """Raise a UserError that names a transformation of the logits which the loss head would leave out."""
    config = model.config.get_text_config()
    for feature in LOGIT_FEATURES:
        value = getattr(config, feature, None)
        if value not in (None, 1, 1.0):
            raise UserError(f"{type(model).__name__}: {feature} = {value} is not supported by the loss head.")
