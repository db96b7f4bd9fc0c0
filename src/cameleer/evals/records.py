"""One line of JSON per answer, written as the answer is judged, so that an evaluation can be stopped at any moment.

A record carries the key of everything that its answer and verdict depend on. Opening a file keeps the records whose
key is still right and drops the others, a last line torn by a kill among them; when every answer is there the file is
put into the task's order, so that a resumed evaluation leaves the same file as one that ran through.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from cameleer.core.artifact import json_line
from cameleer.core.digest import digest_json
from cameleer.core.types import Problem, turns
from cameleer.verify import Outcome, Verdict


@dataclass(frozen=True, slots=True)
class ItemRecord:
    """What a model answered to one item and what was found.

    `sample` counts the answers to one item from 0. For an item with choices, `choice_logprobs` are their summed
    log-probabilities, None for one that is not finite, and the response is the likeliest. `score` is None exactly for
    the outcomes `timeout` and `error`. `seconds` is the wall time since the record before it, so that a task's sum is
    what the task took, over interruptions too.
    """

    id: str
    sample: int
    family: str
    cluster: str
    key: str
    messages: list[dict[str, str]]
    prefix: str
    verifier: str
    target: Any
    response: str
    choice_logprobs: list[float | None]
    num_prompt_tokens: int
    num_response_tokens: int
    finish_reason: str
    outcome: str
    score: float | None
    detail: dict[str, Any]
    seconds: float

    @property
    def is_correct(self) -> bool:
        return self.outcome == Outcome.CORRECT

    @property
    def is_kept(self) -> bool:
        """Whether the record stands: a failure to judge says nothing of the answer, and may not happen again."""
        return self.score is not None or self.detail == AWAITS_JUDGE

    @property
    def place(self) -> tuple[str, int]:
        """Which answer this is: item and sample."""
        return self.id, self.sample


AWAITS_JUDGE = {"awaits": "judge"}
"""The detail of an answer whose judge is asked after all answers are there."""


@dataclass(frozen=True, slots=True)
class Item:
    """One answer to be had: a problem as one model meets it, and the key of the answer and its verdict.

    `prompt` is token ids; for an item with choices they are the context, and `continuations` the choices' ids.
    """

    problem: Problem
    sample: int
    prompt: list[int]
    continuations: tuple[tuple[int, ...], ...]
    key: str

    @property
    def place(self) -> tuple[str, int]:
        return self.problem.id, self.sample


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model gave for an item."""

    response: str
    num_tokens: int
    finish_reason: str
    choice_logprobs: tuple[float, ...] = ()


def answer_key(item: Item, depends_on: Any) -> str:
    """The digest of what an answer and its verdict come from: prompt, verifier, target, and what is handed in."""
    problem = item.problem
    judged_by = [problem.task, problem.verifier, problem.target]
    return digest_json([item.prompt, item.continuations, item.sample, judged_by, depends_on])


def make_record(item: Item, answer: Answer, verdict: Verdict, seconds: float) -> ItemRecord:
    """The record of one answer."""
    problem = item.problem
    return ItemRecord(
        id=problem.id,
        sample=item.sample,
        family=problem.family,
        cluster=problem.cluster or problem.id,
        key=item.key,
        messages=turns(problem.messages),
        prefix=problem.prefix,
        verifier=problem.verifier,
        target=problem.target,
        response=answer.response,
        choice_logprobs=[value if math.isfinite(value) else None for value in answer.choice_logprobs],
        num_prompt_tokens=len(item.prompt),
        num_response_tokens=answer.num_tokens,
        finish_reason=answer.finish_reason,
        outcome=verdict.outcome.value,
        score=verdict.score,
        detail=verdict.detail,
        seconds=round(seconds, 4),
    )


class RecordFile:
    """The records of one model on one task, whose items are given in the task's order."""

    def __init__(self, path: Path, items: Sequence[Item]) -> None:
        keys = {item.place: item.key for item in items}
        self._path, self._keys = path, keys
        found = _read(path)
        # What failed is tried again; what was not asked for now is kept for whoever asks again.
        usable = [record for record in found if record.is_kept]
        self._records = {record.place: record for record in usable if keys.get(record.place) == record.key}
        self._others = [record for record in usable if record.place not in keys]
        path.parent.mkdir(parents=True, exist_ok=True)
        self._rewrite()
        self._file: TextIO = path.open("a", encoding="utf-8")

    def __contains__(self, item: Item) -> bool:
        return item.place in self._records

    def __len__(self) -> int:
        return len(self._records)

    @property
    def records(self) -> list[ItemRecord]:
        """What is recorded, in the task's order."""
        return [self._records[place] for place in self._keys if place in self._records]

    def append(self, record: ItemRecord) -> None:
        """Record an answer; on return its line is with the operating system."""
        self._file.write(json_line(asdict(record)))
        self._file.flush()
        self._records[record.place] = record

    def close(self) -> None:
        """Put a complete file into the task's order; an incomplete one stays as it is, to be gone on with."""
        self._file.close()
        if len(self) == len(self._keys):
            self._rewrite()

    def _rewrite(self) -> None:
        write_records(self._path, [*self.records, *self._others])


def write_records(path: Path, records: Sequence[ItemRecord]) -> None:
    """Write records as they are, whole or not at all."""
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text("".join(json_line(asdict(record)) for record in records), encoding="utf-8")
    draft.replace(path)


def _read(path: Path) -> list[ItemRecord]:
    """The records of a file that may be absent, cut off or of another version; other lines are left out."""
    records: list[ItemRecord] = []
    lines = path.read_bytes().split(b"\n") if path.exists() else []
    for line in lines:
        try:
            records.append(ItemRecord(**json.loads(line)))
        except (ValueError, TypeError):
            continue
    return records
