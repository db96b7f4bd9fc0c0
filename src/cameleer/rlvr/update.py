"""What a step learns from its rollouts.

    rollouts -> reference and proximal log-probabilities, values -> advantages -> passes x mini-batches of AdamW

Answers whose verdict says nothing (`error`, `timeout`) are left out of everything. Groups whose answers all have one
reward have advantages of 0: they count in the means, and their forward pass is saved where no KL term needs it.

On policy and in fp32 the sampler's log-probabilities are the proximal ones, so the first mini-batch has ratios of
exactly what sampler and trainer differ by. They are computed anew where rollouts are stale, where training computes in
less, and where a correction weighs the difference between the two.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from cameleer.model.policy import Policy
from cameleer.model.value import ValueModel
from cameleer.rlvr.advantages import Floats, gae, group_advantages, kl_penalised_rewards, whiten
from cameleer.rlvr.config import RLVRConfig
from cameleer.rlvr.names import Advantage, Correction
from cameleer.rlvr.objective import (
    ADVANTAGES,
    BEHAVIOUR,
    OLD_VALUES,
    PROXIMAL,
    REFERENCE,
    RETURNS,
    Totals,
    policy_loss,
    value_loss,
)
from cameleer.rlvr.rollouts import Rollout, groups_of, has_variance
from cameleer.rlvr.scoring import score, trees_of
from cameleer.train.accumulate import LossFunction, Sums
from cameleer.train.distributed import World
from cameleer.train.layout import Batch, Tree
from cameleer.train.learner import Learner, StepReport, compute_dtype

MINI_BATCHES = 0x5EED
"""Sets the deal of mini-batches apart from the orders of epochs."""


@dataclass(frozen=True)
class Models:
    """What a step reads and trains. `reference` and `value` are there where the config asks for them."""

    world: World
    policy: Learner[Policy]
    reference: Policy | None
    value: Learner[ValueModel] | None


@dataclass
class Update:
    """What a step's learning was: reports of its optimizer steps, and seconds."""

    rollouts: list[Rollout]
    """The step's rollouts with their advantages."""
    policy: list[StepReport] = field(default_factory=list[StepReport])
    value: list[StepReport] = field(default_factory=list[StepReport])
    sampler_gap: float = 0.0
    """The largest |log p of trainer − log p of sampler| of a token at the first optimizer step."""
    num_scored_tokens: int = 0
    """Answer tokens that reference, proximal policy or value model were asked about."""
    scoring_seconds: float = 0.0
    learning_seconds: float = 0.0

    def mean(self, name: str) -> float | None:
        """The mean of a value over the tokens of all optimizer steps; None where none was taken."""
        return _mean(self.policy, name)

    def value_mean(self, name: str) -> float | None:
        return _mean(self.value, name)


def _mean(reports: Sequence[StepReport], name: str) -> float | None:
    tokens = sum(report.sums["tokens"] for report in reports)
    if not tokens or name not in reports[0].sums:
        return None
    return sum(report.sums[name] for report in reports) / tokens


def learn(config: RLVRConfig, models: Models, step: int, num_steps: int, rollouts: Sequence[Rollout]) -> Update:
    """Train on a step's rollouts. Raises UserError where loss or gradient is not finite."""
    started = time.monotonic()
    judged = [rollout for rollout in rollouts if rollout.is_judged]
    if config.max_refills:
        # Dynamic sampling: the others were only drawn to find these.
        judged = [rollout for group in groups_of(judged) if has_variance(group) for rollout in group]
    scored, num_scored = score_answers(config, models, step, judged)
    columns = [{name: values[index] for name, values in scored.items()} for index in range(len(judged))]
    add_advantages(config, judged, columns)
    update = Update(_with_advantages(rollouts, judged, columns))
    prepared = time.monotonic()
    _optimize(config, models, step, num_steps, judged, columns, update)
    update.num_scored_tokens = num_scored
    update.scoring_seconds, update.learning_seconds = prepared - started, time.monotonic() - prepared
    return update


