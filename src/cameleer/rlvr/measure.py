"""What is measured and never trained on: pass rates before the first step, accuracy of held-out problems on the way."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from cameleer.core.artifact import write_json
from cameleer.core.interval import wilson_interval
from cameleer.core.log import ticker
from cameleer.model.generate import Sampling
from cameleer.rlvr.config import Difficulty
from cameleer.rlvr.problems import Prompt
from cameleer.rlvr.rollouts import Rollout, RolloutSource, Sampled
from cameleer.train.distributed import World

PASS_RATES = "pass_rates.json"
PROMPTS_PER_PART = 256
"""Prompts that are answered before their pass rates are written down."""


def sample_on_ranks(
    source: RolloutSource, world: World, asked: Sequence[tuple[int, Prompt]], num_samples: int, sampling: Sampling
) -> Sampled:
    """Answers to all prompts, on every rank; each rank samples its share of the prompts."""
    parts = world.gather(source.sample(asked[world.rank :: world.size], num_samples, sampling))
    return Sampled(
        rollouts=sorted((each for part in parts for each in part.rollouts), key=lambda each: (each.place, each.sample)),
        num_tokens=sum(part.num_tokens for part in parts),
        seconds=max(part.seconds for part in parts),
        verify_seconds=max(part.verify_seconds for part in parts),
    )


@dataclass(frozen=True)
class Accuracy:
    """Greedy answers to held-out problems: (correct, judged) of each task; answers without a verdict."""

    by_task: dict[str, tuple[float, int]]
    num_unjudged: int

    @property
    def mean(self) -> float | None:
        """The mean accuracy over tasks; None where one has no verdict: a mean over others is no measure of the same."""
        if not all(total for _, total in self.by_task.values()):
            return None
        return fmean(correct / total for correct, total in self.by_task.values())

    def line(self) -> dict[str, Any]:
        """As keys of `metrics.jsonl`, with Wilson's 95% intervals."""
        found: dict[str, Any] = {"held_out": self.mean, "held_out_unjudged": self.num_unjudged}
        for task, (correct, total) in self.by_task.items():
            if not total:
                continue
            interval = wilson_interval(correct, total)
            found |= {
                f"held_out/{task}": correct / total,
                f"held_out_low/{task}": interval.low,
                f"held_out_high/{task}": interval.high,
            }
        return found


def greedy_answers(
    source: RolloutSource, world: World, prompts: Sequence[Prompt], max_new_tokens: int
) -> list[Rollout]:
    """One to each prompt, of the sampler's present weights; its place is the prompt's index."""
    return sample_on_ranks(source, world, list(enumerate(prompts)), 1, Sampling(max_new_tokens)).rollouts


def accuracy(answers: Sequence[Rollout]) -> Accuracy:
    """The accuracy of at least one answer. One without a verdict counts neither way."""
    scores: dict[str, list[float]] = {task: [] for task in sorted({answer.task for answer in answers})}
    for answer in answers:
        if answer.score is not None:
            scores[answer.task].append(answer.score)
    by_task = {task: (sum(found), len(found)) for task, found in scores.items()}
    return Accuracy(by_task, sum(answer.score is None for answer in answers))


def pass_rates(
    source: RolloutSource,
    world: World,
    prompts: Sequence[Prompt],
    difficulty: Difficulty,
    sampling: Sampling,
    file: Path,
    retry: bool,
) -> list[float | None]:
    """Each prompt's share of correct answers under the starting weights; None where no answer has a verdict.

    What `file` holds is not measured again; it is written after every `PROMPTS_PER_PART` prompts. With `retry` those
    without a verdict are: their verifier may have been mended.
    """
    known: dict[str, float | None] = world.broadcast(json.loads(file.read_text()) if file.exists() else {})
    if retry:
        known = {problem: rate for problem, rate in known.items() if rate is not None}
    missing = [row for row, prompt in enumerate(prompts) if prompt.problem.id not in known]
    with ticker("pass rates", len(prompts), len(prompts) - len(missing), shown=world.leads) as progress:
        for start in range(0, len(missing), PROMPTS_PER_PART):
            part = missing[start : start + PROMPTS_PER_PART]
            # Places below 0: no draw of training is spent on it.
            asked = [(-1 - row, prompts[row]) for row in part]
            sampled = sample_on_ranks(source, world, asked, difficulty.num_samples, sampling)
            scores: dict[int, list[float]] = {row: [] for row in part}
            for rollout in sampled.rollouts:
                if rollout.score is not None:
                    scores[-1 - rollout.place].append(rollout.score)
            known |= {prompts[row].problem.id: fmean(found) if found else None for row, found in scores.items()}
            if world.leads:
                write_json(file, known)
            progress.advance(len(part))
    return [known[prompt.problem.id] for prompt in prompts]


def of_suitable_difficulty(rates: Sequence[float | None], difficulty: Difficulty) -> list[int]:
    """The rows whose pass rate is known and in the range."""
    low, high = difficulty.pass_rate
    return [row for row, rate in enumerate(rates) if rate is not None and low <= rate <= high]
