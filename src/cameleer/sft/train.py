"""Supervised fine-tuning: the loop from a mixture and a base model to a trained one.

    rows -> trees -> for each step: split into micro-batches, accumulate the gradient, clip, AdamW -> save

The objective is in `cameleer.sft.loss`. Every step is a function of the weights before it, the seed and its number, so
a run that was stopped or killed and goes on from a checkpoint ends with the same bits (on the same machine and ranks).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cameleer.core.artifact import METRICS, Outcome
from cameleer.core.errors import UserError
from cameleer.core.log import MetricsLog, console, ticker
from cameleer.core.render import Renderer
from cameleer.core.stage import StageRun
from cameleer.model.load import load_renderer, stored_dtype
from cameleer.model.policy import Policy
from cameleer.sft.config import Objective, SFTConfig
from cameleer.sft.data import Rows, load_rows
from cameleer.sft.loss import sft_loss
from cameleer.train.accumulate import LossFunction, Sums, split_step
from cameleer.train.distributed import World, current_world, on_ranks
from cameleer.train.interrupt import Interrupt
from cameleer.train.layout import Batch, StepPlan, Tree, collate
from cameleer.train.learner import Learner, policy_learner


@dataclass(frozen=True)
class Setup:
    """All that the loop needs, built once."""

    world: World
    renderer: Renderer
    learner: Learner[Policy]
    rows: Rows
    train_rows: Sequence[int]
    eval_trees: list[Tree]
    plan: StepPlan


def run(config: SFTConfig, stage: StageRun) -> Outcome:
    """The stage's entry: trains on the ranks of this launch, or starts `num_ranks` of its own."""
    return on_ranks(config.num_ranks, train, config, stage)


def train(config: SFTConfig, stage: StageRun) -> Outcome:
    """Train on this rank and, on rank 0, leave the model in the stage's folder."""
    setup = prepare(config, stage, current_world())
    world, plan, learner = setup.world, setup.plan, setup.learner
    first = learner.resume()
    log = MetricsLog(stage.folder / METRICS, last_step=first) if world.leads else None
    say_start(config, setup, first)
    if first == 0:
        evaluate(config, setup, log, step=0)
    with Interrupt() as interrupt, ticker("sft", plan.num_steps, done=first, shown=world.leads) as progress:
        for step in range(first, plan.num_steps):
            chosen = [setup.train_rows[row] for row in plan.rows(step)]
            trees = [setup.rows.trees[row] for row in chosen]
            num_trained = float(sum(tree[0].weights.sum() for tree in trees))
            denominator = num_trained if config.objective is Objective.TOKEN_MEAN else 1.0
            names = [setup.rows.names[row] for row in chosen]
            report = learner.step(step, plan.num_steps, trees, loss_function(denominator), names)
            loss = report.loss * denominator / num_trained
            if log is not None:
                log.write(
                    step=step + 1,
                    epoch=(step + 1) / plan.steps_per_epoch,
                    loss=loss,
                    learning_rate=report.learning_rate,
                    grad_norm=report.grad_norm,
                    num_tokens=report.num_tokens,
                    num_trained_tokens=int(num_trained),
                    seconds=report.seconds,
                    tokens_per_second=report.tokens_per_second,
                    peak_memory_gib=report.peak_memory_gib,
                )
            progress.advance(note=f"loss {loss:.4f}  {report.tokens_per_second:,.0f} tokens/s")
            if (step + 1) % plan.steps_per_epoch == 0:
                evaluate(config, setup, log, step + 1)
            learner.checkpoint_if_due(step + 1, plan.num_steps, interrupt)
    learner.export(setup.renderer, stored_dtype(stage.inputs["model"]))
    return outcome(config, setup)


def loss_function(denominator: float) -> LossFunction:
    """The step's loss; `denominator` is that of the objective."""

    def loss_of(logprob_N: Tensor, batch: Batch) -> tuple[Tensor, Sums]:
        return sft_loss(logprob_N, batch.weight_N, denominator), {}

    return loss_of


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
    return Setup(
        world=world,
        renderer=renderer,
        learner=policy_learner(config, stage, world, stage.inputs["model"]),
        rows=rows,
        train_rows=train_rows,
        eval_trees=[rows.trees[row] for row in eval_rows],
        plan=StepPlan(len(train_rows), config.batch_size, config.num_epochs, stage.seed),
    )


@torch.no_grad()
def evaluate(config: SFTConfig, setup: Setup, log: MetricsLog | None, step: int) -> None:
    """Log the mean loss per trained token of the held-out rows, if there are any."""
    if not setup.eval_trees:
        return
    sums = [0.0, 0.0]
    policy = setup.learner.model.eval()
    for trees in split_step(setup.eval_trees, config.tokens_per_batch, setup.world):
        batch = collate(trees).to(setup.world.device)
        sums[0] -= float((policy(batch) * batch.weight_N).sum())
        sums[1] += float(batch.weight_N.sum())
    policy.train()
    total, count = setup.world.sum(sums)
    if log is not None:
        log.write(step=step, eval_loss=total / count)


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
