"""Objectives, advantages, estimators of the KL divergence and corrections by name, and their settings. No torch.

What each name computes is in `objective`, `advantages` and `kl`, with its source. A setting that the chosen objective
does not read is refused by name: it would look like it did something.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple, Self

from pydantic import Field, model_validator

from cameleer.core.config import Config


class Objective(StrEnum):
    """What is minimised over the tokens of an update. `rloo` is the plain policy gradient, without ratio or clip."""

    PPO = "ppo"
    GRPO = "grpo"
    DR_GRPO = "dr_grpo"
    DAPO = "dapo"
    RLOO = "rloo"
    CISPO = "cispo"
    GSPO = "gspo"


class Advantage(StrEnum):
    """How much better than expected an answer was among those of its prompt, or (`gae`) a token by a value model."""

    GROUP_MEAN_STD = "group_mean_std"
    GROUP_MEAN = "group_mean"
    LEAVE_ONE_OUT = "leave_one_out"
    GAE = "gae"


class KLEstimator(StrEnum):
    """Of KL(policy ‖ reference): `k1` is taken off the reward, `k2` and `k3` are terms of the loss."""

    K1 = "k1"
    K2 = "k2"
    K3 = "k3"


class Correction(StrEnum):
    """What is done about tokens sampled by other weights, or other arithmetic, than those at the update's start."""

    NONE = "none"
    TRUNCATE = "truncate"
    MASK = "mask"


class _Own(NamedTuple):
    """What an objective's source states; None: it does not read the setting."""

    advantage: Advantage
    kl_estimator: KLEstimator
    clip_low: float | None
    clip_high: float | None
    kl_coefficient: float = 0.0


_OWN: dict[Objective, _Own] = {
    Objective.PPO: _Own(Advantage.GAE, KLEstimator.K1, 0.2, 0.2, kl_coefficient=0.05),
    Objective.GRPO: _Own(Advantage.GROUP_MEAN_STD, KLEstimator.K3, 0.2, 0.2),
    Objective.DR_GRPO: _Own(Advantage.GROUP_MEAN, KLEstimator.K3, 0.2, 0.2),
    Objective.DAPO: _Own(Advantage.GROUP_MEAN_STD, KLEstimator.K3, 0.2, 0.28),
    Objective.RLOO: _Own(Advantage.LEAVE_ONE_OUT, KLEstimator.K1, None, None),
    # MiniMax-M1 has no lower bound and does not state the upper one; 1 + 4 is ScaleRL's.
    Objective.CISPO: _Own(Advantage.GROUP_MEAN_STD, KLEstimator.K3, None, 4.0),
    Objective.GSPO: _Own(Advantage.GROUP_MEAN_STD, KLEstimator.K3, 3e-4, 4e-4),
}
_OF_GAE = {"gae_gamma": 1.0, "gae_lambda": 0.95, "value_clip": 0.2, "value_coefficient": 0.1}
_OF_CORRECTION = {"correction_limit": 2.0}


class ObjectiveConfig(Config):
    """The arithmetic of an update. What is absent is filled with what the objective's source states."""

    objective: Objective
    """`ppo`, `grpo`, `dr_grpo`, `dapo`, `rloo` (plain policy gradient), `cispo` or `gspo`."""
    advantage: Advantage | None = None
    """`group_mean_std`, `group_mean`, `leave_one_out` or `gae` (a value model); absent: the objective's own."""
    clip_low: float | None = Field(default=None, gt=0, lt=1)
    """The ratio counts down to 1 − this: 0.2, for `gspo` 3e-4; `rloo` and `cispo` have none."""
    clip_high: float | None = Field(default=None, gt=0)
    """The ratio counts up to 1 + this: 0.2, for `dapo` 0.28, `gspo` 4e-4, `cispo` 4; `rloo` has none."""
    kl_coefficient: float = Field(default=0.0, ge=0)
    """Weight β of the divergence from the reference model: 0.05 for `ppo` with `gae`, else 0: no reference needed."""
    kl_estimator: KLEstimator | None = None
    """`k1` taken off the reward (own of `ppo`, `rloo`), or `k2` or `k3` (own of the others) added to the loss."""
    correction: Correction = Correction.NONE
    """Weigh tokens by p(start of the update) / p(as sampled): `truncate` it at the limit, or `mask` tokens beyond."""
    correction_limit: float | None = Field(default=None, ge=1)
    """Limit of that weight, 2 when absent; `mask` also applies it downwards, at 1 / limit."""
    entropy_coefficient: float = Field(default=0.0, ge=0)
    """Weight of the entropy of the next token's distribution, which the loss then rewards."""
    gae_gamma: float | None = Field(default=None, gt=0, le=1)
    """With `gae`: discount per token; 1 when absent."""
    gae_lambda: float | None = Field(default=None, ge=0, le=1)
    """With `gae`: decay of later errors of the value model; 0.95 when absent."""
    value_clip: float | None = Field(default=None, gt=0)
    """With `gae`: how far a value may move from that at the update's start; 0.2 when absent."""
    value_coefficient: float | None = Field(default=None, gt=0)
    """With `gae`: weight of the value model's loss; 0.1 when absent."""

    @property
    def kl_in_loss(self) -> bool:
        """Whether the loss has a term of the divergence from the reference."""
        return self.kl_coefficient > 0 and self.kl_estimator is not KLEstimator.K1

    @property
    def kl_in_reward(self) -> bool:
        """Whether the divergence from the reference is taken off the rewards."""
        return self.kl_coefficient > 0 and self.kl_estimator is KLEstimator.K1

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, table: Any) -> Any:
        """The table with what its objective reads and the table leaves open."""
        if isinstance(table, str):
            table = {"objective": table}
        if not isinstance(table, Mapping):
            return table
        filled = {key: value for key, value in table.items() if value is not None}
        try:
            own = _OWN[Objective(filled["objective"])]
        except (KeyError, ValueError):
            return table
        defaults: dict[str, Any] = {key: value for key, value in own._asdict().items() if value is not None}
        if filled.get("advantage", own.advantage) == Advantage.GAE:
            defaults |= _OF_GAE
        if filled.get("advantage", own.advantage) != own.advantage:
            # The source's weight is one beside the source's advantage.
            del defaults["kl_coefficient"]
        if filled.get("correction", Correction.NONE) != Correction.NONE:
            defaults |= _OF_CORRECTION
        return defaults | filled

    @model_validator(mode="after")
    def _refuse_a_penalty_by_its_own_spread(self) -> Self:
        if self.kl_in_reward and self.advantage is Advantage.GROUP_MEAN_STD:
            raise ValueError(
                "kl_estimator = 'k1' takes the divergence off rewards, and advantage = 'group_mean_std' divides these "
                "by their spread: where all answers earn the same it would weigh as much as a right answer, whatever "
                "kl_coefficient; use k2 or k3, or advantage = 'group_mean'"
            )
        return self

    @model_validator(mode="after")
    def _refuse_unread(self) -> Self:
        own = _OWN[self.objective]
        unread = {name: f"objective = '{self.objective}'" for name, value in own._asdict().items() if value is None}
        if self.advantage is not Advantage.GAE:
            unread |= dict.fromkeys(_OF_GAE, f"advantage = '{self.advantage}'")
        if self.correction is Correction.NONE:
            unread |= dict.fromkeys(_OF_CORRECTION, "correction = 'none'")
        for name, chosen in unread.items():
            if getattr(self, name) is not None:
                raise ValueError(f"{name} = {getattr(self, name)} is not read with {chosen}; leave it out")
        return self
