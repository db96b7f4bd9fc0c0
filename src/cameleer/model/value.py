"""Value models: a score head that reads every state on an answer's way instead of its end.

    V(s_t) = w · h_s          h_s: final hidden state of the token before y_t on its path;  w: (D,), no bias

The value of the state in which y_t is about to be chosen: what reward is still to come. The network is that of a reward
model: PPO's value model starts from one (`load_reward_model`; Tülu 3's choice, report §6.2), or from a policy
with a head of zeros, so that all values start at 0.
"""

from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from transformers import PreTrainedModel

from cameleer.model.policy import SegmentModel, Targets
from cameleer.model.reward import HEAD, new_reward_model


class ValueModel(SegmentModel):
    """`forward(batch)` returns (N,) values of the states before its targets; it wraps what a reward model wraps."""

    def forward(self, batch: Targets) -> Tensor:
        hidden_ND = self.hidden_states(batch).index_select(0, batch.source_N)
        # At least in fp32: values in bf16 have steps of almost 1% of their size.
        precision = torch.promote_types(hidden_ND.dtype, torch.float32)
        return hidden_ND.to(precision) @ self.head_weight[0].to(precision)

    @property
    def head_weight(self) -> Tensor:
        """(1, D)."""
        return cast(Tensor, getattr(self.causal_model, HEAD).weight)


def new_value_model(folder: Path | str, device: torch.device | str = "cpu") -> PreTrainedModel:
    """The language model in `folder` with a score head of zeros in place of its own, in fp32."""
    model = new_reward_model(folder, 0, device)
    with torch.no_grad():
        ValueModel(model).head_weight.zero_()
    return model
