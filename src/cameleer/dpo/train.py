"""Preference tuning: the loop from pairs and a model to a tuned one.

    pairs -> trees -> reference log-probabilities, once
          -> for each step: split into micro-batches, accumulate the gradient, clip, AdamW -> save

The objectives are in `cameleer.dpo.loss`. Every step is a function of the weights before it, the seed and its number,
so a run that was stopped or killed and goes on from a checkpoint ends with the same bits (on the same machine and
ranks). The reference is computed before a checkpoint is read: it can only be the model that the recipe names.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from cameleer.core.artifact import METRICS, Outcome
from cameleer.core.errors import UserError
from cameleer.core.log import MetricsLog, console, ticker
from cameleer.core.render import Renderer
from cameleer.core.stage import StageRun
from cameleer.dpo import loss as losses
from cameleer.dpo.config import DPOConfig, Objective
from cameleer.dpo.data import CHOSEN, REJECTED, mismatched
from cameleer.dpo.loss import Answers, Result
from cameleer.model.load import check_same_tokens, load_model, load_renderer, stored_dtype
from cameleer.model.policy import Policy
from cameleer.train.accumulate import LossFunction, Sums, split_step
from cameleer.train.distributed import World, current_world, on_ranks, sharded
from cameleer.train.interrupt import Interrupt
from cameleer.train.layout import Batch, StepPlan, Tree, collate, tree_size
from cameleer.train.learner import Learner, compute_dtype, policy_learner
from cameleer.train.pairs import PairRows, load_pairs
from cameleer.train.reference import REFERENCE, Reference, with_reference

REFERENCE_FILE = "reference.parquet"


@dataclass(frozen=True)
class Setup:
    """All that the loop needs, built once. `mismatched[i]`, for KTO, goes with `rows.trees[i]`."""

    world: World
    renderer: Renderer
    learner: Learner[Policy]
    rows: PairRows
    mismatched: list[Tree]
    train_rows: Sequence[int]
    eval_rows: Sequence[int]
    plan: StepPlan


def run(config: DPOConfig, stage: StageRun) -> Outcome:
    """The stage's entry: trains on the ranks of this launch, or starts `num_ranks` of its own."""
    return on_ranks(config.num_ranks, train, config, stage)


def train(config: DPOConfig, stage: StageRun) -> Outcome:
    """Train on this rank and, on rank 0, leave the model in the stage's folder."""
    setup = prepare(config, stage, current_world())
    world, plan, learner = setup.world, setup.plan, setup.learner
    first = learner.resume()
    log = MetricsLog(stage.folder / METRICS, last_step=first) if world.leads else None
    say_start(config, setup, first)
    if first == 0:
        evaluate(config, setup, log, step=0)
    with Interrupt() as interrupt, ticker("dpo", plan.num_steps, done=first, shown=world.leads) as progress:
        for step in range(first, plan.num_steps):
            chosen = [setup.train_rows[row] for row in plan.rows(step)]
            trees = [setup.rows.trees[row] for row in chosen]
            kl = step_kl(config, setup, chosen)
            names = [setup.rows.pairs[row].name for row in chosen]
            report = learner.step(step, plan.num_steps, trees, loss_function(config, trees, kl), names)
            if log is not None:
                log.write(
                    step=step + 1,
                    epoch=(step + 1) / plan.steps_per_epoch,
                    loss=report.loss,
                    **{name: value / len(trees) for name, value in report.sums.items()},
                    **({"kl": kl} if config.objective is Objective.KTO else {}),
                    learning_rate=report.learning_rate,
                    grad_norm=report.grad_norm,
                    num_tokens=report.num_tokens,
                    seconds=report.seconds,
                    tokens_per_second=report.tokens_per_second,
                    peak_memory_gib=report.peak_memory_gib,
                )
            accuracy = report.sums["reward_accuracy"] / len(trees)
            progress.advance(note=f"loss {report.loss:.4f}  accuracy {accuracy:.2f}")
            if (step + 1) % plan.steps_per_epoch == 0:
                evaluate(config, setup, log, step + 1)
            learner.checkpoint_if_due(step + 1, plan.num_steps, interrupt)
    learner.export(setup.renderer, stored_dtype(stage.inputs["model"]))
    return outcome(setup)


def loss_function(config: DPOConfig, trees: Sequence[Tree], kl: float = 0.0) -> LossFunction:
    """The loss of a step over these trees. Its sums are over pairs, of what the log shows the means of."""
    num_pairs = len(trees)
    num_chosen_tokens = sum(len(tree[CHOSEN].ids) for tree in trees)

    def loss_of(logprob_N: Tensor, batch: Batch) -> tuple[Tensor, Sums]:
        chosen, rejected = answers(logprob_N, batch)
        result = pair_losses(config, chosen, rejected, kl)
        loss = result.loss_P.sum() / num_pairs
        if config.sft_coefficient:
            loss = loss - config.sft_coefficient * chosen.logprob_P.sum() / num_chosen_tokens
        return loss, log_sums(config, chosen, rejected, result)

    return loss_of


