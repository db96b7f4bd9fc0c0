"""What a step learns from its rollouts.

    rollouts -> reference and proximal log-probabilities, values -> advantages -> passes x mini-batches of AdamW

Answers whose verdict says nothing (`error`, `timeout`) are left out of everything. Groups whose answers all have one
reward have advantages of 0: they count in the means, and their forward pass is saved where no KL term needs it.

On policy and in fp32 the sampler's log-probabilities are the proximal ones, so the first mini-batch has ratios of
exactly what sampler and trainer differ by. They are computed anew where rollouts are stale, where training computes in
less, and where a correction weighs the difference between the two.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from cameleer.model.policy import Policy, SegmentModel
from cameleer.model.value import ValueModel
from cameleer.rlvr.advantages import Floats, gae, group_advantages, kl_penalised_rewards, whiten
from cameleer.rlvr.config import RLVRConfig
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
from cameleer.rlvr.scoring import Answer, score, trees_of
from cameleer.train.accumulate import LossFunction, Sums
from cameleer.train.distributed import World
from cameleer.train.layout import Batch
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
    answers, num_scored = scored_answers(config, models, judged)
    add_advantages(config, answers)
    update = Update(_with_advantages(rollouts, answers))
    prepared = time.monotonic()
    first, of = (each * config.num_passes * config.num_mini_batches for each in (step, num_steps))
    for turn, dealt in enumerate(_mini_batches(config, models.policy.stage.seed, step, answers)):
        _take_step(config, models, first + turn, of, dealt, update)
    update.num_scored_tokens = num_scored
    update.scoring_seconds, update.learning_seconds = prepared - started, time.monotonic() - prepared
    return update


def scored_answers(config: RLVRConfig, models: Models, judged: Sequence[Rollout]) -> tuple[list[Answer], int]:
    """The answers with what the losses read of them beside advantages; how many of their tokens were computed."""
    answers: list[Answer] = []
    for rollout in judged:
        sampled = np.asarray(rollout.logprobs)
        answers.append(Answer(rollout, {BEHAVIOUR: sampled, PROXIMAL: sampled}))
    num_scored = 0

    def ask(model: SegmentModel, column: str, chosen: Sequence[Answer]) -> None:
        nonlocal num_scored
        rollouts = [answer.rollout for answer in chosen]
        for answer, found in zip(chosen, score(model, rollouts, config.tokens_per_batch, models.world), strict=True):
            answer.columns[column] = found
            num_scored += len(found)

    if config.scores_proximal(is_fp32=compute_dtype(config, models.world) is torch.float32):
        ask(models.policy.model, PROXIMAL, _that_learn(config, answers))
    if models.reference is not None:
        ask(models.reference, REFERENCE, answers)
    if models.value is not None:
        ask(models.value.model, OLD_VALUES, answers)
    return answers, num_scored


def _that_learn(config: RLVRConfig, answers: Sequence[Answer]) -> Sequence[Answer]:
    """The answers that may have a gradient: all where advantages are not of groups alone, else those that differ."""
    if config.uses_values or config.uses_reference or config.objective.entropy_coefficient > 0:
        return answers
    groups = groups_of([answer.rollout for answer in answers])
    varied = {group[0].place for group in groups if has_variance(group)}
    return [answer for answer in answers if answer.rollout.place in varied]


def add_advantages(config: RLVRConfig, answers: Sequence[Answer]) -> None:
    """Put the advantages, and with a value model the returns, into the answers' columns."""
    objective = config.objective
    if config.uses_values:
        assert objective.gae_gamma is not None and objective.gae_lambda is not None
        for answer in answers:
            rewards_T, values_T = _token_rewards(config, answer), answer.columns[OLD_VALUES]
            found = gae(rewards_T, values_T, objective.gae_gamma, objective.gae_lambda)
            answer.columns[ADVANTAGES], answer.columns[RETURNS] = found
        if answers:
            every = whiten(np.concatenate([answer.columns[ADVANTAGES] for answer in answers]))
            ends = np.cumsum([len(answer.rollout.ids) for answer in answers])[:-1]
            for answer, advantages in zip(answers, np.split(every, ends), strict=True):
                answer.columns[ADVANTAGES] = advantages
        return
    assert objective.advantage is not None
    groups: dict[int, list[Answer]] = {}
    for answer in answers:
        groups.setdefault(answer.rollout.place, []).append(answer)
    for group in groups.values():
        # Taken off token by token or all at once: an answer is one action here.
        rewards = np.array([_token_rewards(config, answer).sum() for answer in group])
        for answer, advantage in zip(group, group_advantages(rewards, objective.advantage), strict=True):
            answer.columns[ADVANTAGES] = np.full(len(answer.rollout.ids), advantage)


def _token_rewards(config: RLVRConfig, answer: Answer) -> Floats:
    """(L,) rewards of an answer's tokens: its own at the last, and the KL penalty where it is one of rewards."""
    assert answer.rollout.reward is not None
    policy = answer.columns[PROXIMAL]
    beta, reference = (
        (config.objective.kl_coefficient, answer.columns[REFERENCE]) if config.objective.kl_in_reward else (0.0, policy)
    )
    return kl_penalised_rewards(policy, reference, beta, answer.rollout.reward)


def _with_advantages(rollouts: Sequence[Rollout], answers: Sequence[Answer]) -> list[Rollout]:
    learned = {
        (answer.rollout.place, answer.rollout.sample): tuple(answer.columns[ADVANTAGES].tolist()) for answer in answers
    }
    return [replace(rollout, advantages=learned.get((rollout.place, rollout.sample))) for rollout in rollouts]


def _mini_batches(config: RLVRConfig, seed: int, step: int, answers: Sequence[Answer]) -> Iterator[list[Answer]]:
    """The answers of each of a step's optimizer steps: each pass deals the prompts to its mini-batches anew."""
    places = sorted({answer.rollout.place for answer in answers})
    for turn in range(config.num_passes):
        dealt = np.random.default_rng([seed, MINI_BATCHES, step, turn]).permutation(places)
        for chosen in np.array_split(dealt, config.num_mini_batches):
            wanted = set(chosen.tolist())
            yield [answer for answer in answers if answer.rollout.place in wanted]


def _take_step(
    config: RLVRConfig, models: Models, number: int, of: int, answers: Sequence[Answer], update: Update
) -> None:
    """Optimizer step `number` of `of`, of the policy and of the value model; none where nothing has a gradient."""
    totals = Totals(sum(len(answer.rollout.ids) for answer in answers), len(answers), config.max_new_tokens)
    everywhere = config.objective.kl_in_loss or config.objective.entropy_coefficient > 0
    useful = [answer for answer in answers if everywhere or answer.columns[ADVANTAGES].any()]
    if useful:
        gaps: list[float] = []
        loss_of = policy_loss_function(config, totals, gaps)
        trees, _ = trees_of(useful, config.tokens_per_batch)
        update.policy.append(models.policy.step(number, of, trees, loss_of, _names(useful)))
        if len(update.policy) == 1:
            update.sampler_gap = max(map(max, models.world.gather(gaps)))
    if models.value is not None and answers:
        loss_of = value_loss_function(config, totals)
        trees, _ = trees_of(answers, config.tokens_per_batch)
        update.value.append(models.value.step(number, of, trees, loss_of, _names(answers)))


def _names(answers: Sequence[Answer]) -> list[str]:
    """The problems that these answer."""
    return list(dict.fromkeys(answer.rollout.problem for answer in answers))


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
