"""The settings of an evaluation, and the suites of tasks. Imports no torch."""

from enum import StrEnum
from typing import Self

from pydantic import Field, field_validator, model_validator

from cameleer.core.config import Config
from cameleer.core.errors import UserError, did_you_mean
from cameleer.core.stage import BASE, Input, InputKind, StageConfig
from cameleer.tasks import Judge, SealedReader, Task, find_task


class RefusalMethod(StrEnum):
    """How refusals are told from compliance."""

    KEYWORDS = "keywords"
    RUBRIC = "rubric"
    WILDGUARD = "wildguard"


class JudgeConfig(Config):
    """Who judges the tasks that no verifier can decide."""

    model: str | None = None
    """The judge: its name at the endpoint or, without one, a model spec, run in this process."""
    endpoint: str | None = None
    """An OpenAI-compatible server, up to and without `/chat/completions`."""
    api_key_env: str | None = None
    """The environment variable that holds the endpoint's key; absent: it wants none."""
    max_concurrency: int = Field(default=8, ge=1)
    """Requests under way at once."""
    requests_per_minute: float | None = Field(default=None, gt=0)
    """The endpoint's rate limit, if it has one."""
    refusal: RefusalMethod = RefusalMethod.KEYWORDS
    """Who tells refusals: `wildguard` as in the paper, `rubric` asks the judge, `keywords` approximates both."""
    wildguard: str = "allenai/wildguard"
    """The classifier for `refusal = "wildguard"`."""
    encoder: str = "roberta-large"
    """The encoder of HREF's similarity."""
    encoder_layer: int = Field(default=17, ge=1)
    """The layer of the encoder that is compared."""

    @model_validator(mode="after")
    def _endpoint_has_a_model(self) -> Self:
        if self.endpoint is not None and self.model is None:
            raise ValueError(f"endpoint = '{self.endpoint}' without a model; set judge.model to its name there")
        return self


def asks_model(kind: Judge, config: JudgeConfig) -> bool:
    """Whether tasks of a kind are judged by `judge.model`."""
    return kind is not Judge.REFUSAL or config.refusal is RefusalMethod.RUBRIC


SUITES: dict[str, tuple[str, ...]] = {
    "quickstart": ("quickstart-dev", "quickstart-unseen"),
    "quickstart-dev": ("word-arithmetic-dev", "precise-if-dev"),
    "quickstart-unseen": ("word-arithmetic-unseen", "precise-if-unseen"),
    "tulu3-dev": (
        *("mmlu", "popqa", "truthfulqa", "bbh", "drop", "math", "gsm8k"),
        *("humaneval", "humaneval-plus", "ifeval", "alpaca-eval", "safety"),
    ),
    "tulu3-unseen": (
        *("mmlu-pro", "gpqa", "agieval-english", "deepmind-math"),
        *("bigcodebench-hard", "ifeval-ood", "href"),
    ),
    "safety": (
        *("harmbench", "xstest", "wildguardtest", "jailbreak-trigger"),
        *("do-anything-now", "wildjailbreak-test"),
    ),
}
"""Lists of tasks and suites by name. A suite's average is the mean over its entries; a suite among them counts once."""

GENERATED_ITEMS = 200
"""Items of a generated task, where none are asked for."""


class EvalConfig(StageConfig):
    """Every model's answers to every task's items, under each task's own settings."""

    models: tuple[str, ...] = Field(default=(BASE,), min_length=1)
    """The models: `base`, stages, or model specs. Each is compared with the first and with the one before it."""
    tasks: tuple[str, ...] = Field(min_length=1)
    """Tasks, or suites, which stand for their tasks."""
    num_items: int | None = Field(default=None, ge=1)
    """Items per task, the same for every model; absent: all of a benchmark, 200 of a generated task."""
    batch_size: int = Field(default=128, ge=1)
    """Sequences generated at once; sets memory and speed, not the score."""
    max_new_tokens: int | None = Field(default=None, ge=1)
    """Longest answer in tokens; absent: what each task states."""
    judge: JudgeConfig = JudgeConfig()
    """Who judges safety, AlpacaEval and HREF."""
    deadline_seconds: float = Field(default=60.0, gt=0)
    """How long a verifier may take for one answer; beyond that the outcome is `timeout`."""

    @field_validator("models")
    @classmethod
    def _models_differ(cls, models: tuple[str, ...]) -> tuple[str, ...]:
        for model in models:
            if models.count(model) > 1:
                raise ValueError(f"'{model}' is named more than once")
        return models

    @field_validator("tasks")
    @classmethod
    def _names_are_known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            try:
                tasks_of(name)
            except UserError as failure:
                raise ValueError(f"{failure.what}{did_you_mean(name, SUITES)} {failure.hint or ''}".strip()) from None
        return tuple(dict.fromkeys(names))

    @property
    def task_names(self) -> tuple[str, ...]:
        """The tasks with those of the suites, each once, in order."""
        return tuple(dict.fromkeys(task for name in self.tasks for task in tasks_of(name)))

    @property
    def suites(self) -> tuple[str, ...]:
        """The suites that are named, and those within them, each once: the larger before its parts."""
        return tuple(dict.fromkeys(suite for name in self.tasks for suite in _suites_of(name)))

    def inputs(self) -> list[Input]:
        return [Input(model, InputKind.MODEL, model) for model in self.models]


def tasks_of(name: str) -> list[str]:
    """The names of the tasks that a task or suite stands for. Raises UserError for an unknown one."""
    if name in SUITES:
        return [task for entry in SUITES[name] for task in tasks_of(entry)]
    return [find_eval_task(name).name]


def _suites_of(name: str) -> list[str]:
    return [name, *(suite for entry in SUITES[name] for suite in _suites_of(entry))] if name in SUITES else []


def find_eval_task(name: str) -> Task:
    """The task of a name, sealed or not: evaluation is what sealed tasks are for."""
    return find_task(name, SealedReader.EVALS)
