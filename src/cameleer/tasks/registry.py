"""All tasks by name, and the seal on those with role `unseen`.

A stage that lists or looks up tasks meets the open ones only. A sealed task is handed out to a reader that states
its purpose, and two purposes exist: evaluation, and decontamination, which must know what to keep out of training.
"""

from enum import StrEnum

from cameleer.core.errors import UserError, did_you_mean
from cameleer.tasks import (
    agieval,
    alpaca_eval,
    bbh,
    bigcodebench,
    competition_math,
    deepmind_math,
    drop,
    gpqa,
    gsm8k,
    href,
    humaneval,
    ifeval,
    ifeval_ood,
    last_letter,
    mmlu,
    mmlu_pro,
    popqa,
    precise_if,
    safety,
    truthfulqa,
    word_arithmetic,
)
from cameleer.tasks.task import Task, TaskRole


class SealedReader(StrEnum):
    """Who may read a sealed task."""

    EVALS = "evals"
    DECONTAMINATE = "decontaminate"


_MODULES = (
    *(word_arithmetic, precise_if, last_letter),
    *(mmlu, popqa, truthfulqa, bbh, drop, competition_math, gsm8k, humaneval, ifeval, alpaca_eval, safety),
    *(mmlu_pro, gpqa, agieval, deepmind_math, bigcodebench, ifeval_ood, href),
)
_ALL = {task.name: task for module in _MODULES for task in module.TASKS}

TASKS: dict[str, Task] = {name: task for name, task in _ALL.items() if task.role is not TaskRole.UNSEEN}
"""The tasks that every stage may read."""

SEALED_TASKS: dict[str, Task] = {name: task for name, task in _ALL.items() if task.role is TaskRole.UNSEEN}
"""The others. Read them through `find_task`, so that the purpose stands in the code."""


def find_task(name: str, sealed_reader: SealedReader | None = None) -> Task:
    """The task of a name. A sealed one is refused unless `sealed_reader` says for what it is read."""
    if name in TASKS:
        return TASKS[name]
    if name not in SEALED_TASKS:
        raise UserError(f"Unknown task '{name}'.{did_you_mean(name, _ALL)}", f"Known: {', '.join(_ALL)}.")
    if sealed_reader not in tuple(SealedReader):
        raise UserError(
            f"The task '{name}' is sealed: only evaluation and decontamination may read it.",
            "Take training problems from a task with role train.",
        )
    return SEALED_TASKS[name]
