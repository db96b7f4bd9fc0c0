"""Reward modelling: the loop from preference pairs and a language model to a model that scores answers.

    pairs -> trees (a prompt once, both answers, scored at their end tokens) -> the same step as everywhere -> save

The loss is in `cameleer.rm.loss`, the model in `cameleer.model.reward`.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from cameleer.core.artifact import METRICS, Outcome
from cameleer.core.errors import UserError
from cameleer.core.log import MetricsLog, console, ticker
from cameleer.core.pairs import PreferencePair
from cameleer.core.render import Renderer
from cameleer.core.stage import StageRun
from cameleer.model.load import load_renderer, stored_dtype
from cameleer.model.reward import RewardModel, new_reward_model, set_padding
from cameleer.rm.config import RMConfig
from cameleer.rm.loss import bradley_terry_loss
from cameleer.train.accumulate import LossFunction, Sums, split_step
from cameleer.train.distributed import World, current_world, on_ranks
from cameleer.train.interrupt import Interrupt
from cameleer.train.layout import Batch, Segment, StepPlan, Tree, collate
from cameleer.train.learner import Learner, with_options
from cameleer.train.pairs import PairRows, load_pairs

MARGIN = "margin"
"""The column that holds a pair's margin, at the end token of its chosen answer."""


@dataclass(frozen=True)
class Setup:
    """All that the loop needs, built once. `sources` are those of the held-out pairs `eval_rows`."""

    world: World
    renderer: Renderer
    learner: Learner[RewardModel]
    rows: PairRows
    trees: list[Tree]
    train_rows: Sequence[int]
    eval_rows: Sequence[int]
    sources: list[str]
    plan: StepPlan


def run(config: RMConfig, stage: StageRun) -> Outcome:
    """The stage's entry: trains on the ranks of this launch, or starts `num_ranks` of its own."""
    return on_ranks(config.num_ranks, train, config, stage)


def train(config: RMConfig, stage: StageRun) -> Outcome:
    """Train on this rank and, on rank 0, leave the reward model in the stage's folder."""
    setup = prepare(config, stage, current_world())
    world, plan, learner = setup.world, setup.plan, setup.learner
    first = learner.resume()
    log = MetricsLog(stage.folder / METRICS, last_step=first) if world.leads else None
    say_start(config, setup, first)
    accuracies = evaluate(config, setup, log, step=0) if first == 0 else {}
    with Interrupt() as interrupt, ticker("rm", plan.num_steps, done=first, shown=world.leads) as progress:
        for step in range(first, plan.num_steps):
            chosen = [setup.train_rows[row] for row in plan.rows(step)]
            names = [setup.rows.pairs[row].name for row in chosen]
            trees = [setup.trees[row] for row in chosen]
            report = learner.step(step, plan.num_steps, trees, loss_function(len(trees)), names)
            means = {name: total / len(trees) for name, total in report.sums.items()}
            if log is not None:
                log.write(
                    step=step + 1,
                    epoch=(step + 1) / plan.steps_per_epoch,
                    loss=report.loss,
                    **means,
                    learning_rate=report.learning_rate,
                    grad_norm=report.grad_norm,
                    num_tokens=report.num_tokens,
                    seconds=report.seconds,
                    tokens_per_second=report.tokens_per_second,
                    peak_memory_gib=report.peak_memory_gib,
                )
            progress.advance(note=f"loss {report.loss:.4f}  accuracy {means['accuracy']:.2f}")
            if (step + 1) % plan.steps_per_epoch == 0:
                accuracies = evaluate(config, setup, log, step + 1)
            learner.checkpoint_if_due(step + 1, plan.num_steps, interrupt)
    learner.export(setup.renderer, stored_dtype(stage.inputs["model"]))
    return outcome(setup, accuracies)


def loss_function(num_pairs: float) -> LossFunction:
    """The step's loss over `num_pairs`, with the sums of what is logged; scores come in pairs, the chosen one first."""

    def loss_of(score_N: Tensor, batch: Batch) -> tuple[Tensor, Sums]:
        chosen_B, rejected_B = score_N[::2], score_N[1::2]
        margin_B = batch.columns[MARGIN][::2].to(score_N.dtype)
        gap_B = (chosen_B - rejected_B).detach()
        sums = {
            # A tie is half right: a model that gives every answer the same score is at chance.
            "accuracy": (gap_B > 0).sum() + 0.5 * (gap_B == 0).sum(),
            "score_gap": gap_B.sum(),
            "chosen_score": chosen_B.detach().sum(),
            "rejected_score": rejected_B.detach().sum(),
        }
        return bradley_terry_loss(chosen_B, rejected_B, margin_B, num_pairs), sums

    return loss_of


