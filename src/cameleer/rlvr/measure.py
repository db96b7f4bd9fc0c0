"""What is measured and never trained on: pass rates before the first step, accuracy of held-out problems on the way."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cameleer.core.artifact import write_json
from cameleer.core.interval import wilson_interval
from cameleer.model.generate import Sampling
from cameleer.rlvr.config import Difficulty
from cameleer.rlvr.problems import Prompt
from cameleer.rlvr.rollouts import RolloutSource, Sampled
from cameleer.train.distributed import World

PASS_RATES = "pass_rates.json"


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
    """Greedy answers to held-out problems: (correct, judged) by task, and the mean accuracy over tasks."""

    by_task: dict[str, tuple[float, int]]
    num_unjudged: int

    @property
    def mean(self) -> float:
        return sum(_share(*counts) for counts in self.by_task.values()) / len(self.by_task)

    def line(self) -> dict[str, Any]:
        """As keys of `metrics.jsonl`, with Wilson's 95% intervals."""
        found: dict[str, Any] = {"held_out": self.mean, "held_out_unjudged": self.num_unjudged}
        for task, (correct, total) in self.by_task.items():
            interval = wilson_interval(correct, total)
            found |= {
                f"held_out/{task}": _share(correct, total),
                f"held_out_low/{task}": interval.low,
                f"held_out_high/{task}": interval.high,
            }
        return found


def _share(correct: float, total: int) -> float:
    return correct / total if total else 0.0


def accuracy(source: RolloutSource, world: World, prompts: Sequence[Prompt], max_new_tokens: int) -> Accuracy:
    """The accuracy of the sampler's present weights. An answer without a verdict counts neither way."""
    sampled = sample_on_ranks(source, world, list(enumerate(prompts)), 1, Sampling(max_new_tokens))
    scores: defaultdict[str, list[float]] = defaultdict(list)
    for rollout in sampled.rollouts:
        scores[rollout.task] += [] if rollout.score is None else [rollout.score]
    by_task = {task: (sum(found), len(found)) for task, found in sorted(scores.items())}
    return Accuracy(by_task, sum(rollout.score is None for rollout in sampled.rollouts))


def pass_rates(
    source: RolloutSource,
    world: World,
    prompts: Sequence[Prompt],
    difficulty: Difficulty,
    sampling: Sampling,
    file: Path,
) -> list[float]:
    """Each prompt's share of correct answers under the starting weights; taken from `file` once it is there."""
    found: dict[str, float] | None = world.broadcast(json.loads(file.read_text()) if file.exists() else None)
    if found is None:
        # Places below 0: no draw of training is spent on it.
        asked = [(-1 - row, prompt) for row, prompt in enumerate(prompts)]
        sampled = sample_on_ranks(source, world, asked, difficulty.num_samples, sampling)
        scores: defaultdict[int, list[float]] = defaultdict(list)
        for rollout in sampled.rollouts:
            scores[-1 - rollout.place] += [] if rollout.score is None else [rollout.score]
        found = {prompt.problem.id: _share(sum(scores[row]), len(scores[row])) for row, prompt in enumerate(prompts)}
        if world.leads:
            write_json(file, found)
    return [found[prompt.problem.id] for prompt in prompts]


def of_suitable_difficulty(rates: Sequence[float], difficulty: Difficulty) -> list[int]:
    """The rows whose pass rate is in the range."""
    low, high = difficulty.pass_rate
    return [row for row, rate in enumerate(rates) if low <= rate <= high]
