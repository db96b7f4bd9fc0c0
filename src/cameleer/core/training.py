"""Settings that training stages share. Here rather than in `cameleer.train`, so that recipes parse without torch."""

from enum import StrEnum
from typing import Literal

from pydantic import Field

from cameleer.core.config import Config
from cameleer.core.stage import StageConfig

Schedule = Literal["linear", "cosine", "constant"]
Precision = Literal["auto", "fp32", "bf16"]


class AdamWConfig(Config):
    """AdamW (Loshchilov & Hutter 2019)."""

    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of the running means of gradient and squared gradient."""
    eps: float = Field(default=1e-8, gt=0)
    """Added to the square root in the denominator."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled decay of matrices; vectors (norms, biases) are not decayed."""


class LoraConfig(Config):
    """Low-rank adapters (Hu et al. 2021), through peft: W + (alpha / rank) B A."""

    rank: int = Field(default=16, ge=1)
    """Inner dimension of the adapters."""
    alpha: float = Field(default=32.0, gt=0)
    """Scale of the adapters, divided by the rank."""
    targets: tuple[str, ...] | Literal["all-linear"] = "all-linear"
    """Names of the adapted modules; `all-linear` is every linear layer but the head."""


class Overlong(StrEnum):
    """What happens to a row of more than `max_tokens` tokens."""

    ERROR = "error"
    TRUNCATE = "truncate"
    DROP = "drop"


class TrainingConfig(StageConfig):
    """What every stage that trains a model can be told; a stage overrides the defaults that its recipe states."""

    HOW = frozenset({"tokens_per_batch", "gradient_checkpointing", "num_ranks", "checkpoint_minutes"})

    learning_rate: float = Field(gt=0)
    """Peak learning rate."""
    schedule: Schedule = "linear"
    """Decay after warm-up: linear, cosine or constant."""
    warmup_ratio: float = Field(default=0.0, ge=0, lt=1)
    """Share of the optimizer steps over which the learning rate rises to its peak."""
    max_grad_norm: float | None = Field(default=None, gt=0)
    """Gradients above this global norm are scaled down to it; absent: never."""
    tokens_per_batch: int = Field(default=4096, ge=2)
    """Tokens that go through the model at once on a rank, a longer row alone; sets memory and speed, not the result."""
    adamw: AdamWConfig = AdamWConfig()
    """The optimizer."""
    lora: LoraConfig | None = None
    """Train low-rank adapters only; they are merged into the saved model."""
    gradient_checkpointing: bool = False
    """Keep each layer's input only and compute the rest again in backward: less memory, about a third more time."""
    precision: Precision = "auto"
    """`fp32`, `bf16` (compute; weights and optimizer stay fp32), or `auto`: bf16 on a GPU, fp32 on a CPU."""
    num_ranks: int = Field(default=1, ge=1)
    """Processes that train together on this machine; ignored under torchrun, which says it itself."""
    checkpoint_minutes: float = Field(default=5.0, ge=0)
    """Time between checkpoints; 0: after every step."""
