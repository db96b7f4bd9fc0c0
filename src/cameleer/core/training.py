"""Settings that training stages share. Here rather than in `cameleer.train`, so that recipes parse without torch."""

from typing import Literal

from pydantic import Field

from cameleer.core.config import Config

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
