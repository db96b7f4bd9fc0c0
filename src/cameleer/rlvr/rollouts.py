"""Rollouts: what was sampled for a step and what became of it, kept whole on disk.

    prompts -> answers, sampled on the learner's own weights -> verdicts, while the others are still sampled -> rewards

Token ids are the record: nothing is tokenised again. A step's rollouts are one Parquet file, written whole when the
last verdict is there and once more with the advantages. A run that goes on after a kill takes the steps that have a
file from there, verdicts included (a program that ran out of time might not the next time), and samples the others
anew: a draw depends on the seed, the prompt's place and the sample's number, not on its batch.
"""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from cameleer.core.errors import UserError
from cameleer.core.render import Renderer
from cameleer.core.table import Table, strings
from cameleer.model.generate import Completion, FinishReason, LocalGenerator, Sampling
from cameleer.rlvr.advantages import NO_SPREAD
from cameleer.rlvr.config import RewardConfig
from cameleer.rlvr.problems import Prompt
from cameleer.rlvr.shaping import reward_of
from cameleer.verify import Outcome, Verdict
from cameleer.verify.pool import VerifierPool

FOLDER, HELD_OUT = "rollouts", "held_out"
"""The folders of what steps learn from, and of greedy answers to what is held out."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """One answer to the prompt at `place` of the run; `ids` ends with the end token unless it was cut off.

    `logprobs` are those of the policy that sampled, at the sampling temperature; `weight_version` counts the steps that
    it had learned. `score` is None for outcomes `error` and `timeout`, and so is `reward`. `advantages`, one for each
    token, is None until the step learns, and after it for answers that were left out.
    """

    place: int
    sample: int
    problem: str
    task: str
    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    ended: bool
    weight_version: int
    response: str
    outcome: Outcome
    score: float | None
    detail: dict[str, Any]
    reward: float | None
    shaping: dict[str, float]
    advantages: tuple[float, ...] | None = None

    @property
    def is_judged(self) -> bool:
        """Whether its verdict says anything about the answer."""
        return self.reward is not None


def _to_columns(rows: list[Rollout]) -> list[pa.Array]:
    return [
        pa.array([row.place for row in rows], pa.int64()),
        pa.array([row.sample for row in rows], pa.int32()),
        strings(row.problem for row in rows),
        strings(row.task for row in rows),
        pa.array([row.prompt_ids for row in rows], pa.list_(pa.int32())),
        pa.array([row.ids for row in rows], pa.list_(pa.int32())),
        # As they were sampled: in fp32, so nothing is rounded.
        pa.array([row.logprobs for row in rows], pa.list_(pa.float64())),
        pa.array([row.ended for row in rows], pa.bool_()),
        pa.array([row.weight_version for row in rows], pa.int64()),
        strings(row.response for row in rows),
        strings(row.outcome.value for row in rows),
        pa.array([row.score for row in rows], pa.float64()),
        strings(json.dumps(row.detail, ensure_ascii=False, default=str) for row in rows),
        pa.array([row.reward for row in rows], pa.float64()),
        strings(json.dumps(row.shaping) for row in rows),
        pa.array([row.advantages for row in rows], pa.list_(pa.float64())),
    ]


def _to_row(*values: Any) -> Rollout:
    names = [field.name for field in ROLLOUTS.schema]
    row: dict[str, Any] = dict(zip(names, values, strict=True))
    for name in ("prompt_ids", "ids", "logprobs"):
        row[name] = tuple(row[name])
    if row["advantages"] is not None:
        row["advantages"] = tuple(row["advantages"])
    for name in ("detail", "shaping"):
        row[name] = json.loads(row[name])
    row["outcome"] = Outcome(row["outcome"])
    return Rollout(**row)


ROLLOUTS = Table[Rollout](
    name="rollouts.parquet",
    noun="step's rollouts",
    schema=pa.schema(
        [
            ("place", pa.int64()),
            ("sample", pa.int32()),
            ("problem", pa.string()),
            ("task", pa.string()),
            ("prompt_ids", pa.list_(pa.int32())),
            ("ids", pa.list_(pa.int32())),
            ("logprobs", pa.list_(pa.float64())),
            ("ended", pa.bool_()),
            ("weight_version", pa.int64()),
            ("response", pa.string()),
            ("outcome", pa.string()),
            ("score", pa.float64()),
            ("detail", pa.string()),
            ("reward", pa.float64()),
            ("shaping", pa.string()),
            ("advantages", pa.list_(pa.float64())),
        ]
    ),
    to_columns=_to_columns,
    to_row=_to_row,
    size=lambda row: len(row.response) + 8 * (len(row.prompt_ids) + 3 * len(row.ids)),
    optional=frozenset({"score", "reward", "advantages"}),
)


@dataclass(frozen=True)
class RolloutFiles:
    """A file of rollouts for each step, counted from 0: `step-000001.parquet` holds those of step 0."""

    folder: Path
    first: int = 1
    """The number of step 0's file."""

    def write(self, step: int, rollouts: Sequence[Rollout]) -> None:
        self.folder.mkdir(exist_ok=True)
        self._table(step).write(self.folder, rollouts)

    def read(self, step: int) -> list[Rollout] | None:
        """The rollouts of a step, None where it has no file. Raises UserError for a damaged one."""
        table = self._table(step)
        return list(table.read(self.folder)) if (self.folder / table.name).exists() else None

    def _table(self, step: int) -> Table[Rollout]:
        return replace(ROLLOUTS, name=f"step-{step + self.first:06d}.parquet")


