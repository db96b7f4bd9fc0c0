"""A pool of models that answer: of this machine, behind servers, recorded in files, all at once.

sources     endpoints and files work side by side; models of this machine one after the other, one in memory
answers     come as they finish. A failed request is a missing answer, counted and never asked for again in this
            run; a server that fails all the time ends its source, and what came from it is kept

Imports no torch until a model of this machine is loaded.
"""

import gc
import json
import os
import queue
import threading
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from cameleer.core.artifact import CHECKPOINTS, read_manifest
from cameleer.core.errors import UserError
from cameleer.core.served import ModelConfig, ServedConfig
from cameleer.core.stage import BASE, StageRun
from cameleer.core.types import ChatTemplate, Conversation
from cameleer.model.endpoint import ChatReply, ChatRequest, Endpoint, Price
from cameleer.model.journal import Ledger
from cameleer.model.replies import FailureKind

if TYPE_CHECKING:  # They import torch, which pools of servers do not need.
    from cameleer.core.render import Renderer
    from cameleer.model.generate import Generator as TokenGenerator

CUT_OFF = "length"
"""The reason of an answer that ends at `max_new_tokens`."""
FAILURES_IN_A_ROW = 16
SEED_BITS = 31
LEAVE_SECONDS = 10.0
"""How long a source or judge is waited for when the stage is stopped."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model gave. `text` is None when it gave nothing; `failure` then tells why, its kind before the colon."""

    text: str | None
    finish_reason: str = ""
    num_tokens: int | None = None
    failure: str | None = None


