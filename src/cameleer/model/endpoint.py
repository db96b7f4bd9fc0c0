"""Any OpenAI-compatible server: hosted models, vLLM, llama.cpp, Ollama, a gateway.

`Endpoint.complete_all` takes chats and yields (index, reply or failure) as they finish: texts, for judges and pools of
models. `Endpoint.ask_all` does the same for whatever else a server is asked (`cameleer.model.server_generate`: token
ids). A request that fails is data, never the end of a run; what no further request can mend (a refused key, an unknown
model, no money left) is a UserError at once.

    attempt k of a request starts after       backoff_seconds · 2^(k−2) · u,  u uniform in [½, 1], at most 60 s
    a reply with Retry-After                  no attempt of any request starts before that time; above 300 s it fails
    every attempt ends within                 timeout_seconds, from the wish to connect to the reply's last byte
    cost                                      Σ tokens / 10⁶ · price, over every reply that states its usage
    a budget of tokens or cost                no attempt starts once it is reached. What is under way ends and is handed
                                              out, then a UserError names the budget if requests are left. So at most
                                              max_concurrency replies exceed it, and whoever keeps what came and asks
                                              for the rest goes on from there

The key is read from the environment when work begins; it is in no message, representation or file.
"""

import asyncio
import json
import math
import os
import queue
import random
import ssl
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Any, Generic, TypeVar

import httpx

from cameleer.core.errors import UserError
from cameleer.core.types import Conversation, turns
from cameleer.model.replies import EndpointFailure, FailureKind, error_message, kind_of, retry_after_of, shown

MAX_BACKOFF_SECONDS = 60.0
MAX_RETRY_AFTER_SECONDS = 300.0
MAX_REPLY_BYTES = 16 << 20
NO_KEY = "none"


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One completion to ask for. `top_logprobs` > 0 asks for so many alternatives to the reply's first token.

    What has its default is not sent, the temperature apart: some servers refuse fields that they do not know.
    """

    messages: Conversation
    max_tokens: int
    temperature: float = 0.0
    top_logprobs: int = 0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ChatReply:
    """A completion. `first_logprobs`: log-probabilities of the first token's alternatives, None where not asked for."""

    text: str
    finish_reason: str
    first_logprobs: dict[str, float] | None
    num_attempts: int


Reply = TypeVar("Reply")


@dataclass(eq=False)
class Ask(Generic[Reply]):
    """One request: what is posted where, and how the body of a reply of status 200 is read.

    `read` gets the body and the number of the attempt. `received` holds what has come of the latest attempt's reply.
    """

    route: str
    body: Mapping[str, Any]
    read: Callable[[bytes, int], Reply | EndpointFailure]
    received: bytearray = field(default_factory=bytearray)


@dataclass(frozen=True, slots=True)
class Price:
    """Money per million tokens, in whatever currency the user counts."""

    prompt: float
    completion: float


@dataclass(slots=True)
class Spending:
    """What was used so far. `num_unmetered` replies did not say how many tokens they took and are not in the sums."""

    num_attempts: int = 0
    num_prompt_tokens: int = 0
    num_completion_tokens: int = 0
    num_unmetered: int = 0

    def add(self, num_prompt_tokens: int, num_completion_tokens: int) -> None:
        """Count a reply's tokens."""
        self.num_prompt_tokens += num_prompt_tokens
        self.num_completion_tokens += num_completion_tokens

    @property
    def num_tokens(self) -> int:
        return self.num_prompt_tokens + self.num_completion_tokens

    def cost(self, price: Price) -> float:
        """The price of the metered tokens."""
        return (self.num_prompt_tokens * price.prompt + self.num_completion_tokens * price.completion) / 1e6


