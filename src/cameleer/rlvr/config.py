"""The settings of reinforcement learning with verifiable rewards. Imports no torch."""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Self

from pydantic import Field, field_validator, model_validator

from cameleer.core.config import Config
from cameleer.core.errors import UserError
from cameleer.core.stage import Input, InputKind
from cameleer.core.training import AdamWConfig, TrainingConfig
from cameleer.rlvr.names import Advantage, Correction, Objective, ObjectiveConfig
from cameleer.tasks import find_task


class Overlong(Config):
    """DAPO's soft punishment: from 0 at `max_new_tokens - buffer_tokens` down to -1 at `max_new_tokens`."""

    weight: float = Field(default=1.0, gt=0)
    """Factor of the term."""
    buffer_tokens: int = Field(ge=1)
    """Tokens before `max_new_tokens` at which the punishment begins."""


class Repetition(Config):
    """Punishes an answer that goes round in circles: minus the share of its 4-grams of tokens that occurred before."""

    weight: float = Field(default=1.0, gt=0)
    """Factor of the term."""


class Format(Config):
    """Rewards an answer in which a pattern is found."""

    weight: float = Field(default=1.0, gt=0)
    """Factor of the term."""
    pattern: str
    """A regular expression, searched for anywhere in the answer."""

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as failure:
            raise ValueError(f"not a regular expression: {failure}") from None
        return pattern


class Instructions(Config):
    """Rewards each instruction that an answer follows, where a prompt has several."""

    weight: float = Field(default=1.0, gt=0)
    """Factor of the term."""


class RewardConfig(Config):
    """What an answer is worth. Defaults are Tülu 3's."""

    correct: float = Field(default=10.0, gt=0)
    """Reward of a correct answer; a verifier's partial score is worth that share of it."""
    missing_end: float | None = -10.0
    """Reward of an answer cut off at `max_new_tokens`, in place of all else; "none": rewarded like any other."""
    overlong: Overlong | None = None
    """Adds a punishment of long answers."""
    repetition: Repetition | None = None
    """Adds a punishment of repetition."""
    format: Format | None = None
    """Adds a reward for a pattern."""
    instructions: Instructions | None = None
    """Adds a reward for the share of a prompt's instructions that the answer follows."""

    def earned(self, pass_rate: float, terms: Mapping[str, float]) -> float:
        """The share of the most that answers can earn, by verdicts and by the terms that reward; `terms` are weighted.

        Without such terms it is the pass rate. Punishments are left out: to lose less is not to have solved more.
        """
        most = self.correct + sum(each.weight for each in (self.format, self.instructions) if each is not None)
        return (self.correct * pass_rate + terms.get("format", 0.0) + terms.get("instructions", 0.0)) / most


class Difficulty(Config):
    """Pass rates measured with the starting model before the first step, for a choice and an order of problems."""

    num_samples: int = Field(default=4, ge=1)
    """Answers drawn for each problem."""
    pass_rate: tuple[float, float] = (0.0, 1.0)
    """Lowest and highest pass rate of the problems that are kept."""
    easy_first: bool = False
    """Whether each epoch goes from the problems with the highest pass rate to those with the lowest."""

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        low, high = self.pass_rate
        if not 0 <= low <= high <= 1:
            raise ValueError(f"pass_rate = [{low}, {high}] is not a range within [0, 1]")
        return self


class KeptModel(StrEnum):
    """Which weights are saved at the end: the last, or those with the best held-out accuracy."""

    LAST = "last"
    BEST = "best"


