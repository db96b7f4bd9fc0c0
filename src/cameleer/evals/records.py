"""One line of JSON per item, written as the item finishes, so that an evaluation can be stopped at any moment.

A record carries the key of everything that its answer and verdict depend on. Opening a file keeps the records whose
key is still right and drops the others, a last line torn by a kill among them; when every item is there the file is
put into the task's order, so that a resumed evaluation leaves the same file as one that ran through.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from cameleer.core.digest import digest_json
from cameleer.core.types import Problem
from cameleer.model.generate import Completion, Sampling
from cameleer.verify import Outcome, Verdict


@dataclass(frozen=True, slots=True)
class ItemRecord:
    """What a model answered to one item and what the verifier found.

    `score` is None exactly for the outcomes `timeout` and `error`. `seconds` is the wall time since the record before
    it, so that a task's sum is what the task took, over interruptions too.
    """

    id: str
    family: str
    key: str
    messages: list[dict[str, str]]
    verifier: str
    target: Any
    response: str
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


@dataclass(frozen=True, slots=True)
class Item:
    """A problem as one model meets it: its prompt as token ids, and the key of its answer and verdict."""

    problem: Problem
    prompt: list[int]
    key: str


def make_item(problem: Problem, prompt: list[int], model_digest: str, sampling: Sampling, task_version: int) -> Item:
    """The key covers what the answer (weights, prompt ids, sampling) and the verdict (verifier, target) come from."""
    judged_by = [problem.task, task_version, problem.verifier, problem.target]
    return Item(problem, prompt, digest_json([model_digest, prompt, asdict(sampling), judged_by]))


def make_record(item: Item, completion: Completion, response: str, verdict: Verdict, seconds: float) -> ItemRecord:
    """The record of one item; `response` is the text of the completion."""
    return ItemRecord(
        id=item.problem.id,
        family=item.problem.family,
        key=item.key,
        messages=[{"role": message.role, "content": message.content} for message in item.problem.messages],
        verifier=item.problem.verifier,
        target=item.problem.target,
        response=response,
        num_prompt_tokens=len(item.prompt),
        num_response_tokens=len(completion.ids),
        finish_reason=completion.finish_reason.value,
        outcome=verdict.outcome.value,
        score=verdict.score,
        detail=verdict.detail,
        seconds=round(seconds, 4),
    )


class RecordFile:
    """The records of one model on one task, whose items are given in the task's order."""

    def __init__(self, path: Path, items: Sequence[Item]) -> None:
        keys = {item.problem.id: item.key for item in items}
        self._path, self._keys = path, keys
        self._records = {record.id: record for record in _read(path) if keys.get(record.id) == record.key}
        path.parent.mkdir(parents=True, exist_ok=True)
        self._rewrite()
        self._file: TextIO = path.open("a", encoding="utf-8")

    def __contains__(self, item: str) -> bool:
        return item in self._records

    def __len__(self) -> int:
        return len(self._records)

    @property
    def records(self) -> list[ItemRecord]:
        """What is recorded, in the task's order."""
        return [self._records[item] for item in self._keys if item in self._records]

    def append(self, record: ItemRecord) -> None:
        """Record an item; on return its line is with the operating system."""
        self._file.write(_line(record))
        self._file.flush()
        self._records[record.id] = record

    def close(self) -> None:
        """Put a complete file into the task's order; an incomplete one stays as it is, to be gone on with."""
        self._file.close()
        if len(self) == len(self._keys):
            self._rewrite()

    def _rewrite(self) -> None:
        draft = self._path.with_name(f".{self._path.name}.draft")
        draft.write_text("".join(map(_line, self.records)), encoding="utf-8")
        draft.replace(self._path)


def _line(record: ItemRecord) -> str:
    return json.dumps(asdict(record), ensure_ascii=False, allow_nan=False) + "\n"


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