@dataclass(frozen=True)
class Sampled:
    """Rollouts in the order of places and samples, and what they took."""

    rollouts: list[Rollout]
    num_tokens: int = 0
    seconds: float = 0.0
    verify_seconds: float = 0.0


def together(rollouts: list[Rollout], parts: Sequence[Sampled]) -> Sampled:
    """These rollouts, with what all parts took."""
    return Sampled(
        rollouts,
        sum(part.num_tokens for part in parts),
        sum(part.seconds for part in parts),
        sum(part.verify_seconds for part in parts),
    )


@dataclass(frozen=True)
class RolloutSource:
    """Samples answers on the weights that `generator` holds, and has them verified meanwhile.

    This is what a learner asks for rollouts; one that samples elsewhere answers the same call.
    """

    generator: LocalGenerator
    pool: VerifierPool
    renderer: Renderer
    reward: RewardConfig

    def sample(self, asked: Sequence[tuple[int, Prompt]], num_samples: int, sampling: Sampling) -> Sampled:
        """`num_samples` answers to each (place, prompt)."""
        started = time.monotonic()
        items = [(place, sample, prompt) for place, prompt in asked for sample in range(num_samples)]
        names = [f"{place}/{sample}" for place, sample, _ in items]
        completions: list[tuple[int, Completion, str]] = []
        sampled_at = started

        def responses() -> Iterator[tuple[str, str, Any]]:
            nonlocal sampled_at
            for index, completion in self._complete([prompt for _, _, prompt in items], sampling, names):
                response = self.renderer.decode(completion.ids)
                completions.append((index, completion, response))
                problem = items[index][2].problem
                yield response, problem.verifier, problem.target
            sampled_at = time.monotonic()

        rollouts: list[Rollout | None] = [None] * len(items)
        for number, verdict, _ in self.pool.verify_all(responses()):
            index, completion, response = completions[number]
            rollouts[index] = self._rollout(*items[index], completion, response, verdict, sampling)
        return Sampled(
            rollouts=[each for each in rollouts if each is not None],
            num_tokens=sum(len(completion.ids) for _, completion, _ in completions),
            seconds=sampled_at - started,
            verify_seconds=time.monotonic() - sampled_at,
        )

    def _complete(
        self, prompts: Sequence[Prompt], sampling: Sampling, names: Sequence[str]
    ) -> Iterator[tuple[int, Completion]]:
        """Completions as they finish. A failure names the problems."""
        try:
            yield from self.generator.stream([prompt.ids for prompt in prompts], sampling, names)
        except UserError as error:
            problems = ", ".join(list(dict.fromkeys(prompt.problem.id for prompt in prompts))[:4])
            raise UserError(f"sampling answers to {problems}, …: {error.what}", error.hint) from None

    def _rollout(
        self,
        place: int,
        sample: int,
        prompt: Prompt,
        completion: Completion,
        response: str,
        verdict: Verdict,
        sampling: Sampling,
    ) -> Rollout:
        ended = completion.finish_reason is FinishReason.STOP
        reward, terms = reward_of(self.reward, verdict, completion.ids, response, ended, sampling.max_new_tokens)
        return Rollout(
            place=place,
            sample=sample,
            problem=prompt.problem.id,
            task=prompt.problem.task,
            prompt_ids=prompt.ids,
            ids=completion.ids,
            logprobs=completion.logprobs,
            ended=ended,
            weight_version=completion.weight_version,
            response=response,
            outcome=verdict.outcome,
            score=verdict.score,
            detail=verdict.detail,
            reward=reward,
            shaping=terms,
        )


def groups_of(rollouts: Sequence[Rollout]) -> list[list[Rollout]]:
    """The answers of each prompt, by place."""
    groups: dict[int, list[Rollout]] = {}
    for rollout in rollouts:
        groups.setdefault(rollout.place, []).append(rollout)
    return [groups[place] for place in sorted(groups)]


def has_variance(group: Sequence[Rollout]) -> bool:
    """Whether the judged answers to a prompt differ in reward, by more than rounding."""
    rewards = [rollout.reward for rollout in group if rollout.reward is not None]
    return len(rewards) > 1 and max(rewards) - min(rewards) > NO_SPREAD


def refuse_failed_verifiers(where: str, rollouts: Sequence[Rollout]) -> None:
    """Raise a UserError where verifiers failed on every answer to several problems: until that is mended nothing can be
    learned or measured. One problem alone may be at fault itself, and is counted like any other."""
    failed = all(rollout.outcome is Outcome.ERROR for rollout in rollouts)
    if not failed or len({rollout.problem for rollout in rollouts}) < 2:
        return
    first = rollouts[0]
    raise UserError(
        f"{where}: verifiers failed on all {len(rollouts)} answers; on one to {first.problem}: "
        f"{first.detail.get('error', first.detail)}.",
        "Mend that and give the same command: the run goes on from its last checkpoint and samples these again.",
    )
