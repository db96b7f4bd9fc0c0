"""The settings of synthesis. Imports no torch.

[synth]
temperature = 0.7

[[synth.prompts]]
kind = "precise_if"                 # or math_hard, math_grade_school, math_algebra, code
count = 1000

[[synth.prompts]]
kind = "augmented"                  # prompts that are there, with instructions added
mixture = "curate"                  # or problems = "curate"
count = 1000

[[synth.models]]                    # the first writes prompts and answers unless a table says otherwise
model = "some-model"                # of this machine, or behind an endpoint, or a file of recorded replies
endpoint = "https://host/v1"
budget_tokens = 5_000_000

[synth.identity]                    # rows about the model itself
names = { model = "Camel 1", developer = "Caravan Labs" }
"""

from enum import StrEnum
from typing import Any, Self

from pydantic import Field, model_validator

from cameleer.core.config import Config
from cameleer.core.served import ModelConfig, named_twice, with_name
from cameleer.core.stage import Input, InputKind, StageConfig


class PromptKind(StrEnum):
    """What prompts are about, and with it how their answers are checked."""

    PRECISE_IF = "precise_if"
    MATH_HARD = "math_hard"
    MATH_GRADE_SCHOOL = "math_grade_school"
    MATH_ALGEBRA = "math_algebra"
    CODE = "code"
    AUGMENTED = "augmented"

    @property
    def is_math(self) -> bool:
        return self in (PromptKind.MATH_HARD, PromptKind.MATH_GRADE_SCHOOL, PromptKind.MATH_ALGEBRA)

    @property
    def has_instructions(self) -> bool:
        """Whether instructions are added that a program can check."""
        return self in (PromptKind.PRECISE_IF, PromptKind.AUGMENTED)


MATH_ANSWERS = 5
"""Answers to a problem of mathematics, whose majority decides, unless said otherwise."""


class SynthPromptsConfig(Config):
    """Prompts of one kind. `augmented` takes them from exactly one of `mixture` and `problems`; others write them."""

    name: str = ""
    """The rows' `source`, unique within the stage; the kind when absent."""
    kind: PromptKind
    """`precise_if`: a task with instructions that a program can check. `math_hard`, `math_grade_school`,
    `math_algebra`, `code`: a problem. `augmented`: prompts that are there, with such instructions added."""
    count: int = Field(gt=0)
    """Prompts to ask for. Those that cannot be read, are duplicates or get no answer are missing from the rows."""
    prompts_by: str = ""
    """The model that writes the prompts, and for `code` their tests; the first when absent."""
    answers_by: str = ""
    """The model that answers; `prompts_by` when absent."""
    num_answers: int | None = Field(default=None, ge=1)
    """Answers to a prompt, of which the first that passes its check is kept; 5 for mathematics, else 1 when absent."""
    mixture: str | None = None
    """The stage that makes a mixture, or its folder: its conversations up to their last user turn, each once."""
    problems: str | None = None
    """The stage that makes problems, or their folder: their prompts, whose own verifiers are left behind."""
    sources: tuple[str, ...] = ()
    """Only these sources of the mixture, or tasks of the problems; all when empty."""

    @model_validator(mode="before")
    @classmethod
    def _named(cls, table: Any) -> Any:
        return with_name(table, table.get("kind")) if isinstance(table, dict) else table

    @model_validator(mode="after")
    def _has_its_origin(self) -> Self:
        given = [name for name in ("mixture", "problems") if getattr(self, name) is not None]
        if self.kind is PromptKind.AUGMENTED and len(given) != 1:
            raise ValueError("kind = 'augmented' adds to prompts that are there: set exactly one of mixture, problems")
        if self.kind is not PromptKind.AUGMENTED and (given or self.sources):
            raise ValueError(f"{(*given, 'sources')[0]} belongs to kind = 'augmented', not to '{self.kind}'; remove it")
        if self.kind is PromptKind.AUGMENTED and self.prompts_by:
            raise ValueError("kind = 'augmented' has no prompts written; remove prompts_by")
        if self.kind.is_math and self.num_answers in (1, 2):
            raise ValueError(f"num_answers = {self.num_answers} have no majority; set at least 3")
        return self

    @property
    def role(self) -> str:
        return f"prompts {self.name}"

    @property
    def answers_per_prompt(self) -> int:
        return self.num_answers or (MATH_ANSWERS if self.kind.is_math else 1)


