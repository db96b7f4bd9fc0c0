"""Supervised fine-tuning: the loop from a mixture and a base model to a trained one.

    rows -> trees -> for each step: split into micro-batches, accumulate the gradient, clip, AdamW -> save

The objective is in `cameleer.sft.loss`. Every step is a function of the weights before it, the seed and its number, so
a run that was stopped or killed and goes on from a checkpoint ends with the same bits (on the same machine and ranks).
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from cameleer.core.artifact import CHECKPOINTS, METRICS, Outcome
from cameleer.core.errors import UserError
from cameleer.core.log import MetricsLog, console, ticker
from cameleer.core.render import Renderer
from cameleer.core.stage import StageRun
from cameleer.model import attention
from cameleer.model.load import load_model, load_renderer, save_model, stored_dtype
from cameleer.model.lora import add_lora, merge_lora
from cameleer.model.policy import Policy
from cameleer.sft.config import Objective, SFTConfig
from cameleer.sft.data import Rows, load_rows
from cameleer.sft.loss import sft_loss
from cameleer.train.accumulate import accumulate, split_step
from cameleer.train.checkpoint import load_checkpoint, save_checkpoint
from cameleer.train.distributed import World, current_world, gather_weights, in_launch, is_sharded, shard, start_ranks
from cameleer.train.interrupt import Interrupt
from cameleer.train.layout import Batch, StepPlan, Tree, collate, tree_size
from cameleer.train.meter import peak_memory_gib
from cameleer.train.optim import build_optimizer, clip_gradients
from cameleer.train.schedule import learning_rate_factor

ROWS_NAMED_IN_ERRORS = 8


@dataclass(frozen=True)
class Setup:
    """All that the loop needs, built once."""

    world: World
    renderer: Renderer
    policy: Policy
    optimizer: torch.optim.AdamW
    rows: Rows
    train_rows: Sequence[int]
    eval_trees: list[Tree]
    plan: StepPlan


def run(config: SFTConfig, stage: StageRun) -> Outcome:
    """The stage's entry: trains on the ranks of this launch, or starts `num_ranks` of its own."""
    if config.num_ranks > 1 and not in_launch():
        outcome: Outcome = start_ranks(config.num_ranks, train, config, stage)
        return outcome
    return train(config, stage)


def train(config: SFTConfig, stage: StageRun) -> Outcome:
    """Train on this rank and, on rank 0, leave the model in the stage's folder."""
    setup = prepare(config, stage, current_world())
    world, plan, policy = setup.world, setup.plan, setup.policy
    checkpoints = stage.folder / CHECKPOINTS
    first = load_checkpoint(checkpoints, policy, setup.optimizer, world)
    log = MetricsLog(stage.folder / METRICS, last_step=first) if world.leads else None
    say_start(config, setup, first)
    if first == 0:
        evaluate(config, setup, log, step=0)
    last_saved = time.monotonic()
    with Interrupt() as interrupt, ticker("sft", plan.num_steps, done=first, shown=world.leads) as progress:
        for step in range(first, plan.num_steps):
            started = time.monotonic()
            chosen = [setup.train_rows[row] for row in plan.rows(step)]
            trees = [setup.rows.trees[row] for row in chosen]
            num_trained = float(sum(tree[0].weights.sum() for tree in trees))
            loss, grad_norm, rate = train_step(config, setup, step, trees, num_trained)
            if not (math.isfinite(loss) and math.isfinite(grad_norm)):
                raise not_finite(setup, step, loss, grad_norm, chosen)
            setup.optimizer.step()
            setup.optimizer.zero_grad(set_to_none=True)
            seconds = time.monotonic() - started
            num_tokens = sum(map(tree_size, trees))
            if log is not None:
                log.write(
                    step=step + 1,
                    epoch=(step + 1) / plan.steps_per_epoch,
                    loss=loss,
                    learning_rate=rate,
                    grad_norm=grad_norm,
                    num_tokens=num_tokens,
                    num_trained_tokens=int(num_trained),
                    seconds=seconds,
                    tokens_per_second=num_tokens / seconds,
                    peak_memory_gib=peak_memory_gib(world.device),
                )
            progress.advance(note=f"loss {loss:.4f}  {num_tokens / seconds:,.0f} tokens/s")
            done = step + 1
            if done % plan.steps_per_epoch == 0:
                evaluate(config, setup, log, done)
            stop = world.any(interrupt.asked)
            due = world.any(time.monotonic() - last_saved >= 60 * config.checkpoint_minutes)
            if done < plan.num_steps and (stop or due):
                save_checkpoint(checkpoints, done, policy, setup.optimizer, world)
                last_saved = time.monotonic()
            if stop and done < plan.num_steps:
                if world.leads:
                    console.print(f"stopped after step {done} of {plan.num_steps}; the same command goes on from here")
                raise KeyboardInterrupt
    export(config, stage, setup)
    return outcome(config, setup)


