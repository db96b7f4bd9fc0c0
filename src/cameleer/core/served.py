"""The settings of models that a stage asks: of this machine, behind a server, or recorded. Imports no torch.

How a server is asked (concurrency, limits, retries, prices, budgets) is no part of what a stage makes: raising a budget
goes on in the same draft.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from cameleer.core.config import Config
from cameleer.core.web import file_stem


def with_name(table: dict[str, Any], default: Any) -> dict[str, Any]:
    """`table` with the name filled in where there is none."""
    return table if table.get("name") or not default else {**table, "name": str(default)}


def named_twice(names: Iterable[str]) -> str | None:
    """The first name that is there more than once."""
    return next((name for name, times in Counter(names).items() if times > 1), None)


class ServedConfig(Config):
    """A model of this machine, or one behind an OpenAI-compatible server."""

    name: str = ""
    """Unique within the stage; the model's or the file's name when absent."""
    model: str | None = None
    """A stage, `base` or a model spec; with `endpoint`, the model's name there."""
    endpoint: str | None = Field(default=None, pattern=r"^https?://")
    """An OpenAI-compatible server, up to and without `/chat/completions`."""
    extra_body: dict[str, Any] = Field(default={})
    """Further fields of every request to the endpoint."""
    api_key_env: str | None = Field(default=None, exclude=True)
    """The environment variable that holds the endpoint's key; absent: it wants none."""
    max_concurrency: int = Field(default=8, ge=1, exclude=True)
    """Requests to the endpoint under way at once."""
    requests_per_minute: float | None = Field(default=None, gt=0, exclude=True)
    """The endpoint's rate limit, if it has one."""
    timeout_seconds: float = Field(default=300.0, gt=0, exclude=True)
    """How long an attempt at a request may take."""
    max_retries: int = Field(default=4, ge=0, exclude=True)
    """Attempts that follow a first one that failed, with growing pauses."""
    prices: tuple[float, float] | None = Field(default=None, exclude=True)
    """Money per million tokens of prompts and of completions."""
    budget_tokens: int | None = Field(default=None, gt=0, exclude=True)
    """The most tokens that the endpoint may be asked to read and write, over interruptions too."""
    budget_cost: float | None = Field(default=None, gt=0, exclude=True)
    """The most money that the endpoint may cost; needs `prices`."""

    @model_validator(mode="after")
    def _endpoint_settings_have_an_endpoint(self) -> Self:
        if self.endpoint is not None and self.model is None:
            raise ValueError(f"endpoint = '{self.endpoint}' without a model; set model to its name there")
        names = ("extra_body", "api_key_env", "requests_per_minute", "prices", "budget_tokens", "budget_cost")
        given = [name for name in names if getattr(self, name)]
        if given and self.endpoint is None:
            raise ValueError(f"{given[0]} belongs to an endpoint, and there is none; remove it")
        if self.budget_cost is not None and self.prices is None:
            raise ValueError(f"budget_cost = {self.budget_cost:g} can only be kept with prices; set them")
        return self

    @property
    def role(self) -> str:
        return f"model {self.name}"

    @property
    def local_model(self) -> str | None:
        """The reference of a model that runs on this machine."""
        return self.model if self.endpoint is None else None


class ModelConfig(ServedConfig):
    """A member of the pool: a `model` of this machine, a `model` behind an `endpoint`, or a `file` of responses."""

    file: str | None = None
    """Recorded responses as JSONL: `messages` (or `prompt`, a text), `text` and, if known, `finish_reason`; the
    `responses.jsonl` of another run is one. It gives a prompt as many answers as the file holds for it."""
    engine: Literal["local", "vllm"] = "local"
    """What runs a model of this machine: this process, or a vLLM server that the stage starts and ends."""
    batch_size: int = Field(default=128, ge=1, exclude=True)
    """Answers that a model of this machine writes at once."""

    @model_validator(mode="before")
    @classmethod
    def _named(cls, table: Any) -> Any:
        if not isinstance(table, dict):
            return table
        return with_name(table, table.get("model") or file_stem(str(table.get("file", ""))))

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.model is None) == (self.file is None):
            raise ValueError("set exactly one of model (with endpoint where it is behind a server) and file")
        if self.engine != "local" and self.local_model is None:
            raise ValueError(f"engine = '{self.engine}' runs a model of this machine; remove it")
        return self