def prepare(config: RMConfig, stage: StageRun, world: World) -> Setup:
    """Load, render and build; raises UserError for whatever the recipe or the data has wrong."""
    renderer = load_renderer(stage.inputs["model"], stage.chat_template)
    rows = load_pairs(stage.inputs["pairs"], renderer, config.max_tokens, config.overlong, shown=world.leads)
    order = np.random.default_rng([stage.seed, 0xE7A1]).permutation(len(rows.trees)).tolist()
    eval_rows, train_rows = sorted(order[: config.num_eval_rows]), sorted(order[config.num_eval_rows :])
    if not train_rows:
        raise UserError(
            f"{stage.inputs['pairs']}: no pairs to train on: {len(rows.trees)} usable, {rows.num_overlong} dropped for "
            f"length, {config.num_eval_rows} held out (num_eval_rows).",
            "Raise max_tokens, hold out fewer pairs, or add data.",
        )
    return Setup(
        world=world,
        renderer=renderer,
        learner=_learner(config, stage, world, stage.inputs["model"], renderer),
        rows=rows,
        trees=[
            scored_tree(tree, margin_of(pair, config.margin)) for tree, pair in zip(rows.trees, rows.pairs, strict=True)
        ],
        train_rows=train_rows,
        eval_rows=eval_rows,
        sources=sorted({rows.pairs[row].source for row in eval_rows}),
        plan=StepPlan(len(train_rows), config.batch_size, config.num_epochs, stage.seed),
    )


def _learner(config: RMConfig, stage: StageRun, world: World, folder: Path, renderer: Renderer) -> Learner[RewardModel]:
    def build(device: torch.device) -> PreTrainedModel:
        model = new_reward_model(folder, stage.seed, device)
        set_padding(model, renderer)
        built = with_options(model, config, stage.seed)
        # With adapters the rest is frozen; the head is new and learns in full.
        RewardModel(built).head.requires_grad_(True)
        return built

    return Learner(config, stage, world, build, RewardModel)


def scored_tree(tree: Tree, margin: float) -> Tree:
    """A pair's tree with its answers' last tokens as the only targets, and the margin there."""
    prompt, *answers = tree
    return (prompt, *(_scored(answer, margin) for answer in answers))


def _scored(answer: Segment, margin: float) -> Segment:
    weights = np.zeros(len(answer.ids), np.float32)
    weights[-1] = 1.0
    return replace(answer, weights=weights, columns={MARGIN: np.full(len(answer.ids), margin, np.float32)})


def margin_of(pair: PreferencePair, per_point: float) -> float:
    """The pair's margin. Raises UserError where a margin is asked for and the pair has no ratings."""
    if per_point == 0:
        return 0.0
    if pair.chosen_score is None or pair.rejected_score is None:
        raise UserError(f"pair {pair.name} has no ratings, which margin = {per_point} needs.", "Set margin = 0.")
    return per_point * (pair.chosen_score - pair.rejected_score)


@torch.no_grad()
def evaluate(config: RMConfig, setup: Setup, log: MetricsLog | None, step: int) -> dict[str, float]:
    """Log mean loss and accuracy on the held-out pairs, if there are any; the accuracy of all and by source."""
    if not setup.eval_rows:
        return {}
    totals = dict.fromkeys(("loss", "score_gap", *setup.sources), 0.0)
    model = setup.learner.model.eval()
    loss_of = loss_function(1)
    for source in setup.sources:
        trees = [setup.trees[row] for row in setup.eval_rows if setup.rows.pairs[row].source == source]
        for batch_trees in split_step(trees, config.tokens_per_batch, setup.world):
            batch = collate(batch_trees).to(setup.world.device)
            loss, sums = loss_of(model(batch), batch)
            totals["loss"] += float(loss)
            totals["score_gap"] += float(sums["score_gap"])
            totals[source] += float(sums["accuracy"])
    model.train()
    loss, gap, *right = setup.world.sum(list(totals.values()))
    count = len(setup.eval_rows)
    sizes = Counter(setup.rows.pairs[row].source for row in setup.eval_rows)
    by_source = {source: each / sizes[source] for source, each in zip(setup.sources, right, strict=True)}
    if log is not None:
        log.write(step=step, eval_loss=loss / count, eval_accuracy=sum(right) / count, eval_score_gap=gap / count)
    return {"": sum(right) / count, **by_source}


def say_start(config: RMConfig, setup: Setup, first: int) -> None:
    """What is about to be trained, in one line; and what was left out."""
    if not setup.world.leads:
        return
    plan, start = setup.plan, f", from step {first}" if first else ""
    console.print(
        f"  {plan.num_rows:,} pairs, {plan.num_steps} steps of {config.batch_size} pairs on "
        f"{setup.world.size} rank(s){start}"
    )
    left_out = {name: count for name, count in setup.rows.counts.items() if name != "pairs" and count}
    if left_out:
        console.print("  " + ", ".join(f"{name.replace('_', ' ')}: {count}" for name, count in left_out.items()))


def outcome(setup: Setup, accuracies: dict[str, float]) -> Outcome:
    counts = {
        **setup.rows.counts,
        "train_pairs": setup.plan.num_rows,
        "eval_pairs": len(setup.eval_rows),
        "steps": setup.plan.num_steps,
        "ranks": setup.world.size,
    }
    summary = {" ".join(["accuracy", source]).strip(): value for source, value in accuracies.items()}
    return Outcome(counts=counts, summary=summary, template_fingerprint=setup.renderer.fingerprint)
