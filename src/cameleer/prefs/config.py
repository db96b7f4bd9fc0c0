"""The settings of preference synthesis. Imports no torch.

[prefs]
policy = "sft"                      # writes one of the answers to every prompt

[[prefs.prompts]]
problems = "curate"                 # or mixture = "curate": prompts that the model was trained on
count = 1000

[[prefs.models]]
model = "sft"                       # or an endpoint with a model, or a file of recorded responses

[[prefs.judges]]
method = "verifier"                 # or aspects, pairwise, reward_model

How a server is asked (concurrency, limits, retries, prices, budgets) is no part of what the stage makes: raising a
budget goes on in the same draft.
"""

from enum import StrEnum
from typing import Any, Literal, Self, get_args

from pydantic import Field, model_validator

from cameleer.core.config import Config
from cameleer.core.prompt_range import PromptRange
from cameleer.core.served import ModelConfig, ServedConfig, named_twice, with_name
from cameleer.core.stage import Input, InputKind, StageConfig
from cameleer.core.web import file_stem

Aspect = Literal["helpfulness", "instruction_following", "honesty", "truthfulness"]
"""What a judge rates an answer for."""


class Method(StrEnum):
    """How a judge rates the answers to a prompt."""

    VERIFIER = "verifier"
    ASPECTS = "aspects"
    PAIRWISE = "pairwise"
    REWARD_MODEL = "reward_model"


class Instructions(StrEnum):
    """What is appended to a prompt."""

    ADDED = "added"
    RELAXED = "relaxed"


class PromptsConfig(Config):
    """Prompts to answer: of exactly one of `problems` and `mixture`."""

    name: str = ""
    """The pairs' `source`, unique within the stage; the reference when absent."""
    problems: str | None = None
    """The stage that makes problems with verifiers, or a folder that holds them."""
    mixture: str | None = None
    """The stage that makes a mixture, or its folder: its conversations up to their last user turn, each once."""
    sources: tuple[str, ...] = ()
    """Only these sources of the mixture, or tasks of the problems; all when empty."""
    count: int | None = Field(default=None, gt=0)
    """This many prompts, sampled without replacement; all when absent."""
    repeats: int = Field(default=1, ge=1)
    """How often each prompt is answered, each time for a pair of its own."""
    instructions: Instructions | None = None
    """`added`: one or two precise instructions are appended, and the verifier judges these alone. `relaxed`: two, and
    half of the answers are to a prompt that lacks one of them; only these are rejected, only the others chosen. Of
    problems `relaxed` takes those that a synth stage made with such a prompt."""

    @model_validator(mode="before")
    @classmethod
    def _named(cls, table: Any) -> Any:
        return with_name(table, table.get("problems") or table.get("mixture")) if isinstance(table, dict) else table

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.problems is None) == (self.mixture is None):
            raise ValueError("set exactly one of problems and mixture")
        if self.problems is not None and self.instructions is Instructions.ADDED:
            raise ValueError("problems have verifiers of their own; instructions are added to a mixture's prompts")
        return self

    @property
    def role(self) -> str:
        return f"prompts {self.name}"


class JudgeConfig(ServedConfig):
    """Who rates the answers. `aspects` and `pairwise` ask a `model`, of this machine or behind an `endpoint`."""

    method: Method
    """`verifier`: the problem's own, or that of added instructions. `aspects`: the judge rates all answers together, 1
    to 5, once for each aspect; the score is the mean. `pairwise`: the judge compares every two answers; the score is
    the share won. `reward_model`: a model that the `rm` stage made."""
    aspects: tuple[Aspect, ...] = Field(default=get_args(Aspect), min_length=1)
    """The aspects of `aspects`."""
    positions: Literal["seeded", "both"] = "seeded"
    """The order in which a judge sees the answers: shuffled by prompt, or that one and its reverse, averaged."""
    max_tokens: int = Field(default=1024, ge=1)
    """Longest reply of the judge in tokens."""
    max_tries: int = Field(default=2, ge=1)
    """How often a judge is asked in all for a reply that keeps to the format; after that the rating is missing."""
    deadline_seconds: float = Field(default=60.0, gt=0)
    """How long a verifier may take for one answer; beyond that the rating is missing."""

    @model_validator(mode="before")
    @classmethod
    def _named(cls, table: Any) -> Any:
        return with_name(table, table.get("model") or table.get("method")) if isinstance(table, dict) else table

    @model_validator(mode="after")
    def _has_who_it_asks(self) -> Self:
        if (self.method is Method.VERIFIER) != (self.model is None):
            needs = "takes no model; remove it" if self.model else "needs a model"
            raise ValueError(f"method = '{self.method}' {needs}")
        if self.method is Method.REWARD_MODEL and self.endpoint is not None:
            raise ValueError("a reward model runs on this machine; remove endpoint")
        return self

    @property
    def role(self) -> str:
        return f"judge {self.name}"


