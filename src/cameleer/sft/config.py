"""The settings of supervised fine-tuning. Imports no torch."""

from enum import StrEnum

from pydantic import Field

from cameleer.core.stage import BASE, Input, InputKind
from cameleer.core.training import Overlong, TrainingConfig


class Objective(StrEnum):
    """What is minimised over the N trained tokens of an optimizer step, whatever the micro-batches and ranks.

    `token_mean`: (1/N) * sum of -log p. `sum`: the sum itself, Tülu 3's objective; its gradient is N times the other's.
    """

    TOKEN_MEAN = "token_mean"
    SUM = "sum"


class SFTConfig(TrainingConfig):
    """Defaults are Tülu 3's for 8B where it states them (technical report, Table 11)."""

    mixture: str = "curate"
    """The stage that makes the training conversations, or a mixture's folder."""
    model: str = BASE
    """The model to start from: `base`, a stage, or a model spec."""
    learning_rate: float = Field(default=5e-6, gt=0)
    """Peak learning rate."""
    warmup_ratio: float = Field(default=0.03, ge=0, lt=1)
    """Share of the optimizer steps over which the learning rate rises to its peak."""
    num_epochs: int = Field(default=2, ge=1)
    """Passes over the mixture, each in a new order."""
    batch_size: int = Field(default=128, ge=1)
    """Sequences per optimizer step, over all ranks."""
    max_tokens: int = Field(default=4096, ge=2)
    """Longest sequence in tokens."""
    overlong: Overlong = Overlong.TRUNCATE
    """Rows above `max_tokens`: `error`, `truncate` (the end is cut) or `drop`; counted in the manifest."""
    objective: Objective = Objective.TOKEN_MEAN
    """Of −log p over the trained tokens of an optimizer step: `token_mean`, their mean, or `sum`, with which the
    gradient's norm grows with their number."""
    num_eval_rows: int = Field(default=0, ge=0)
    """Rows held out of training, on which the loss is measured at the start, after each epoch and at the end."""

    def inputs(self) -> list[Input]:
        return [Input("mixture", InputKind.MIXTURE, self.mixture), Input("model", InputKind.MODEL, self.model)]