@dataclass
class Endpoint:
    """A model behind an OpenAI-compatible server.

    `base_url` is what `/chat/completions` or another route is appended to. `api_key_env` names the environment
    variable with the key; None for a server that wants none. `max_retries` attempts follow a first one that failed.
    `extra_body` is merged into every request; a key set to None there is left out, so {"max_tokens": None,
    "max_completion_tokens": 512} renames the limit for servers that want the newer name. `budget_tokens` (of prompts
    and completions) and `budget_cost` (needs a price) bound what this object spends in its life.
    """

    base_url: str
    model: str
    api_key_env: str | None = None
    max_concurrency: int = 8
    requests_per_minute: float | None = None
    timeout_seconds: float = 120.0
    max_retries: int = 4
    backoff_seconds: float = 1.0
    price: Price | None = None
    budget_tokens: int | None = None
    budget_cost: float | None = None
    extra_body: Mapping[str, Any] = field(default_factory=dict[str, Any])
    spending: Spending = field(default_factory=Spending, init=False)
    _pacer: "_Pacer" = field(init=False, repr=False)
    _has_answered: bool = field(default=False, init=False, repr=False)
    _has_logprobs: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        self.base_url = self.base_url.rstrip("/")
        if not self.base_url.startswith(("http://", "https://")):
            raise UserError(f"base_url: '{self.base_url}' does not begin with http:// or https://.")
        if self.base_url.endswith("/completions"):
            raise UserError(f"base_url: '{self.base_url}' must end before its route.", "Usually it ends in /v1.")
        limits: dict[str, float | None] = {"max_concurrency": self.max_concurrency}
        for name in ("requests_per_minute", "timeout_seconds", "budget_tokens", "budget_cost"):
            limits[name] = getattr(self, name)
        for name, value in limits.items():
            if value is not None and not 0 < value < math.inf:
                raise UserError(f"{name}: must be positive, got {value}.")
        if self.budget_cost is not None and self.price is None:
            raise UserError(f"budget_cost: {self.budget_cost:g} can only be kept with a price, and there is none.")
        self._pacer = _Pacer(self.requests_per_minute)

    @property
    def identity(self) -> dict[str, Any]:
        """What an answer depends on besides the request."""
        return {"base_url": self.base_url, "model": self.model, "extra_body": dict(self.extra_body)}

    @property
    def cost(self) -> float | None:
        """The money spent, None without a price."""
        return None if self.price is None else self.spending.cost(self.price)

    @property
    def used_up(self) -> str | None:
        """The budget that is reached, in words; None while there is room in all."""
        if self.budget_tokens is not None and self.spending.num_tokens >= self.budget_tokens:
            return f"budget_tokens = {self.budget_tokens}, with {self.spending.num_tokens} tokens"
        if self.budget_cost is not None and (self.cost or 0.0) >= self.budget_cost:
            return f"budget_cost = {self.budget_cost:g}, with {self.cost:.6g} spent"
        return None

    def complete_all(self, requests: Iterable[ChatRequest]) -> Iterator[tuple[int, ChatReply | EndpointFailure]]:
        """The replies or failures of `requests`; see `ask_all`.

        Raises UserError also for a server that gives no log-probabilities when they are asked for.
        """
        yield from self.ask_all(map(self._chat, requests))

    def ask_all(
        self, asks: Iterable[Ask[Reply]], until: float | None = None
    ) -> Generator[tuple[int, Reply | EndpointFailure], None, None]:
        """The replies or failures of `asks` with their index, in the order in which they finish.

        Requests are drawn one by one, in a thread of their own, as places become free. Leaving the iterator early, or
        passing the time `until` (of `time.monotonic`), drops what is under way. Raises UserError for a missing or
        refused key, a model or address that is not there, no money left, and a budget that is reached.
        """
        yield from _Run[Reply](self, self._key()).results(asks, until)

    def _key(self) -> str:
        if self.api_key_env is None:
            return NO_KEY
        key = os.environ.get(self.api_key_env, "").strip()
        if not key:
            raise UserError(
                f"The environment variable {self.api_key_env} is not set: it holds the key of {self.base_url}."
            )
        return key

    # --- one request ---

    async def ask(self, client: httpx.AsyncClient, ask: Ask[Reply]) -> Reply | EndpointFailure:
        """One request with its retries. `client` carries the key. Raises nothing but UserError."""
        attempt = 0
        while True:
            attempt += 1
            outcome = await self._attempt(client, ask, attempt)
            if not isinstance(outcome, EndpointFailure) or outcome.kind is FailureKind.REFUSED:
                return outcome
            if attempt > self.max_retries or outcome.retry_after > MAX_RETRY_AFTER_SECONDS or self.used_up:
                return outcome
            pause = min(MAX_BACKOFF_SECONDS, self.backoff_seconds * 2 ** (attempt - 1))
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))

    async def _attempt(self, client: httpx.AsyncClient, ask: Ask[Reply], attempt: int) -> Reply | EndpointFailure:
        while (seconds := self._pacer.seconds_to_wait()) > 0:
            await asyncio.sleep(seconds)
        self.spending.num_attempts += 1
        try:
            async with asyncio.timeout(self.timeout_seconds):
                status, headers = await self._post(client, ask)
        except TimeoutError:
            return EndpointFailure(FailureKind.TIMEOUT, f"no reply within {self.timeout_seconds:g} s", attempt)
        except _TooLarge:
            return EndpointFailure(FailureKind.BAD_REPLY, f"a reply of more than {MAX_REPLY_BYTES} bytes", attempt)
        except (httpx.HTTPError, httpx.InvalidURL) as failure:
            return EndpointFailure(FailureKind.DOWN, f"{type(failure).__name__}: {failure}", attempt)
        body = bytes(ask.received)
        if status == 200:
            outcome = ask.read(body, attempt)
            self._has_answered |= not isinstance(outcome, EndpointFailure)
            return outcome
        message, retry_after = error_message(body), retry_after_of(headers)
        self._raise_if_hopeless(status, message, body)
        if retry_after <= MAX_RETRY_AFTER_SECONDS:
            self._pacer.hold(retry_after)
        return EndpointFailure(kind_of(status), f"status {status}: {message}", attempt, retry_after)

    async def _post(self, client: httpx.AsyncClient, ask: Ask[Any]) -> tuple[int, httpx.Headers]:
        """Status and headers; the body is read in pieces so that an endless one is dropped."""
        ask.received.clear()
        async with client.stream("POST", f"{self.base_url}{ask.route}", json=ask.body) as response:
            async for piece in response.aiter_bytes():
                ask.received += piece
                if len(ask.received) > MAX_REPLY_BYTES:
                    raise _TooLarge
        return response.status_code, response.headers

    # --- a chat ---

    def _chat(self, request: ChatRequest) -> Ask[ChatReply]:
        body: dict[str, Any] = {"messages": turns(request.messages), "max_tokens": request.max_tokens}
        body |= {"temperature": request.temperature, "seed": request.seed}
        if request.top_logprobs:
            body |= {"logprobs": True, "top_logprobs": request.top_logprobs}
        if request.top_p < 1:
            body["top_p"] = request.top_p
        if request.stop:
            body["stop"] = list(request.stop)
        return Ask("/chat/completions", self.body(body), partial(self._read_chat, request))

    def body(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """A request's body: the model, these fields and the endpoint's own, without those that are None."""
        whole = {"model": self.model, **fields, **self.extra_body}
        return {name: value for name, value in whole.items() if value is not None}

    def _read_chat(self, request: ChatRequest, body: bytes, attempt: int) -> ChatReply | EndpointFailure:
        """A reply out of the body of status 200. Its usage is counted even where nothing else in it can be used."""
        try:
            content = json.loads(body)
            self._meter(content.get("usage"))
            choice = content["choices"][0]
            message, finish_reason = choice["message"], choice.get("finish_reason") or ""
            text, refusal = message.get("content"), message.get("refusal")
        except (ValueError, LookupError, TypeError, AttributeError):
            return EndpointFailure(FailureKind.BAD_REPLY, f"not a chat completion: {shown(body)}", attempt)
        if not isinstance(text, str):
            refused = bool(refusal) or finish_reason == "content_filter"
            kind = FailureKind.REFUSED if refused else FailureKind.BAD_REPLY
            return EndpointFailure(kind, f"a reply without text, finish reason {finish_reason}", attempt)
        if not request.top_logprobs:
            return ChatReply(text, finish_reason, None, attempt)
        logprobs = _first_logprobs(choice)
        if logprobs is None:
            return self._without_logprobs(attempt)
        self._has_logprobs = True
        return ChatReply(text, finish_reason, logprobs, attempt)

    def _without_logprobs(self, attempt: int) -> EndpointFailure:
        if not self._has_logprobs:
            raise UserError(
                f"{self.model} at {self.base_url} gave no log-probabilities, which this judgement needs.",
                "Use a server and model that support `logprobs` and `top_logprobs`.",
            )
        return EndpointFailure(FailureKind.BAD_REPLY, "a reply without log-probabilities", attempt)

    def _meter(self, usage: Any) -> None:
        names = ("prompt_tokens", "completion_tokens")
        counts: list[Any] = [usage.get(name) for name in names] if isinstance(usage, dict) else []
        if len(counts) == 2 and all(isinstance(count, int) for count in counts):
            self.spending.add(counts[0], counts[1])
        else:
            self.spending.num_unmetered += 1

    def _raise_if_hopeless(self, status: int, message: str, body: bytes) -> None:
        """403 ends the work only before the first answer: later it is about one request (moderation), not the key."""
        no_money = status == 402 or (status == 429 and b"insufficient_quota" in body)
        if status == 401 or no_money or (status == 403 and not self._has_answered):
            what = "has no budget left" if no_money else "refuses the key"
            source = "none is sent: api_key_env is not set" if self.api_key_env is None else self.api_key_env
            raise UserError(f"{self.base_url} {what} (status {status}): {message}", f"The key: {source}.")
        if status == 404 or "model_not_found" in message:
            raise UserError(
                f"{self.base_url} has no model '{self.model}' (status {status}): {message}",
                "Check the model's name, and base_url, which usually ends in /v1.",
            )


class _TooLarge(Exception):
    """A reply that exceeds MAX_REPLY_BYTES."""


class _Pacer:
    """When an attempt may start: attempts are spaced evenly, and held back as long as the server asked."""

    def __init__(self, requests_per_minute: float | None) -> None:
        self._interval = 60.0 / requests_per_minute if requests_per_minute else 0.0
        self._next_start = 0.0

    def seconds_to_wait(self) -> float:
        """0 when an attempt may start now, whose place is then taken; else how long to wait before asking again."""
        now = time.monotonic()
        if now < self._next_start:
            return self._next_start - now
        self._next_start = now + self._interval
        return 0.0

    def hold(self, seconds: float) -> None:
        """Start nothing before so many seconds from now."""
        self._next_start = max(self._next_start, time.monotonic() + seconds)


class _Run(Generic[Reply]):
    """One `ask_all`: an event loop in a thread of its own, so that a slow consumer delays no reply."""

    def __init__(self, endpoint: Endpoint, key: str) -> None:
        self._endpoint, self._key = endpoint, key
        self._results: queue.SimpleQueue[tuple[int, Reply | EndpointFailure] | BaseException | None]
        self._results = queue.SimpleQueue()
        self._loop = asyncio.new_event_loop()

    def results(self, asks: Iterable[Ask[Reply]], until: float | None) -> Iterator[tuple[int, Reply | EndpointFailure]]:
        task = self._loop.create_task(self._pump(asks))
        thread = threading.Thread(target=self._work, args=(task,), name="endpoint", daemon=True)
        thread.start()
        try:
            # Each attempt and each pause has its deadline, and the thread ends with None or an error: this cannot hang.
            while (result := self._next(until)) is not None:
                if isinstance(result, BaseException):
                    raise result
                yield result
        finally:
            # RuntimeError: the loop has ended by itself and is closed.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(task.cancel)
            thread.join(self._endpoint.timeout_seconds)

    def _next(self, until: float | None) -> tuple[int, Reply | EndpointFailure] | BaseException | None:
        """What comes next: a result, an error that ends the run, or None at its end and at the time `until`."""
        try:
            return self._results.get(timeout=None if until is None else max(0.0, until - time.monotonic()))
        except queue.Empty:
            return None

    def _work(self, task: asyncio.Task[None]) -> None:
        try:
            with suppress(asyncio.CancelledError):
                self._loop.run_until_complete(task)
            self._results.put(None)
        except BaseException as failure:
            self._results.put(failure)
        finally:
            self._loop.close()

    async def _pump(self, asks: Iterable[Ask[Reply]]) -> None:
        """As many workers as may be under way at once draw from one iterator: no more is drawn than can be sent."""
        numbered = enumerate(asks)
        # A proxy cannot reach this machine's own servers.
        by_proxy = httpx.URL(self._endpoint.base_url).host not in ("localhost", "127.0.0.1", "::1")
        settings: dict[str, Any] = {"timeout": None, "trust_env": by_proxy, "verify": _tls()}
        if self._key != NO_KEY:
            settings["headers"] = {"Authorization": f"Bearer {self._key}"}

        async def work() -> None:
            # A client for each: one pool's work for a request grows with the connections that it holds.
            async with httpx.AsyncClient(**settings) as client:
                while not self._endpoint.used_up and (drawn := next(numbered, None)) is not None:
                    index, ask = drawn
                    self._results.put((index, self._redacted(await self._endpoint.ask(client, ask))))

        workers = [asyncio.create_task(work()) for _ in range(self._endpoint.max_concurrency)]
        try:
            await asyncio.gather(*workers)
            if (budget := self._endpoint.used_up) and next(numbered, None) is not None:
                raise UserError(
                    f"{self._endpoint.base_url}: the budget is used up: {budget}.",
                    "What has come is kept. Raise the budget and run again for the rest.",
                )
        except UserError as error:
            raise UserError(self._without_key(error.what), error.hint) from None
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    def _redacted(self, outcome: Reply | EndpointFailure) -> Reply | EndpointFailure:
        if not isinstance(outcome, EndpointFailure):
            return outcome
        return replace(outcome, message=self._without_key(outcome.message))

    def _without_key(self, message: str) -> str:
        """Servers quote the key that they refuse."""
        return message if self._key == NO_KEY else message.replace(self._key, "[the key]")


@cache
def _tls() -> ssl.SSLContext:
    """Read once: the certificates take a tenth of a second, and judges ask again and again."""
    return httpx.create_ssl_context()


def _first_logprobs(choice: Mapping[str, Any]) -> dict[str, float] | None:
    """The alternatives of the first token; None where there are none. A token given twice counts once, the higher."""
    try:
        alternatives = choice["logprobs"]["content"][0]["top_logprobs"]
        found: dict[str, float] = {}
        for each in alternatives:
            token, logprob = str(each["token"]), float(each["logprob"])
            found[token] = max(logprob, found.get(token, -math.inf))
    except (LookupError, TypeError, ValueError):
        return None
    return found or None