def pair_losses(config: DPOConfig, chosen: Answers, rejected: Answers, kl: float) -> Result:
    """The objective that the config names; `kl` is KTO's."""
    smoothed = config.label_smoothing, config.smoothing
    match config.objective:
        case Objective.DPO_NORM:
            return losses.dpo_norm(chosen, rejected, config.beta, *smoothed)
        case Objective.DPO:
            return losses.dpo(chosen, rejected, config.beta, *smoothed)
        case Objective.SIMPO:
            return losses.simpo(chosen, rejected, config.beta, config.gamma, *smoothed)
        case Objective.IPO:
            return losses.ipo(chosen, rejected, config.beta)
        case Objective.KTO:
            weights = config.desirable_weight, config.undesirable_weight
            return losses.kto(chosen, rejected, config.beta, kl, *weights)
        case Objective.ORPO:
            return losses.orpo(chosen, rejected, config.beta)


def answers(logprob_N: Tensor, batch: Batch) -> tuple[Answers, Answers]:
    """The chosen and the rejected answers of a batch of pairs. Pairs without targets (a rank's filler) are left out."""
    num_pairs = len(batch.segments.lengths) // 3
    reference_N = batch.columns.get(REFERENCE)
    # Token by token first: sums over long answers are large and their difference small.
    ratio_N = logprob_N - (logprob_N if reference_N is None else reference_N.to(logprob_N.dtype))
    sums = [batch.sums_per_segment(value_N) for value_N in (logprob_N, ratio_N, torch.ones_like(logprob_N))]
    trained = sums[-1][CHOSEN::3][:num_pairs] > 0

    def one(place: int) -> Answers:
        return Answers(*(value_S[place::3][:num_pairs][trained] for value_S in sums))

    return one(CHOSEN), one(REJECTED)


def log_sums(config: DPOConfig, chosen: Answers, rejected: Answers, result: Result) -> Sums:
    """Sums over the pairs of a batch of what the log shows the means of."""
    margin_P = result.chosen_reward_P - result.rejected_reward_P
    values = {
        "reward_chosen": result.chosen_reward_P,
        "reward_rejected": result.rejected_reward_P,
        "reward_margin": margin_P,
        "reward_accuracy": margin_P > 0,
        "logprob_chosen": chosen.logprob_P,
        "logprob_rejected": rejected.logprob_P,
        "length_chosen": chosen.length_P,
        "length_rejected": rejected.length_P,
    }
    if config.objective.has_reference:
        values |= {"logratio_chosen": chosen.logratio_P, "logratio_rejected": rejected.logratio_P}
    return {name: value_P.detach().double().sum() for name, value_P in values.items()}


def step_kl(config: DPOConfig, setup: Setup, rows: Sequence[int]) -> float:
    """KTO's z for a step or an evaluation over these rows; 0 for other objectives."""
    if config.objective is not Objective.KTO:
        return 0.0
    trees = [setup.mismatched[row] for row in rows]
    return mismatch_kl(setup.learner.model, trees, config.tokens_per_batch, setup.world)


@torch.no_grad()
def mismatch_kl(policy: Policy, trees: Sequence[Tree], tokens_per_batch: int, world: World) -> float:
    """max(0, mean of log pi / pi_ref over answers to other prompts), before the step: one pass more, forward only.

    The mean is over all of the step's answers; TRL and the paper's authors take it per micro-batch.
    """
    sums = [0.0, 0.0]
    policy.eval()
    for part in split_step(trees, tokens_per_batch, world):
        batch = collate(part).to(world.device)
        for answer in answers(policy(batch), batch):
            sums[0] += float(answer.logratio_P.double().sum())
            sums[1] += len(answer.logratio_P)
    policy.train()
    total, count = world.sum(sums)
    return max(0.0, total / count)


def prepare(config: DPOConfig, stage: StageRun, world: World) -> Setup:
    """Load, render and build; raises UserError for whatever the recipe or the data has wrong."""
    renderer = load_renderer(stage.inputs["model"], stage.chat_template)
    rows = load_pairs(stage.inputs["pairs"], renderer, config.max_tokens, config.overlong, shown=world.leads)
    order = np.random.default_rng([stage.seed, 0xE7A1]).permutation(len(rows.trees)).tolist()
    eval_rows, train_rows = order[: config.num_eval_rows], sorted(order[config.num_eval_rows :])
    if not train_rows:
        raise UserError(
            f"{stage.inputs['pairs']}: no pairs to train on: {len(rows.trees)} usable, {rows.num_overlong} dropped for "
            f"length, {rows.num_identical} with equal answers, {rows.num_empty} with an empty answer, "
            f"{config.num_eval_rows} held out (num_eval_rows).",
            "Raise max_tokens, hold out fewer pairs, or add data.",
        )
    others = mismatched(rows.trees, config.max_tokens) if config.objective is Objective.KTO else []
    learner = policy_learner(config, stage, world, stage.inputs["model"])
    if config.objective.has_reference:
        reference = frozen(config, stage, world, renderer, learner)
        rows = replace(rows, trees=with_reference(rows.trees, reference, world))
        others = with_reference(others, reference, world)
        if world.leads:
            write_reference(stage.folder / REFERENCE_FILE, rows)
    return Setup(
        world=world,
        renderer=renderer,
        learner=learner,
        rows=rows,
        mismatched=others,
        train_rows=train_rows,
        eval_rows=eval_rows,
        plan=StepPlan(len(train_rows), config.batch_size, config.num_epochs, stage.seed),
    )


