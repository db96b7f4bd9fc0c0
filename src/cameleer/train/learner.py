"""A model in training: its weights on this rank, optimizer, learning rate and checkpoints.

    step:  trees -> micro-batches -> gradient of the whole step -> clip -> AdamW

A step is a function of the weights before it, the seed and its number, so a run that was stopped or killed and goes on
from a checkpoint ends with the same bits (on the same machine and ranks). What is minimised is the stage's loss.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import nn
from transformers import PreTrainedModel

from cameleer.core.artifact import CHECKPOINTS
from cameleer.core.errors import UserError
from cameleer.core.log import console
from cameleer.core.render import Renderer
from cameleer.core.stage import StageRun
from cameleer.core.training import TrainingConfig
from cameleer.model import attention
from cameleer.model.load import load_model, save_model
from cameleer.model.lora import add_lora, merge_lora
from cameleer.model.policy import Policy, SegmentModel
from cameleer.train.accumulate import LossFunction, accumulate, split_step
from cameleer.train.checkpoint import load_checkpoint, save_checkpoint
from cameleer.train.distributed import World, gather_weights, is_sharded, sharded, source_device
from cameleer.train.interrupt import Interrupt
from cameleer.train.layout import Tree, tree_size
from cameleer.train.meter import peak_memory_gib
from cameleer.train.optim import build_optimizer, clip_gradients
from cameleer.train.schedule import learning_rate_factor

ROWS_NAMED_IN_ERRORS = 8
KEPT = "kept"
"""Where the weights are that `keep` sets aside."""
Model = TypeVar("Model", bound=SegmentModel)
Builder = Callable[[torch.device], PreTrainedModel]
"""Makes the model that training starts from, in fp32 on a device, the same one each time; on the meta device without
reading weights."""


@dataclass(frozen=True)
class StepReport:
    """What a step did. `sums` are the loss function's, over all micro-batches and ranks."""

    loss: float
    sums: dict[str, float]
    grad_norm: float
    learning_rate: float
    num_tokens: int
    seconds: float
    peak_memory_gib: float

    @property
    def tokens_per_second(self) -> float:
        """Tokens computed, a shared prompt once, by the seconds of the whole step."""
        return self.num_tokens / self.seconds