def prepare(config: SFTConfig, stage: StageRun, world: World) -> Setup:
    """Load, render and build; raises UserError for whatever the recipe or the data has wrong."""
    renderer = load_renderer(stage.inputs["model"], stage.chat_template)
    rows = load_rows(stage.inputs["mixture"], renderer, config.max_tokens, config.overlong, shown=world.leads)
    order = np.random.default_rng([stage.seed, 0xE7A1]).permutation(len(rows.trees)).tolist()
    eval_rows, train_rows = order[: config.num_eval_rows], sorted(order[config.num_eval_rows :])
    if not train_rows:
        raise UserError(
            f"{stage.inputs['mixture']}: no rows to train on: {len(rows.trees)} usable, {rows.num_dropped} dropped for "
            f"length, {config.num_eval_rows} held out (num_eval_rows).",
            "Raise max_tokens, hold out fewer rows, or add data.",
        )
    torch.manual_seed(stage.seed)
    policy = Policy(build_model(config, stage, world.device)).train()
    on_gpu = world.device.type == "cuda"
    low = config.precision == "bf16" or (config.precision == "auto" and on_gpu)
    shard(policy, world, torch.bfloat16 if low else torch.float32)
    return Setup(
        world=world,
        renderer=renderer,
        policy=policy,
        optimizer=build_optimizer(policy, config.adamw),
        rows=rows,
        train_rows=train_rows,
        eval_trees=[rows.trees[row] for row in eval_rows],
        plan=StepPlan(len(train_rows), config.batch_size, config.num_epochs, stage.seed),
    )


def build_model(config: SFTConfig, stage: StageRun, device: torch.device) -> PreTrainedModel:
    """The base model in fp32 with what the config adds to it."""
    model = load_model(stage.inputs["model"], torch.float32, device, attention=attention.NAME)
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return model if config.lora is None else add_lora(model, config.lora, stage.seed)


def export(config: SFTConfig, stage: StageRun, setup: Setup) -> None:
    """Save the model, adapters merged, in the dtype of the model it started from."""
    model = setup.policy.model
    if is_sharded(setup.policy):
        weights = gather_weights(setup.policy)
        if not setup.world.leads:
            return
        model = build_model(config, stage, torch.device("cpu"))
        model.load_state_dict(weights)
    if config.lora is not None:
        model = merge_lora(model)
    dtype = stored_dtype(stage.inputs["model"])
    save_model(model, setup.renderer.tokenizer, stage.folder, dtype, setup.renderer.stop_ids)


def train_step(
    config: SFTConfig, setup: Setup, step: int, trees: Sequence[Tree], num_trained: float
) -> tuple[float, float, float]:
    """Accumulate and clip the step's gradient and set the learning rate; mean loss per token, gradient norm, rate."""
    denominator = num_trained if config.objective is Objective.TOKEN_MEAN else 1.0

    def loss_of(logprob_N: Tensor, batch: Batch) -> Tensor:
        return sft_loss(logprob_N, batch.weight_N, denominator)

    # Seeded per step: models that draw random numbers draw the same ones after a resume.
    torch.manual_seed(hash((step, setup.world.rank)) & 0xFFFFFFFF)
    batches = split_step(trees, config.tokens_per_batch, setup.world)
    total = accumulate(setup.policy, batches, loss_of, setup.world)
    grad_norm = clip_gradients(setup.policy.parameters(), config.max_grad_norm)
    factor = learning_rate_factor(config.schedule, step, setup.plan.num_steps, config.warmup_ratio)
    rate = config.learning_rate * factor
    for group in setup.optimizer.param_groups:
        group["lr"] = rate
    return total * denominator / num_trained, grad_norm, rate


@torch.no_grad()
def evaluate(config: SFTConfig, setup: Setup, log: MetricsLog | None, step: int) -> None:
    """Log the mean loss per trained token of the held-out rows, if there are any."""
    if not setup.eval_trees:
        return
    sums = [0.0, 0.0]
    setup.policy.eval()
    for trees in split_step(setup.eval_trees, config.tokens_per_batch, setup.world):
        batch = collate(trees).to(setup.world.device)
        sums[0] -= float((setup.policy(batch) * batch.weight_N).sum())
        sums[1] += float(batch.weight_N.sum())
    setup.policy.train()
    total, count = setup.world.sum(sums)
    if log is not None:
        log.write(step=step, eval_loss=total / count)


def not_finite(setup: Setup, step: int, loss: float, grad_norm: float, chosen: Sequence[int]) -> UserError:
    """The error for a step whose loss or gradient is NaN or infinite; the weights have not been touched by it."""
    names = [setup.rows.names[row] for row in chosen]
    listed = ", ".join(names[:ROWS_NAMED_IN_ERRORS]) + (", …" if len(names) > ROWS_NAMED_IN_ERRORS else "")
    return UserError(
        f"sft step {step + 1}: loss {loss}, gradient norm {grad_norm}. Its rows: {listed}.",
        "The last checkpoint has finite weights from before. Lower learning_rate, set max_grad_norm = 1.0, or "
        "look at these rows.",
    )


def say_start(config: SFTConfig, setup: Setup, first: int) -> None:
    """What is about to be trained, in one line; and what the length policy did."""
    if not setup.world.leads:
        return
    rows, plan = setup.rows, setup.plan
    start = f", from step {first}" if first else ""
    console.print(
        f"  {plan.num_rows:,} rows, {rows.num_tokens:,} tokens ({rows.num_trained_tokens:,} trained), "
        f"{plan.num_steps} steps of {config.batch_size} rows on {setup.world.size} rank(s){start}"
    )
    if rows.num_truncated or rows.num_dropped:
        console.print(
            f"  above max_tokens = {config.max_tokens}: {rows.num_truncated} truncated, {rows.num_dropped} dropped"
        )


def outcome(config: SFTConfig, setup: Setup) -> Outcome:
    rows = setup.rows
    counts = {
        "rows": len(rows.trees),
        "train_rows": setup.plan.num_rows,
        "eval_rows": len(setup.eval_trees),
        "truncated": rows.num_truncated,
        "dropped": rows.num_dropped,
        "tokens": rows.num_tokens,
        "trained_tokens": rows.num_trained_tokens,
        "steps": setup.plan.num_steps,
        "ranks": setup.world.size,
    }
    return Outcome(counts=counts, template_fingerprint=setup.renderer.fingerprint)
