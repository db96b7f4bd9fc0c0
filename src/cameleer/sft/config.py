"""The settings of supervised fine-tuning. Imports no torch."""

from enum import StrEnum

from pydantic import Field

from cameleer.core.stage import BASE, Input, InputKind, StageConfig
from cameleer.core.training import AdamWConfig, LoraConfig, Precision, Schedule


class Objective(StrEnum):
    """What is minimised over the N trained tokens of an optimizer step, whatever the micro-batches and ranks.

    `token_mean`: (1/N) * sum of -log p. `sum`: the sum itself, Tülu 3's objective; its gradient is N times the other's.
    """

    TOKEN_MEAN = "token_mean"
    SUM = "sum"


class Overlong(StrEnum):
    """What happens to a row of more than `max_tokens` tokens."""

    ERROR = "error"
    TRUNCATE = "truncate"
    DROP = "drop"


class SFTConfig(StageConfig):
    """Defaults are Tülu 3's for 8B where it states them (technical report, Table 11)."""

    mixture: str = "curate"
    """The stage that makes the training conversations, or a mixture's folder."""
    model: str = BASE
    """The model to start from: `base`, a stage, or a model spec."""
    learning_rate: float = Field(default=5e-6, gt=0)
    """Peak learning rate."""
    schedule: Schedule = "linear"
    """Decay after warm-up: linear, cosine or constant."""
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
    tokens_per_batch: int = Field(default=4096, ge=2)
    """Tokens that go through the model at once on a rank, a longer row alone; sets memory and speed, not the result."""
    objective: Objective = Objective.TOKEN_MEAN
    """`token_mean` or `sum` over the optimizer step."""
    max_grad_norm: float | None = Field(default=None, gt=0)
    """Gradients above this global norm are scaled down to it; absent: never. With `sum` the norm grows with N."""
    adamw: AdamWConfig = AdamWConfig()
    """The optimizer."""
    lora: LoraConfig | None = None
    """Train low-rank adapters only; they are merged into the saved model."""
    gradient_checkpointing: bool = False
    """Keep each layer's input only and compute the rest again in backward: less memory, about a third more time."""
    precision: Precision = "auto"
    """`fp32`, `bf16` (compute; weights and optimizer stay fp32), or `auto`: bf16 on a GPU, fp32 on a CPU."""
    num_ranks: int = Field(default=1, ge=1)
    """Processes that train together on this machine; ignored under torchrun or srun, which say it themselves."""
    num_eval_rows: int = Field(default=0, ge=0)
    """Rows held out of training, on which the loss is measured at the start, after each epoch and at the end."""
    checkpoint_minutes: float = Field(default=5.0, ge=0)
    """Time between checkpoints; 0: after every step."""

    def inputs(self) -> list[Input]:
        return [Input("mixture", InputKind.MIXTURE, self.mixture), Input("model", InputKind.MODEL, self.model)]