class HeldOut(Config):
    """Problems that are measured and never trained on, answered greedily at the start, every n steps and at the end."""

    num_problems: int = Field(default=0, ge=0)
    """Problems kept out of training."""
    tasks: tuple[str, ...] = ()
    """Development tasks measured besides."""
    num_items: int = Field(default=100, ge=1)
    """Items of each of these tasks."""
    every: int = Field(default=20, ge=1)
    """Steps between two measurements."""
    keep: KeptModel = KeptModel.BEST
    """`best` by the mean accuracy over tasks, or `last`; without held-out problems always the last."""

    @field_validator("tasks")
    @classmethod
    def _tasks_are_open(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            try:
                find_task(name)
            except UserError as failure:
                raise ValueError(failure.what.rstrip(".")) from None
        return names


class AlarmConfig(Config):
    """When a run looks as if the model were being rewarded for the wrong thing. Each alarm is raised once."""

    window: int = Field(default=5, ge=1)
    """Steps over which a metric is averaged before it is compared."""
    reward_gap: float = Field(default=0.2, gt=0)
    """Alarm when what answers in training earn, as a share of the most that they could, has risen by at least this,
    and held-out accuracy by less than a quarter of it."""
    length_factor: float = Field(default=3.0, gt=1)
    """Answers have become so many times as long as at the start, or as short."""
    repetition: float = Field(default=0.5, gt=0)
    """Share of repeated 4-grams in answers."""
    kl: float = Field(default=1.0, gt=0)
    """Nats per token away from the policy that sampled, or from the reference where there is one."""
    verifier_errors: float = Field(default=0.1, gt=0)
    """Share of verdicts `error` or `timeout`."""


class RLVRConfig(TrainingConfig):
    """Defaults are Tülu 3's for 8B where it states them (technical report, Table 21 and §6.2)."""

    HOW = TrainingConfig.HOW | {"sampling_batch_size", "alarms"}

    problems: str = "curate"
    """The stage that makes the problems, or their folder."""
    model: str = "dpo"
    """The model to start from: a stage, `base`, or a model spec."""
    reference: str | None = None
    """The frozen model that the KL penalty keeps near; the one to start from when absent."""
    value_model: str | None = "rm"
    """With `advantage = "gae"`, where the value model starts: a stage that makes a reward model, or its folder; "none":
    the policy's weights."""
    objective: ObjectiveConfig = ObjectiveConfig(objective=Objective.PPO)
    """What is minimised, by name or as a table: objective, advantage, KL penalty; absent: Tülu 3's PPO."""
    reward: RewardConfig = RewardConfig()
    """What an answer is worth."""
    learning_rate: float = Field(default=3e-7, gt=0)
    """Peak learning rate."""
    value_learning_rate: float | None = Field(default=None, gt=0)
    """Peak learning rate of the value model; the policy's when absent."""
    max_grad_norm: float | None = Field(default=1.0, gt=0)
    """Gradients above this global norm are scaled down to it; "none": never."""
    adamw: AdamWConfig = AdamWConfig(eps=1e-5)
    """The optimizer."""
    num_epochs: int = Field(default=1, ge=1)
    """Passes over the problems, each in a new order."""
    num_steps: int | None = Field(default=None, ge=1)
    """Steps of the run, in place of `num_epochs`."""
    prompts_per_step: int = Field(default=224, ge=1)
    """Prompts that a step samples answers to."""
    samples_per_prompt: int = Field(default=1, ge=1)
    """Answers to each prompt: a group."""
    num_passes: int = Field(default=4, ge=1)
    """Times that a step learns from its rollouts."""
    num_mini_batches: int = Field(default=1, ge=1)
    """Optimizer steps of each pass; prompts are dealt to them anew in every pass."""
    temperature: float = Field(default=1.0, gt=0)
    """Of sampling, and of the probabilities that are trained."""
    max_new_tokens: int = Field(default=2048, ge=1)
    """Longest answer in tokens."""
    max_prompt_tokens: int = Field(default=2048, ge=1)
    """Longer prompts are left out and counted."""
    max_staleness: int = Field(default=1, ge=0, le=1)
    """Steps by which the policy may have moved on since its rollouts were sampled; 1 is Tülu 3's "second latest"."""
    max_refills: int = Field(default=0, ge=0)
    """DAPO's dynamic sampling: groups whose answers all have one reward are replaced, at most so many times a step."""
    task_weights: dict[str, float] = Field(default_factory=dict[str, float])
    """Share of each task's problems in the prompts, for all tasks that there are; absent: as many as there are."""
    difficulty: Difficulty | None = None
    """Measure pass rates first."""
    held_out: HeldOut = HeldOut()
    """What is measured while training."""
    alarms: AlarmConfig = AlarmConfig()
    """What is watched."""
    sampling_batch_size: int = Field(default=128, ge=1)
    """Sequences sampled at once; sets memory and speed, not the result."""
    deadline_seconds: float = Field(default=60.0, gt=0)
    """How long a verifier may take for one answer; beyond that the outcome is `timeout`."""

    @field_validator("task_weights")
    @classmethod
    def _weights_are_positive(cls, weights: dict[str, float]) -> dict[str, float]:
        for task, weight in weights.items():
            if not 0 < weight < float("inf"):
                raise ValueError(f"the weight of '{task}' must be a positive number, not {weight}")
        return weights

    @model_validator(mode="after")
    def _settings_fit_together(self) -> Self:
        groups = self.objective.advantage is not Advantage.GAE
        if groups and self.samples_per_prompt < 2:
            raise ValueError(
                f"advantage = '{self.objective.advantage}' compares the answers to one prompt; samples_per_prompt = "
                f"{self.samples_per_prompt} leaves nothing to compare; set it to 2 or more, or use advantage = 'gae'"
            )
        if not groups and self.max_refills:
            raise ValueError(
                f"max_refills = {self.max_refills} looks for groups that differ, and 'gae' has none; set 0"
            )
        if self.num_mini_batches > self.prompts_per_step:
            raise ValueError(
                f"prompts_per_step = {self.prompts_per_step} cannot be dealt to {self.num_mini_batches} mini-batches"
            )
        overlong = self.reward.overlong
        if overlong is not None and overlong.buffer_tokens > self.max_new_tokens:
            raise ValueError(
                f"reward.overlong.buffer_tokens = {overlong.buffer_tokens} is more than max_new_tokens = "
                f"{self.max_new_tokens}"
            )
        return self

    @property
    def uses_values(self) -> bool:
        """Whether advantages come from a value model."""
        return self.objective.advantage is Advantage.GAE

    @property
    def uses_reference(self) -> bool:
        """Whether the KL penalty needs a reference."""
        return self.objective.kl_coefficient > 0

    def scores_proximal(self, is_fp32: bool) -> bool:
        """Whether an update asks its policy for proximal log-probabilities: where rollouts are stale, where training
        computes in less than fp32, in which the sampler's kernels round otherwise, and where a correction weighs the
        difference. Elsewhere they are those that the sampler gave."""
        return self.max_staleness > 0 or not is_fp32 or self.objective.correction is not Correction.NONE

    def inputs(self) -> list[Input]:
        found = [Input("problems", InputKind.PROBLEMS, self.problems), Input("model", InputKind.MODEL, self.model)]
        if self.uses_reference:
            found.append(Input("reference", InputKind.MODEL, self.reference or self.model))
        if self.uses_values and self.value_model is not None:
            found.append(Input("value_model", InputKind.REWARD_MODEL, self.value_model))
        return found