def score_answers(
    config: RLVRConfig, models: Models, step: int, judged: Sequence[Rollout]
) -> tuple[dict[str, list[Floats]], int]:
    """What the losses read of each answer beside its advantages, by column; how many of their tokens were computed."""
    budget, world = config.tokens_per_batch, models.world
    behaviour: list[Floats] = [np.asarray(rollout.logprobs) for rollout in judged]
    scored = {BEHAVIOUR: behaviour, PROXIMAL: behaviour}
    num_tokens = [len(rollout.ids) for rollout in judged]
    num_scored = 0
    if needs_proximal(config, world, step, judged):
        rows = _rows_that_learn(config, judged)
        found = dict(zip(rows, score(models.policy.model, [judged[row] for row in rows], budget, world), strict=True))
        scored[PROXIMAL] = [found.get(row, values) for row, values in enumerate(behaviour)]
        num_scored += sum(num_tokens[row] for row in rows)
    if models.reference is not None:
        scored[REFERENCE] = score(models.reference, judged, budget, world)
        num_scored += sum(num_tokens)
    if models.value is not None:
        scored[OLD_VALUES] = score(models.value.model, judged, budget, world)
        num_scored += sum(num_tokens)
    return scored, num_scored


def _rows_that_learn(config: RLVRConfig, judged: Sequence[Rollout]) -> list[int]:
    """The answers that may have a gradient: all where advantages are not of groups alone, else those that differ."""
    if config.uses_values or config.uses_reference or config.objective.entropy_coefficient > 0:
        return list(range(len(judged)))
    varied = {group[0].place for group in groups_of(judged) if has_variance(group)}
    return [row for row, rollout in enumerate(judged) if rollout.place in varied]


def needs_proximal(config: RLVRConfig, world: World, step: int, judged: Sequence[Rollout]) -> bool:
    """Whether the policy at the start of the update is another one than sampled, or its difference is weighed.

    In less than fp32 the sampler's kernels round otherwise than the trainer's: a clip around its log-probabilities
    would count rounding.
    """
    return (
        config.objective.correction is not Correction.NONE
        or compute_dtype(config, world) is not torch.float32
        or any(each.weight_version != step for each in judged)
    )


def add_advantages(config: RLVRConfig, judged: Sequence[Rollout], columns: Sequence[dict[str, Floats]]) -> None:
    """Put the advantages, and with a value model the returns, into the answers' columns."""
    objective = config.objective
    if config.uses_values:
        assert objective.gae_gamma is not None and objective.gae_lambda is not None
        for rollout, column in zip(judged, columns, strict=True):
            rewards_T = _token_rewards(config, rollout, column)
            found = gae(rewards_T, column[OLD_VALUES], objective.gae_gamma, objective.gae_lambda)
            column[ADVANTAGES], column[RETURNS] = found
        if judged:
            every = whiten(np.concatenate([column[ADVANTAGES] for column in columns]))
            ends = np.cumsum([len(rollout.ids) for rollout in judged])[:-1]
            for column, advantages in zip(columns, np.split(every, ends), strict=True):
                column[ADVANTAGES] = advantages
        return
    index_of = {id(rollout): index for index, rollout in enumerate(judged)}
    for group in groups_of(judged):
        own = [columns[index_of[id(rollout)]] for rollout in group]
        # Taken off token by token or all at once: an answer is one action here.
        rewards = np.array([_token_rewards(config, *pair).sum() for pair in zip(group, own, strict=True)])
        found = group_advantages(rewards, _group_advantage(config))
        for rollout, column, advantage in zip(group, own, found, strict=True):
            column[ADVANTAGES] = np.full(len(rollout.ids), advantage)


def _group_advantage(config: RLVRConfig) -> Advantage:
    assert config.objective.advantage is not None
    return config.objective.advantage


def _token_rewards(config: RLVRConfig, rollout: Rollout, column: dict[str, Floats]) -> Floats:
    """(L,) rewards of an answer's tokens: its own at the last, and the KL penalty where it is one of rewards."""
    assert rollout.reward is not None
    policy = column[PROXIMAL]
    beta, reference = (
        (config.objective.kl_coefficient, column[REFERENCE]) if config.objective.kl_in_reward else (0.0, policy)
    )
    return kl_penalised_rewards(policy, reference, beta, rollout.reward)