class Question(Protocol):
    """One answer to be had of a model. `key` is unique within the stage, and with it what is drawn.

    `sample` says how many answers the model has given to the same conversation before.
    """

    @property
    def key(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def messages(self) -> Conversation: ...
    @property
    def sample(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Drawing:
    """How answers are drawn. A draw follows from the seed, the question's key and the model."""

    max_new_tokens: int
    temperature: float
    top_p: float
    seed: int


class Source(Protocol):
    """A member of the pool."""

    def capacity(self, forms: Sequence[Conversation]) -> int | None:
        """How many answers it can give to each of some conversations; None for as many as are asked for."""
        ...

    def answers(self, questions: Sequence[Question]) -> Iterator[tuple[int, Answer]]:
        """The answers with their question's index, as they finish."""
        ...


def open_endpoint(config: ServedConfig) -> Endpoint:
    """The server that a table names."""
    assert config.endpoint is not None and config.model is not None
    return Endpoint(
        config.endpoint,
        config.model,
        api_key_env=config.api_key_env,
        max_concurrency=config.max_concurrency,
        requests_per_minute=config.requests_per_minute,
        timeout_seconds=config.timeout_seconds,
        max_retries=config.max_retries,
        price=None if config.prices is None else Price(*config.prices),
        budget_tokens=config.budget_tokens,
        budget_cost=config.budget_cost,
        extra_body=config.extra_body,
    )


class Outage:
    """Tells a server that is gone from single requests that fail.

    What it refuses (a filter, a prompt too long) is about the request, unless it has never answered any.
    """

    def __init__(self, who: str, limit: int) -> None:
        self._who, self._limit = who, limit
        self._in_a_row, self._has_answered = 0, False

    def note(self, failure: str | None) -> None:
        """Take note of an outcome. Raises UserError when too many failed without one between that did not."""
        if failure is None:
            self._in_a_row, self._has_answered = 0, True
        elif not (self._has_answered and failure.startswith(FailureKind.REFUSED)):
            self._in_a_row += 1
        if self._in_a_row >= self._limit:
            raise UserError(
                f"{self._who}: {self._in_a_row} requests in a row failed, the last with {failure}",
                "What came before is kept. Run the same command again when the server answers.",
            )


class EndpointSource:
    """A model behind a server."""

    def __init__(self, config: ModelConfig, drawing: Drawing, ledger: Ledger) -> None:
        self._config, self._drawing, self._ledger = config, drawing, ledger
        self._endpoint = open_endpoint(config)
        ledger.restore(config.role, self._endpoint)

    def capacity(self, forms: Sequence[Conversation]) -> int | None:
        return None

    def answers(self, questions: Sequence[Question]) -> Iterator[tuple[int, Answer]]:
        outage = Outage(self._config.role, FAILURES_IN_A_ROW + self._config.max_concurrency)
        for index, outcome in self._endpoint.complete_all(map(self._request, questions)):
            self._ledger.note(self._config.role)
            if isinstance(outcome, ChatReply):
                yield index, Answer(outcome.text, outcome.finish_reason)
                outage.note(None)
            else:
                failure = f"{outcome.kind}: {outcome.message}"
                yield index, Answer(None, failure=failure)
                outage.note(failure)

    def _request(self, question: Question) -> ChatRequest:
        drawing = self._drawing
        digest = sha256(f"{drawing.seed}/{question.key}".encode()).digest()
        seed = int.from_bytes(digest[:4], "big") >> (32 - SEED_BITS)
        return ChatRequest(
            question.messages, drawing.max_new_tokens, drawing.temperature, top_p=drawing.top_p, seed=seed
        )


class RecordedSource:
    """A file of responses; the n-th answer to a prompt is its n-th in the file."""

    def __init__(self, path: Path) -> None:
        self._recorded: defaultdict[str, list[Answer]] = defaultdict(list)
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    self._add(line, f"{path}: line {number}")

    def _add(self, line: str, where: str) -> None:
        try:
            row = json.loads(line)
            messages = row["messages"] if "messages" in row else [{"role": "user", "content": row["prompt"]}]
            key = _conversation_key([(each["role"], each["content"]) for each in messages])
            text, finish_reason = row["text"], row.get("finish_reason") or ""
        except (ValueError, LookupError, TypeError, AttributeError):
            raise UserError(
                f"{where}: no recorded response.",
                'Each line is an object such as {"prompt": "…", "text": "…"} or {"messages": […], "text": "…"}.',
            ) from None
        if isinstance(text, str):
            self._recorded[key].append(Answer(text, str(finish_reason)))

    def capacity(self, forms: Sequence[Conversation]) -> int | None:
        return min(len(self._found(form)) for form in forms)

    def answers(self, questions: Sequence[Question]) -> Iterator[tuple[int, Answer]]:
        for index, question in enumerate(questions):
            yield index, self._found(question.messages)[question.sample]

    def _found(self, messages: Conversation) -> list[Answer]:
        return self._recorded.get(_conversation_key([(each.role, each.content) for each in messages]), [])


def _conversation_key(turns: Sequence[tuple[str, str]]) -> str:
    return sha256(json.dumps(turns, ensure_ascii=False).encode()).hexdigest()


class LocalSource:
    """A model of this machine, loaded when it is its turn and freed after it."""

    def __init__(self, config: ModelConfig, drawing: Drawing, stage: StageRun) -> None:
        self._config, self._drawing = config, drawing
        self._folder = stage.inputs[config.role]
        self._template: ChatTemplate = template_of(config, stage)
        self._log = stage.folder / CHECKPOINTS / f"vllm-{sha256(config.name.encode()).hexdigest()[:8]}.log"

    def capacity(self, forms: Sequence[Conversation]) -> int | None:
        return None

    def answers(self, questions: Sequence[Question]) -> Iterator[tuple[int, Answer]]:
        from cameleer.model.generate import Sampling
        from cameleer.model.load import load_renderer

        if not questions:
            return
        renderer = load_renderer(self._folder, self._template)
        prompts = [renderer.prompt(question.messages) for question in questions]
        drawing = self._drawing
        sampling = Sampling(drawing.max_new_tokens, drawing.temperature, drawing.top_p, seed=drawing.seed)
        with self._generator(renderer) as (generator, context_length):
            fitting: list[int] = []
            for index, prompt in enumerate(prompts):
                if context_length is not None and len(prompt) + drawing.max_new_tokens > context_length:
                    words = f"{len(prompt)} tokens and {drawing.max_new_tokens} new ones exceed {context_length}"
                    yield index, Answer(None, failure=f"too long: {words}")
                else:
                    fitting.append(index)
            names = [f"{self._config.name}/{questions[index].key}" for index in fitting]
            for number, done in generator.stream([prompts[index] for index in fitting], sampling, names):
                text = renderer.decode(done.ids)
                yield fitting[number], Answer(text, done.finish_reason.value, len(done.ids))

    @contextmanager
    def _generator(self, renderer: "Renderer") -> Generator[tuple["TokenGenerator", int | None]]:
        """The generator, and the most tokens that it has room for."""
        if self._config.engine == "vllm":
            from cameleer.model.vllm_server import VllmServer

            with VllmServer(self._folder, self._log, max_concurrency=self._config.batch_size) as server:
                yield server.generator(renderer.stop_ids), server.context_length
        else:
            from cameleer.model.generate import load_generator

            generator = load_generator(self._folder, renderer, self._config.batch_size)
            yield generator, generator.context_length


def free_memory() -> None:
    """Give back what a model took that nobody holds any more: only one is in memory at a time."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def template_of(config: ServedConfig, stage: StageRun) -> ChatTemplate:
    """The recipe's template for its base model and what stages made of it; other models have their own."""
    folder = stage.inputs[config.role]
    return stage.chat_template if config.local_model == BASE or read_manifest(folder) is not None else "model"


Item = TypeVar("Item")


def merged(
    sources: Sequence[Callable[[], Iterator[Item]]], failed: Callable[[UserError], None]
) -> Generator[Item, None, None]:
    """The items of all sources as they come, each source in a thread of its own.

    A source that ends with a UserError is reported to `failed`, in the caller's thread, and the others go on; any other
    error is raised here. Leaving the iterator early ends all sources at their next item.
    """
    results: queue.SimpleQueue[Item | _Ended] = queue.SimpleQueue()
    left = threading.Event()

    def work(source: Callable[[], Iterator[Any]]) -> None:
        error: BaseException | None = None
        try:
            items = source()
            for item in items:
                results.put(item)
                if left.is_set():
                    break
            if isinstance(items, Generator):
                items.close()
        except BaseException as failure:
            error = failure
        results.put(_Ended(error))

    threads = [threading.Thread(target=work, args=(source,), daemon=True, name="responses") for source in sources]
    for thread in threads:
        thread.start()
    running = len(threads)
    try:
        while running:
            result = results.get()
            if not isinstance(result, _Ended):
                yield result
                continue
            running -= 1
            if isinstance(result.error, UserError):
                failed(result.error)
            elif result.error is not None:
                raise result.error
    finally:
        left.set()
        for thread in threads:
            thread.join(LEAVE_SECONDS)


@dataclass(frozen=True)
class _Ended:
    """The end of a source."""

    error: BaseException | None


Asked = TypeVar("Asked", bound=Question)


def answer_all(
    questions: Sequence[Asked],
    pool: Mapping[str, Source],
    keep: Callable[[Asked, Answer], None],
    failed: Callable[[UserError], None],
) -> Generator[tuple[Asked, Answer], None, None]:
    """The answers to these questions as they come; `keep` gets each at once, in its source's thread. See `merged`."""
    by_model: defaultdict[str, list[Asked]] = defaultdict(list)
    for question in questions:
        by_model[question.model].append(question)

    def one(name: str) -> Iterator[tuple[Asked, Answer]]:
        for index, answer in pool[name].answers(by_model[name]):
            keep(by_model[name][index], answer)
            yield by_model[name][index], answer

    def local() -> Iterator[tuple[Asked, Answer]]:
        for name in by_model:
            if isinstance(pool[name], LocalSource):
                yield from one(name)
                free_memory()

    def remote(name: str) -> Callable[[], Iterator[tuple[Asked, Answer]]]:
        return lambda: one(name)

    remotes = [remote(name) for name in by_model if not isinstance(pool[name], LocalSource)]
    return merged([local, *remotes], failed)


def make_pool(models: Iterable[ModelConfig], drawing: Drawing, stage: StageRun, ledger: Ledger) -> dict[str, Source]:
    """The sources by name. Raises UserError for what a file or a server's settings have wrong."""
    pool: dict[str, Source] = {}
    for each in models:
        if each.endpoint is not None:
            pool[each.name] = EndpointSource(each, drawing, ledger)
        elif each.file is not None:
            pool[each.name] = RecordedSource(stage.inputs[each.role])
        else:
            pool[each.name] = LocalSource(each, drawing, stage)
    return pool


def require_keys(tables: Iterable[ServedConfig]) -> None:
    """Raise UserError where the environment lacks the key of a server that is asked."""
    for each in tables:
        if each.api_key_env is not None and not os.environ.get(each.api_key_env, "").strip():
            raise UserError(
                f"{each.role}: the environment variable {each.api_key_env} is not set.",
                f"It holds the key of {each.endpoint}.",
            )


def going_on(hint: str | None) -> str:
    """The hint of an error that ends a stage whose answers are kept."""
    kept = "All answers and ratings that came are kept; the same command goes on from there."
    return kept if hint is None else f"{hint}\n{kept}"
