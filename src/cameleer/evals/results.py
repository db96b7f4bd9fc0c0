"""From item records to the numbers of `results.json`: a plain dict, so that a report needs nothing else.

    accuracy of a model on a task = sum of scores / judged items        judged: neither `timeout` nor `error`
    macro accuracy of a role      = mean of the accuracies of the tasks with that role
    comparison                    = mean score difference over the items judged for both models

What could not be judged is counted among the outcomes and is in no mean.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from cameleer.evals.records import ItemRecord
from cameleer.evals.stats import macro_mean, paired_difference, wilson_interval
from cameleer.tasks import TaskRole
from cameleer.verify import Outcome

NUM_EXAMPLES_PER_TASK = 3

Records = Mapping[tuple[str, str], Sequence[ItemRecord]]
"""The records of each (model, task), in the task's order."""


def summarise(models: Sequence[str], roles: Mapping[str, TaskRole], records: Records, seed: int) -> dict[str, Any]:
    """Scores, macro accuracies, comparisons, looks and examples; `roles` has the tasks in the order of the report."""
    scores = [_score(model, task, records[model, task]) for task in roles for model in models]
    return {
        "scores": scores,
        "macro": {model: _macro(model, roles, scores) for model in models},
        "comparisons": [
            {"task": task, "model": model, "against": other}
            | _compare(records[model, task], records[other, task], seed)
            for task in roles
            for model, other in compared_pairs(models)
        ],
        "unseen_looks": [
            {"task": task, "model": model, "num_items": len(records[model, task])}
            for task, role in roles.items()
            if role is TaskRole.UNSEEN
            for model in models
        ],
        "examples": [example for task in roles for example in _examples(models, task, records)],
    }


def compared_pairs(models: Sequence[str]) -> list[tuple[str, str]]:
    """(model, other) for each later model against the first, then against the one before it."""
    pairs = [(model, models[0]) for model in models[1:]]
    return pairs + list(zip(models[2:], models[1:-1], strict=True))


def _score(model: str, task: str, records: Sequence[ItemRecord]) -> dict[str, Any]:
    judged = [record.score for record in records if record.score is not None]
    interval = wilson_interval(sum(judged), len(judged))
    outcomes = Counter(record.outcome for record in records)
    finishes = Counter(record.finish_reason for record in records)
    return {
        "model": model,
        "task": task,
        "accuracy": sum(judged) / len(judged) if judged else None,
        "interval": [interval.low, interval.high],
        "num_items": len(records),
        "num_judged": len(judged),
        "outcomes": {outcome.value: outcomes[outcome.value] for outcome in Outcome},
        "finish_reasons": dict(sorted(finishes.items())),
        "num_prompt_tokens": sum(record.num_prompt_tokens for record in records),
        "num_response_tokens": sum(record.num_response_tokens for record in records),
        "seconds": round(sum(record.seconds for record in records), 2),
    }


def _macro(model: str, roles: Mapping[str, TaskRole], scores: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Macro accuracy by role; a role with a task that has no judged item has none."""
    accuracies: dict[str, list[float | None]] = {}
    for score in scores:
        if score["model"] == model:
            accuracies.setdefault(roles[score["task"]].value, []).append(score["accuracy"])
    known = {role: [each for each in found if each is not None] for role, found in accuracies.items()}
    return {role: macro_mean(found) for role, found in known.items() if len(found) == len(accuracies[role])}


def _compare(records: Sequence[ItemRecord], others: Sequence[ItemRecord], seed: int) -> dict[str, Any]:
    pairs = [
        (record.score, other.score)
        for record, other in zip(records, others, strict=True)
        if record.score is not None and other.score is not None
    ]
    found = paired_difference([first for first, _ in pairs], [second for _, second in pairs], seed)
    values = asdict(found)
    return {**values, "interval": [found.interval.low, found.interval.high]}


def _examples(models: Sequence[str], task: str, records: Records) -> list[dict[str, Any]]:
    """The task's first items that some models solve and others do not."""
    rows = zip(*(records[model, task] for model in models), strict=True)
    differing = [row for row in rows if len({record.is_correct for record in row}) > 1]
    return [
        {
            "task": task,
            "id": row[0].id,
            "messages": row[0].messages,
            "answers": [
                {"model": model, "outcome": record.outcome, "response": record.response}
                for model, record in zip(models, row, strict=True)
            ],
        }
        for row in differing[:NUM_EXAMPLES_PER_TASK]
    ]