class PairsConfig(Config):
    """Recorded pairs in Tülu's format, `chosen` and `rejected` as lists of messages: of a `file` or a `dataset`."""

    name: str = ""
    """The pairs' `source`, unique within the stage; the file's or dataset's name when absent."""
    file: str | None = None
    """JSONL or Parquet, relative to the recipe."""
    dataset: str | None = Field(default=None, pattern=r"^[\w.-]+/[\w.-]+$")
    """A dataset of the Hugging Face hub, `org/name`."""
    split: str = "train"
    """Split of a hub dataset."""
    revision: str | None = None
    """Commit, tag or branch of a hub dataset; best a commit."""
    count: int | None = Field(default=None, gt=0)
    """This many pairs, sampled without replacement; all when absent."""
    prompt_range: PromptRange = None
    """Only pairs whose prompt falls into this part of all prompts, [from, to) within 0 and 1, as in curation."""

    @model_validator(mode="before")
    @classmethod
    def _named(cls, table: Any) -> Any:
        if not isinstance(table, dict):
            return table
        return with_name(table, table.get("dataset") or file_stem(str(table.get("file", ""))))

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.file is None) == (self.dataset is None):
            raise ValueError("set exactly one of file and dataset")
        return self

    @property
    def role(self) -> str:
        return f"pairs {self.name}"


class PrefsConfig(StageConfig):
    """Defaults are Tülu 3's where it states them (technical report, section 5.2.1)."""

    prompts: tuple[PromptsConfig, ...] = ()
    """The prompts, one table `[[prefs.prompts]]` each."""
    models: tuple[ModelConfig, ...] = ()
    """The pool of models that answer, one table `[[prefs.models]]` each."""
    judges: tuple[JudgeConfig, ...] = ()
    """The judges, one table `[[prefs.judges]]` each; the verifier when there is none. The first that can rate a prompt
    decides its pair; the report tells how far the others agree."""
    sources: tuple[PairsConfig, ...] = ()
    """Recorded pairs that are added, one table `[[prefs.sources]]` each."""
    policy: str | None = None
    """The model of the pool that writes one answer to every prompt (on-policy pairs); the others are drawn."""
    num_responses: int = Field(default=4, ge=2)
    """Answers per prompt, each by a different model drawn from the pool; models repeat if the pool is smaller."""
    temperature: float = Field(default=1.0, ge=0)
    """Sampling temperature of the answers."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Nucleus of the answers' sampling."""
    max_new_tokens: int = Field(default=2048, ge=1)
    """Longest answer in tokens. One that is cut off there is never chosen."""

    @model_validator(mode="before")
    @classmethod
    def _judge_filled_in(cls, table: Any) -> Any:
        return {"judges": [{"method": Method.VERIFIER}], **table} if isinstance(table, dict) else table

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        for what, names in (
            ("prompts", [each.name for each in self.prompts] + [each.name for each in self.sources]),
            ("models", [each.name for each in self.models]),
            ("judges", [each.name for each in self.judges]),
        ):
            twice = named_twice(names)
            if twice:
                raise ValueError(f"several {what} are named '{twice}'; give each a name of its own with name = '…'")
        return self

    @model_validator(mode="after")
    def _has_something_to_do(self) -> Self:
        if not self.prompts and not self.sources:
            raise ValueError("add a table [[prefs.prompts]] (to make pairs) or [[prefs.sources]] (recorded pairs)")
        if self.prompts and not self.models:
            raise ValueError("prompts without models; add a table [[prefs.models]], such as model = 'sft'")
        if self.prompts and not self.judges:
            raise ValueError("prompts without judges; add a table [[prefs.judges]], such as method = 'verifier'")
        names = [each.name for each in self.models]
        if self.policy is not None and self.policy not in names:
            raise ValueError(f"policy = '{self.policy}' is none of the models: {', '.join(names) or 'there are none'}")
        if self.prompts and not self.policy and len(names) == 1 and self.temperature == 0:
            raise ValueError("one model at temperature 0 gives the same answer each time; raise the temperature")
        return self

    def inputs(self) -> list[Input]:
        found = [
            Input(each.role, InputKind.PROBLEMS, each.problems)
            if each.problems is not None
            else Input(each.role, InputKind.MIXTURE, str(each.mixture))
            for each in self.prompts
        ]
        for model in self.models:
            if model.file is not None:
                found.append(Input(model.role, InputKind.FILE, model.file))
            elif model.local_model is not None:
                found.append(Input(model.role, InputKind.MODEL, model.local_model))
        for judge in self.judges:
            if judge.local_model is not None:
                kind = InputKind.REWARD_MODEL if judge.method is Method.REWARD_MODEL else InputKind.MODEL
                found.append(Input(judge.role, kind, judge.local_model))
        return found + [Input(each.role, InputKind.FILE, each.file) for each in self.sources if each.file is not None]
