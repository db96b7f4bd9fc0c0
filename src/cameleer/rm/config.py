"""The settings of reward modelling. Imports no torch."""

from pydantic import Field

from cameleer.core.stage import Input, InputKind
from cameleer.core.training import Overlong, TrainingConfig


class RMConfig(TrainingConfig):
    """Defaults are Tülu 3's (technical report, Table 36)."""

    pairs: str = "prefs"
    """The stage that makes the preference pairs, or their folder."""
    model: str = "sft"
    """The language model to start from: `base`, a stage, or a model spec."""
    learning_rate: float = Field(default=3e-6, gt=0)
    """Peak learning rate."""
    max_grad_norm: float | None = Field(default=1.0, gt=0)
    """Gradients above this global norm are scaled down to it; "none": never."""
    num_epochs: int = Field(default=1, ge=1)
    """Passes over the pairs, each in a new order."""
    batch_size: int = Field(default=256, ge=1)
    """Pairs per optimizer step, over all ranks."""
    max_tokens: int = Field(default=2048, ge=2)
    """Longest prompt with one answer, in tokens."""
    overlong: Overlong = Overlong.DROP
    """Pairs above `max_tokens`: `error`, `truncate` (answers are cut, and scored there) or `drop`; counted."""
    margin: float = Field(default=0.0, ge=0)
    """Margin that the loss wants between the scores, for each point between the pair's ratings (Llama 2, §3.2.2)."""
    num_eval_rows: int = Field(default=0, ge=0)
    """Pairs held out of training, on which loss and accuracy are measured at the start and after each epoch."""

    def inputs(self) -> list[Input]:
        return [Input("pairs", InputKind.PAIRS, self.pairs), Input("model", InputKind.MODEL, self.model)]
