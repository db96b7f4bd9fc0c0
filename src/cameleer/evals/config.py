"""The settings of an evaluation, and the suites of tasks. Imports no torch."""

from pydantic import Field, field_validator

from cameleer.core.errors import UserError, did_you_mean
from cameleer.core.stage import BASE, Input, InputKind, StageConfig
from cameleer.tasks import SealedReader, Task, find_task

SUITES: dict[str, tuple[str, ...]] = {
    "quickstart": ("word-arithmetic-dev", "precise-if-dev", "word-arithmetic-unseen", "precise-if-unseen"),
}
"""Names for lists of tasks."""


class EvalConfig(StageConfig):
    """Greedy answers of every model to every task's items."""

    models: tuple[str, ...] = Field(default=(BASE,), min_length=1)
    """The models: `base`, stages, or model specs. Each is compared with the first and with the one before it."""
    tasks: tuple[str, ...] = Field(min_length=1)
    """Tasks, or suites, which stand for their tasks."""
    num_items: int = Field(default=200, ge=1)
    """Items per task, the same for every model."""
    batch_size: int = Field(default=32, ge=1)
    """Sequences generated at once; sets memory and speed, not the score."""
    max_new_tokens: int | None = Field(default=None, ge=1)
    """Longest answer in tokens; absent: what each task states."""

    @field_validator("models")
    @classmethod
    def _models_differ(cls, models: tuple[str, ...]) -> tuple[str, ...]:
        for model in models:
            if models.count(model) > 1:
                raise ValueError(f"'{model}' is named more than once")
        return models

    @field_validator("tasks")
    @classmethod
    def _expand_suites(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        tasks = [task for name in names for task in SUITES.get(name, (name,))]
        for task in tasks:
            try:
                find_eval_task(task)
            except UserError as failure:
                raise ValueError(f"{failure.what}{did_you_mean(task, SUITES)} {failure.hint or ''}".strip()) from None
        return tuple(dict.fromkeys(tasks))

    def inputs(self) -> list[Input]:
        return [Input(model, InputKind.MODEL, model) for model in self.models]


def find_eval_task(name: str) -> Task:
    """The task of a name, sealed or not: evaluation is what sealed tasks are for."""
    return find_task(name, SealedReader.EVALS)