class PersonasConfig(Config):
    """The people whom prompts are written for: put together from attributes, or of a `file` or a `dataset`."""

    file: str | None = None
    """One persona a line, or JSONL or Parquet with a column `persona`; relative to the recipe."""
    dataset: str | None = Field(default=None, pattern=r"^[\w.-]+/[\w.-]+$")
    """A dataset of the Hugging Face hub with a column `persona`, `org/name`."""
    split: str = "train"
    """Split of a hub dataset."""
    revision: str | None = None
    """Commit, tag or branch of a hub dataset; best a commit."""

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if self.file is not None and self.dataset is not None:
            raise ValueError("set at most one of file and dataset")
        return self


class IdentityConfig(Config):
    """Rows about the model itself, of a template whose names are filled in; those that need others are left out."""

    names: dict[str, str] = Field(min_length=1)
    """What the template's {names} stand for; its own are model, developer, base, recipe, license, cutoff, context."""
    template: str | None = None
    """Questions and answers in the form of `identity.txt`, relative to the recipe; that file itself when absent."""


class SynthConfig(StageConfig):
    """Defaults are Tülu 3's where it states them (technical report, section 3.1.2, and its scripts)."""

    prompts: tuple[SynthPromptsConfig, ...] = ()
    """The prompts, one table `[[synth.prompts]]` each."""
    models: tuple[ModelConfig, ...] = ()
    """The models that write and answer, one table `[[synth.models]]` each."""
    personas: PersonasConfig = PersonasConfig()
    """Whom prompts are written for."""
    identity: IdentityConfig | None = None
    """Rows about the model itself; absent: none."""
    temperature: float = Field(default=0.7, ge=0)
    """Sampling temperature of prompts and answers."""
    top_p: float = Field(default=0.95, gt=0, le=1)
    """Nucleus of the sampling."""
    max_new_tokens: int = Field(default=1024, ge=1)
    """Longest prompt or answer in tokens. One that is cut off there is not used."""
    duplicate_threshold: float = Field(default=0.8, gt=0, le=1)
    """A prompt is dropped before it is answered if its Jaccard similarity with an earlier one, by runs of five words,
    is at least this; equal ones always are."""
    deadline_seconds: float = Field(default=60.0, gt=0)
    """How long the check of one answer may take; beyond that it is undecided."""

    @model_validator(mode="after")
    def _has_something_to_do(self) -> Self:
        if not self.prompts and self.identity is None:
            raise ValueError("add a table [[synth.prompts]] or [synth.identity]")
        if self.prompts and not self.models:
            raise ValueError("prompts without models; add a table [[synth.models]], such as model = 'base'")
        return self

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        for what, names in (
            ("prompts", [*(each.name for each in self.prompts), *(["identity"] if self.identity else [])]),
            ("models", [each.name for each in self.models]),
        ):
            twice = named_twice(names)
            if twice:
                raise ValueError(f"several {what} are named '{twice}'; give each a name of its own with name = '…'")
        models = [each.name for each in self.models]
        for each in self.prompts:
            for key in ("prompts_by", "answers_by"):
                if getattr(each, key) and getattr(each, key) not in models:
                    raise ValueError(f"{key} = '{getattr(each, key)}' is none of the models: {', '.join(models)}")
            if self.temperature == 0 and each.answers_per_prompt > 1:
                raise ValueError(
                    f"temperature = 0 gives the same answer {each.answers_per_prompt} times to '{each.name}'; "
                    "raise it, or set num_answers = 1"
                )
        return self

    def writer(self, table: SynthPromptsConfig) -> str:
        """The model that writes a table's prompts."""
        return table.prompts_by or self.models[0].name

    def answerer(self, table: SynthPromptsConfig) -> str:
        """The model that answers a table's prompts."""
        return table.answers_by or self.writer(table)

    def inputs(self) -> list[Input]:
        found: list[Input] = []
        for each in self.prompts:
            if each.mixture is not None:
                found.append(Input(each.role, InputKind.MIXTURE, each.mixture))
            elif each.problems is not None:
                found.append(Input(each.role, InputKind.PROBLEMS, each.problems))
        for model in self.models:
            if model.file is not None:
                found.append(Input(model.role, InputKind.FILE, model.file))
            elif model.local_model is not None:
                found.append(Input(model.role, InputKind.MODEL, model.local_model))
        if self.personas.file is not None:
            found.append(Input("personas", InputKind.FILE, self.personas.file))
        if self.identity is not None and self.identity.template is not None:
            found.append(Input("identity", InputKind.FILE, self.identity.template))
        return found