class Learner(Generic[Model]):
    """A model and what its training needs on this rank."""

    def __init__(
        self, config: TrainingConfig, stage: StageRun, world: World, build: Builder, wrap: Callable[..., Model]
    ) -> None:
        """`wrap` turns what `build` makes into a module that takes batches: `Policy`, or a reward model."""
        self.config, self.stage, self.world = config, stage, world
        self._build, self._checkpoints = build, stage.folder / CHECKPOINTS
        self._last_saved = time.monotonic()
        torch.manual_seed(stage.seed)
        self.model = sharded(lambda device: wrap(build(device)), world, compute_dtype(config, world)).train()
        self.optimizer = build_optimizer(self.model, config.adamw)
        self.companion: Learner[Any] | None = None
        """A learner that is saved and resumed together with this one: in one checkpoint, so never at another step."""

    def new_model(self) -> PreTrainedModel:
        """The model that training starts from, once more, as `send` wants it: without weights but on rank 0."""
        return self._build(source_device(self.world))

    def resume(self) -> int:
        """Go on from the newest checkpoint; the number of finished steps."""
        return load_checkpoint(self._checkpoints, *self._state, self.world)

    @property
    def _state(self) -> tuple[nn.Module, list[torch.optim.Optimizer]]:
        """All that a checkpoint holds."""
        if self.companion is None:
            return self.model, [self.optimizer]
        both = nn.ModuleDict({"model": self.model, "companion": self.companion.model})
        return both, [self.optimizer, self.companion.optimizer]

    def keep(self, step: int) -> None:
        """Set the model's weights after `step` steps aside, in place of those that were."""
        save_checkpoint(self._checkpoints / KEPT, step, self.model, [], self.world)

    def restore(self) -> int:
        """Take the weights back that were set aside; the number of steps they had learned, 0 where there are none."""
        return load_checkpoint(self._checkpoints / KEPT, self.model, [], self.world)

    def step(
        self, number: int, num_steps: int, trees: Sequence[Tree], loss_of: LossFunction, names: Sequence[str]
    ) -> StepReport:
        """Optimizer step `number` of `num_steps`. `names` tells whose trees these are.

        Raises UserError, with the weights as they were, where loss or gradient is not finite.
        """
        started = time.monotonic()
        # Seeded per step: models that draw random numbers draw the same ones after a resume.
        torch.manual_seed(hash((number, self.world.rank)) & 0xFFFFFFFF)
        batches = split_step(trees, self.config.tokens_per_batch, self.world)
        loss, sums = accumulate(self.model, batches, loss_of, self.world)
        grad_norm = clip_gradients(self.model.parameters(), self.config.max_grad_norm)
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            raise self._not_finite(number, loss, grad_norm, names)
        factor = learning_rate_factor(self.config.schedule, number, num_steps, self.config.warmup_ratio)
        rate = self.config.learning_rate * factor
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        num_tokens, seconds = sum(map(tree_size, trees)), time.monotonic() - started
        return StepReport(loss, sums, grad_norm, rate, num_tokens, seconds, peak_memory_gib(self.world.device))

    def checkpoint_if_due(self, done: int, num_steps: int, interrupt: Interrupt) -> None:
        """Save after `done` steps if it is time; if a stop was asked for, save and raise KeyboardInterrupt.

        The last step needs no checkpoint: the model is about to be saved.
        """
        if done == num_steps:
            return
        stop = self.world.any(interrupt.asked)
        if stop or self.world.any(time.monotonic() - self._last_saved >= 60 * self.config.checkpoint_minutes):
            save_checkpoint(self._checkpoints, done, *self._state, self.world)
            self._last_saved = time.monotonic()
        if stop:
            if self.world.leads:
                console.print(f"stopped after step {done} of {num_steps}; the same command goes on from here")
            raise KeyboardInterrupt

    def export(self, renderer: Renderer, dtype: torch.dtype) -> None:
        """Save the model in the stage's folder, adapters merged, with its weights in `dtype`."""
        model = self.model.model
        if is_sharded(self.model):
            weights = gather_weights(self.model)
            if not self.world.leads:
                return
            model = self._build(torch.device("meta"))
            model.load_state_dict(weights, assign=True)
            model.tie_weights()
        if self.config.lora is not None:
            model = merge_lora(model)
        save_model(model, renderer.tokenizer, self.stage.folder, dtype, renderer.stop_ids)

    def _not_finite(self, number: int, loss: float, grad_norm: float, names: Sequence[str]) -> UserError:
        listed = ", ".join(names[:ROWS_NAMED_IN_ERRORS]) + (", …" if len(names) > ROWS_NAMED_IN_ERRORS else "")
        return UserError(
            f"{self.stage.name} step {number + 1}: loss {loss}, gradient norm {grad_norm}. Its rows: {listed}.",
            "Look at these rows; or lower learning_rate or set max_grad_norm = 1.0, with which the stage begins anew.",
        )


def compute_dtype(config: TrainingConfig, world: World) -> torch.dtype:
    """What the model computes in."""
    low = config.precision == "bf16" or (config.precision == "auto" and world.device.type == "cuda")
    return torch.bfloat16 if low else torch.float32


def policy_learner(config: TrainingConfig, stage: StageRun, world: World, folder: Path) -> Learner[Policy]:
    """The learner of a policy that starts from the model in `folder`."""

    def build(device: torch.device) -> PreTrainedModel:
        return with_options(load_model(folder, torch.float32, device, attention=attention.NAME), config, stage.seed)

    return Learner(config, stage, world, build, Policy)


def with_options(model: PreTrainedModel, config: TrainingConfig, seed: int) -> PreTrainedModel:
    """The model with what the config adds to it: gradient checkpointing, adapters."""
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return model if config.lora is None else add_lora(model, config.lora, seed)
