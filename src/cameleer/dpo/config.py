"""The settings of preference tuning. Imports no torch."""

from enum import StrEnum
from typing import Any, Self

from pydantic import Field, model_validator

from cameleer.core.stage import Input, InputKind
from cameleer.core.training import Overlong, TrainingConfig


class Objective(StrEnum):
    """What is minimised; the formulas are in `cameleer.dpo.loss`."""

    DPO_NORM = "dpo_norm"
    DPO = "dpo"
    SIMPO = "simpo"
    IPO = "ipo"
    KTO = "kto"
    ORPO = "orpo"

    @property
    def has_reference(self) -> bool:
        """Whether it compares with a frozen model."""
        return self not in (Objective.SIMPO, Objective.ORPO)


class Smoothing(StrEnum):
    """What `label_smoothing`, the share of labels taken to be flipped, does to the loss."""

    CONSERVATIVE = "conservative"
    ROBUST = "robust"


_DEFAULTS: dict[Objective, dict[str, float]] = {
    Objective.DPO_NORM: {"beta": 5.0},
    Objective.DPO: {"beta": 0.1},
    Objective.SIMPO: {"beta": 2.0, "gamma": 1.0},
    Objective.IPO: {"beta": 0.1},
    Objective.KTO: {"beta": 0.1},
    Objective.ORPO: {"beta": 0.1, "sft_coefficient": 1.0},
}
"""Defaults that depend on the objective: Tülu 3's (report, Tables 18 and 20), else those of the objective's authors."""

_LOGISTIC = (Objective.DPO_NORM, Objective.DPO, Objective.SIMPO)
_READ_BY: dict[str, tuple[Objective, ...]] = {
    "reference": tuple(each for each in Objective if each.has_reference),
    "label_smoothing": _LOGISTIC,
    "smoothing": _LOGISTIC,
    "gamma": (Objective.SIMPO,),
    "desirable_weight": (Objective.KTO,),
    "undesirable_weight": (Objective.KTO,),
}
"""Settings that some objectives do not read, and those that do."""


class DPOConfig(TrainingConfig):
    """Defaults are Tülu 3's for 8B where it states them (technical report, Table 20)."""

    pairs: str = "prefs"
    """The stage that makes the preference pairs, or a folder of pairs."""
    model: str = "sft"
    """The model to start from: a stage, `base`, or a model spec."""
    reference: str | None = None
    """The frozen model that the trained one is compared with; `model` when absent."""
    objective: Objective = Objective.DPO_NORM
    """What is minimised; all but `simpo` and `orpo` compare with a reference."""
    beta: float = Field(default=5.0, gt=0)
    """β of the objective; absent: 5 for `dpo_norm`, 2 for `simpo`, 0.1 for the others."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """Share of pairs taken to have chosen and rejected swapped; `dpo_norm`, `dpo` and `simpo` read it."""
    smoothing: Smoothing = Smoothing.CONSERVATIVE
    """With `label_smoothing`: `conservative` averages the losses of both labels, `robust` corrects for swapped ones."""
    gamma: float = Field(default=0.0, ge=0)
    """Margin γ that `simpo` asks for between the two rewards; absent: 1 for `simpo`."""
    desirable_weight: float = Field(default=1.0, gt=0)
    """Weight of chosen answers in `kto`."""
    undesirable_weight: float = Field(default=1.0, gt=0)
    """Weight of rejected answers in `kto`."""
    sft_coefficient: float = Field(default=0.0, ge=0)
    """Weight of −log p of the chosen answers' tokens, added to the objective; absent: 1 for `orpo`, else 0."""
    learning_rate: float = Field(default=5e-7, gt=0)
    """Peak learning rate."""
    warmup_ratio: float = Field(default=0.1, ge=0, lt=1)
    """Share of the optimizer steps over which the learning rate rises to its peak."""
    num_epochs: int = Field(default=1, ge=1)
    """Passes over the pairs, each in a new order."""
    batch_size: int = Field(default=128, ge=1)
    """Pairs per optimizer step, over all ranks."""
    max_tokens: int = Field(default=2048, ge=2)
    """Longest prompt with either answer, in tokens."""
    overlong: Overlong = Overlong.TRUNCATE
    """Pairs above `max_tokens`: `error`, `truncate` (ends of answers are cut) or `drop`; counted in the manifest."""
    num_eval_rows: int = Field(default=0, ge=0)
    """Pairs held out of training, on which the loss is measured at the start, after each epoch and at the end."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, values: Any) -> Any:
        """Put the objective's own defaults where nothing is said."""
        if not isinstance(values, dict):
            return values
        try:
            objective = Objective(values.get("objective", Objective.DPO_NORM))
        except ValueError:
            return values
        return {**_DEFAULTS[objective], **values}

    @model_validator(mode="after")
    def _refuse_unread(self) -> Self:
        """Refuse a setting that would change nothing."""
        for name, readers in _READ_BY.items():
            if self.objective not in readers and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(
                    f"{name} = {getattr(self, name)} has no effect with objective = '{self.objective}'; it belongs to "
                    f"{', '.join(readers)}"
                )
        if self.smoothing is not Smoothing.CONSERVATIVE and not self.label_smoothing:
            raise ValueError(f"smoothing = '{self.smoothing}' has no effect with label_smoothing = 0")
        return self

    def inputs(self) -> list[Input]:
        inputs = [Input("pairs", InputKind.PAIRS, self.pairs), Input("model", InputKind.MODEL, self.model)]
        if self.objective.has_reference:
            inputs.append(Input("reference", InputKind.MODEL, self.reference or self.model))
        return inputs