def frozen(config: DPOConfig, stage: StageRun, world: World, renderer: Renderer, learner: Learner[Policy]) -> Reference:
    """The reference model. Where it is the one that training starts from, the untrained learner is it: fresh adapters
    add nothing."""
    folder = stage.inputs["reference"]
    dtype = compute_dtype(config, world)
    if folder == stage.inputs["model"]:
        return Reference(folder, lambda: learner.model, dtype, config.tokens_per_batch)
    check_same_tokens(renderer, folder, stage.chat_template, "reference", stage.inputs["model"])
    loaded: list[Policy] = []

    def load() -> Policy:
        if not loaded:
            policy = sharded(lambda device: Policy(load_model(folder, dtype, device)), world, dtype)
            loaded.append(policy.eval())
        return loaded[0]

    return Reference(folder, load, dtype, config.tokens_per_batch)


def write_reference(path: Path, rows: PairRows) -> None:
    """The reference's log-probabilities, token by token, for whoever wants to know what training compared with."""
    columns = [
        pa.array([tree[answer].columns[REFERENCE] for tree in rows.trees], pa.list_(pa.float32()))
        for answer in (CHOSEN, REJECTED)
    ]
    draft = path.with_name(f".{path.name}")
    names = pa.array([pair.name for pair in rows.pairs])
    pq.write_table(pa.table([names, *columns], ["name", "chosen", "rejected"]), draft)
    draft.replace(path)


@torch.no_grad()
def evaluate(config: DPOConfig, setup: Setup, log: MetricsLog | None, step: int) -> None:
    """Log loss, margin and accuracy of the held-out pairs, if there are any."""
    if not setup.eval_rows:
        return
    trees = [setup.rows.trees[row] for row in setup.eval_rows]
    loss_of = loss_function(config, trees, step_kl(config, setup, setup.eval_rows))
    names = ("reward_margin", "reward_accuracy")
    totals = [0.0] * (1 + len(names))
    policy = setup.learner.model.eval()
    for part in split_step(trees, config.tokens_per_batch, setup.world):
        batch = collate(part).to(setup.world.device)
        loss, sums = loss_of(policy(batch), batch)
        for place, value in enumerate([loss, *(sums[name] / len(trees) for name in names)]):
            totals[place] += float(value)
    policy.train()
    totals = setup.world.sum(totals)
    if log is not None:
        log.write(step=step, eval_loss=totals[0], eval_reward_margin=totals[1], eval_reward_accuracy=totals[2])


def say_start(config: DPOConfig, setup: Setup, first: int) -> None:
    """What is about to be trained, in one line; and which pairs are not."""
    if not setup.world.leads:
        return
    rows, plan = setup.rows, setup.plan
    start = f", from step {first}" if first else ""
    console.print(
        f"  {plan.num_rows:,} pairs, {num_tokens(rows):,} tokens ({num_trained_tokens(rows):,} of answers), "
        f"{plan.num_steps} steps of {config.batch_size} pairs on {setup.world.size} rank(s){start}"
    )
    if rows.num_truncated or rows.num_overlong:
        console.print(
            f"  above max_tokens = {config.max_tokens}: {rows.num_truncated} truncated, {rows.num_overlong} dropped"
        )
    if rows.num_identical or rows.num_empty:
        console.print(f"  dropped: {rows.num_identical} with equal answers, {rows.num_empty} with an empty answer")


def num_tokens(rows: PairRows) -> int:
    """Tokens computed in an epoch, a prompt once."""
    return sum(map(tree_size, rows.trees))


def num_trained_tokens(rows: PairRows) -> int:
    return sum(len(tree[answer].ids) for tree in rows.trees for answer in (CHOSEN, REJECTED))


def outcome(setup: Setup) -> Outcome:
    counts = {
        **setup.rows.counts,
        "train_pairs": setup.plan.num_rows,
        "eval_pairs": len(setup.eval_rows),
        "tokens": num_tokens(setup.rows),
        "trained_tokens": num_trained_tokens(setup.rows),
        "steps": setup.plan.num_steps,
        "ranks": setup.world.size,
    }
    return Outcome(counts=counts, template_fingerprint=setup.renderer.fingerprint)