def _with_advantages(
    rollouts: Sequence[Rollout], judged: Sequence[Rollout], columns: Sequence[dict[str, Floats]]
) -> list[Rollout]:
    column_of = {id(rollout): column for rollout, column in zip(judged, columns, strict=True)}
    return [
        replace(rollout, advantages=tuple(column_of[id(rollout)][ADVANTAGES].tolist()))
        if id(rollout) in column_of
        else rollout
        for rollout in rollouts
    ]


def _optimize(
    config: RLVRConfig,
    models: Models,
    step: int,
    num_steps: int,
    judged: Sequence[Rollout],
    columns: Sequence[dict[str, Floats]],
    update: Update,
) -> None:
    """The step's optimizer steps: each pass deals the prompts to its mini-batches anew."""
    places = sorted({rollout.place for rollout in judged})
    per_step = config.num_passes * config.num_mini_batches
    for turn in range(config.num_passes):
        dealt = np.random.default_rng([models.policy.stage.seed, MINI_BATCHES, step, turn]).permutation(places)
        for part, chosen in enumerate(np.array_split(dealt, config.num_mini_batches)):
            wanted = set(chosen.tolist())
            rows = [index for index, rollout in enumerate(judged) if rollout.place in wanted]
            number = step * per_step + turn * config.num_mini_batches + part
            rollouts, own = [judged[row] for row in rows], [columns[row] for row in rows]
            _take_steps(config, models, number, num_steps * per_step, rollouts, own, update)


def _take_steps(
    config: RLVRConfig,
    models: Models,
    number: int,
    num_steps: int,
    rollouts: Sequence[Rollout],
    columns: Sequence[dict[str, Floats]],
    update: Update,
) -> None:
    """One optimizer step of the policy, and of the value model, on a mini-batch; none where nothing has a gradient."""
    totals = Totals(sum(len(each.ids) for each in rollouts), len(rollouts), config.max_new_tokens)
    everywhere = config.objective.kl_in_loss or config.objective.entropy_coefficient > 0
    useful = [row for row, column in enumerate(columns) if everywhere or column[ADVANTAGES].any()]
    if useful:
        trees, names = _trees(config, [rollouts[row] for row in useful], [columns[row] for row in useful])
        gaps: list[float] = []
        loss_of = policy_loss_function(config, totals, gaps)
        update.policy.append(models.policy.step(number, num_steps, trees, loss_of, names))
        if len(update.policy) == 1:
            update.sampler_gap = max(map(max, models.world.gather(gaps)))
    if models.value is not None and rollouts:
        trees, names = _trees(config, rollouts, columns)
        loss_of = value_loss_function(config, totals)
        update.value.append(models.value.step(number, num_steps, trees, loss_of, names))


def _trees(
    config: RLVRConfig, rollouts: Sequence[Rollout], columns: Sequence[dict[str, Floats]]
) -> tuple[list[Tree], list[str]]:
    """The trees of a mini-batch, and whose they are."""
    trees, _ = trees_of(rollouts, columns, config.tokens_per_batch)
    return trees, list(dict.fromkeys(rollout.problem for rollout in rollouts))


def policy_loss_function(config: RLVRConfig, totals: Totals, gaps: list[float]) -> LossFunction:
    """The policy's loss of an optimizer step; `gaps` gets each micro-batch's largest difference to the sampler."""

    def loss_of(given: Tensor, batch: Batch) -> tuple[Tensor, Sums]:
        logprob_N, entropy_N = given if given.ndim == 2 else (given, None)
        loss, sums = policy_loss(config.objective, logprob_N, batch, totals, entropy_N)
        gap_N = (logprob_N.detach() - batch.columns[BEHAVIOUR]).abs() if len(logprob_N) else logprob_N.new_zeros(1)
        gaps.append(gap_N.max().item())
        return loss, {**sums, "tokens": batch.weight_N.sum()}

    return loss_of


def value_loss_function(config: RLVRConfig, totals: Totals) -> LossFunction:
    """The value model's loss of an optimizer step."""
    clip, coefficient = config.objective.value_clip, config.objective.value_coefficient
    assert clip is not None and coefficient is not None

    def loss_of(value_N: Tensor, batch: Batch) -> tuple[Tensor, Sums]:
        loss, sums = value_loss(value_N, batch, totals, clip)
        return coefficient * loss, {**sums, "tokens": batch.weight_N.sum()}

    return loss_of
