"""Sampling from a server that takes and gives token ids, as vLLM does: the `Generator` protocol over HTTP.

A prompt goes to `/completions` as ids, and ids come back with their log-probabilities; text is never encoded or read
here. The reply is streamed, so that what came before a deadline is there.

    Sampling                        the server's field
    max_new_tokens, min_new_tokens  max_tokens, min_tokens
    temperature, top_p, top_k,      the same names; not sent where they are off or, at temperature 0, do nothing
    min_p, repetition_penalty
    stop                            stop
    the generator's stop_ids        stop_token_ids, with ignore_eos: no other id ends a completion
    seed and the prompt's name      seed: the first 53 bits of SHA-256 of "seed/name"

Before the first prompt one token is asked for with top_k = 1: its log-probability is 0 exactly when the server gives
those of the distribution drawn from (vLLM: `--logprobs-mode processed_logprobs`), else the server is refused by name.

Departures from `LocalGenerator`: a seed gives other draws; with both top_p and min_p, vLLM applies min_p first. The
weight version is what `weight_version` says when a reply ends: whoever changes the server's weights raises it.

**What fails.** A completion is whole or a failure, except at a deadline. Failed prompts never end the work of others:
all finished completions are handed out first, then `IncompleteError` names the rest. Once a prompt finds no server
after all its attempts, those not finished are failures too.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from cameleer.core.errors import UserError
from cameleer.model.endpoint import Ask, Endpoint
from cameleer.model.replies import EndpointFailure, FailureKind, kind_of
from cameleer.model.rows import FinishReason
from cameleer.model.sampling import Sampling
from cameleer.model.scheduler import Completion

ROUTE = "/completions"
LOWEST_TEMPERATURE = 0.01
"""vLLM samples at this temperature when asked for a lower one."""
MAX_SHOWN_FAILURES = 3


class IncompleteError(UserError):
    """Some prompts have no completion; `failures` tells why, by index. The others have been handed out."""

    def __init__(self, failures: Mapping[int, EndpointFailure], num_prompts: int, hint: str) -> None:
        self.failures, self.num_prompts = dict(failures), num_prompts
        shown = [
            f"prompt {index}: {failure.kind}: {failure.message}"
            for index, failure in sorted(self.failures.items())[:MAX_SHOWN_FAILURES]
        ]
        if len(self.failures) > len(shown):
            shown.append("…")
        super().__init__(
            f"{len(self.failures)} of {num_prompts} prompts have no completion: {'; '.join(shown)}", hint or None
        )

    def __reduce__(self) -> Any:
        return type(self), (self.failures, self.num_prompts, self.hint or "")


@dataclass
class ServerGenerator:
    """Samples from the server behind `endpoint`, which caches shared prompts itself.

    `context_length` is the most tokens that prompt and completion may have together; None where it is not known, and
    then the server says so of each prompt. `explain` is asked for a hint when prompts have failed.
    """

    endpoint: Endpoint
    stop_ids: Collection[int]
    context_length: int | None = None
    weight_version: int = 0
    explain: Callable[[], str] = field(default=str, repr=False)
    _is_proven: bool = field(default=False, init=False, repr=False)

    def stream(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, names: Sequence[str] | None = None
    ) -> Iterator[tuple[int, Completion]]:
        """See `Generator`.

        Raises UserError before any work for a prompt that is empty or does not fit, and for a server that is not
        there or gives no ids; later what `Endpoint.ask_all` raises, and at the end IncompleteError.
        """
        self._check(prompts, sampling)
        if prompts and not self._is_proven:
            self._prove(prompts[0])
        named = zip(prompts, names or map(str, range(len(prompts))), strict=True)
        asks = [self._ask(prompt, sampling, name) for prompt, name in named]
        seconds = sampling.deadline_seconds
        return self._results(asks, None if seconds is None else time.monotonic() + seconds)

    def _results(self, asks: Sequence[Ask[Completion]], until: float | None) -> Iterator[tuple[int, Completion]]:
        unfinished, failures = dict(enumerate(asks)), dict[int, EndpointFailure]()
        with closing(self.endpoint.ask_all(asks, until)) as outcomes:
            for index, outcome in outcomes:
                del unfinished[index]
                if isinstance(outcome, Completion):
                    yield index, outcome
                    continue
                failures[index] = outcome
                if outcome.kind is FailureKind.DOWN:
                    gone = EndpointFailure(FailureKind.DOWN, "given up: there is no server", 0)
                    failures |= dict.fromkeys(unfinished, gone)
                    unfinished.clear()
                    break
        # The thread that filled `received` has ended with the iterator.
        for index, ask in unfinished.items():
            yield index, self._cut_off(ask)
        if failures:
            raise IncompleteError(failures, len(asks), self.explain())

    def _check(self, prompts: Sequence[Sequence[int]], sampling: Sampling) -> None:
        if 0 < sampling.temperature < LOWEST_TEMPERATURE:
            raise UserError(
                f"temperature: a server samples at {LOWEST_TEMPERATURE} instead of {sampling.temperature}.",
                "Use 0 (greedy) or at least that.",
            )
        for index, prompt in enumerate(prompts):
            if not prompt:
                raise UserError(f"prompt {index} has no tokens.")
            if self.context_length is not None and len(prompt) + sampling.max_new_tokens > self.context_length:
                what = f"prompt {index} has {len(prompt)} tokens; with {sampling.max_new_tokens} new ones it exceeds"
                raise UserError(
                    f"{what} the server's context of {self.context_length}.",
                    "Lower max_new_tokens or shorten the prompt.",
                )

    def _prove(self, prompt: Sequence[int]) -> None:
        """Refuse a server that gives no ids, or not the log-probabilities of the distribution drawn from."""
        ask = self._ask(prompt, Sampling(1, temperature=1.0, top_k=1), "proof")
        [(_, outcome)] = self.endpoint.ask_all([ask])
        server = f"{self.endpoint.model} at {self.endpoint.base_url}"
        if not isinstance(outcome, Completion):
            raise UserError(
                f"{server} cannot be sampled from: {outcome.kind}: {outcome.message}",
                self.explain() or "It takes a server that gives token ids, such as vLLM 0.10.2 or newer.",
            )
        if abs(outcome.logprobs[0]) > 1e-6:
            raise UserError(
                f"{server} gives log-probabilities of before temperature and filters: that of a certain choice is "
                f"{outcome.logprobs[0]:.4f}, not 0.",
                "Start vLLM with --logprobs-mode processed_logprobs.",
            )
        self._is_proven = True

    # --- one prompt ---

    def _ask(self, prompt: Sequence[int], sampling: Sampling, name: str) -> Ask[Completion]:
        stops = {"stop_token_ids": sorted(self.stop_ids), "ignore_eos": True}
        fields = {"prompt": list(prompt), **server_fields(sampling, name), **stops}
        return Ask(ROUTE, self.endpoint.body(fields), partial(self._read, len(prompt), sampling))

    def _read(
        self, num_prompt_tokens: int, sampling: Sampling, body: bytes, attempt: int
    ) -> Completion | EndpointFailure:
        """A completion out of a whole reply, of which nothing is believed."""
        streamed = read_stream(body)
        self.endpoint.spending.add(num_prompt_tokens, len(streamed.ids))
        if streamed.error is not None:
            return EndpointFailure(streamed.error_kind, streamed.error, attempt)
        wrong = streamed.wrong or self._what_is_wrong(streamed, sampling)
        if wrong is not None:
            return EndpointFailure(FailureKind.BAD_REPLY, wrong, attempt)
        reason = FinishReason(streamed.finish_reason)
        return Completion(tuple(streamed.ids), tuple(streamed.logprobs), reason, self.weight_version)

    def _what_is_wrong(self, streamed: "Streamed", sampling: Sampling) -> str | None:
        ids, reason = streamed.ids, streamed.finish_reason
        if reason not in (FinishReason.STOP, FinishReason.LENGTH):
            return f"a completion that ends with finish reason {reason}"
        if not 1 <= len(ids) <= sampling.max_new_tokens:
            return f"{len(ids)} ids where 1 to {sampling.max_new_tokens} were asked for"
        if reason == FinishReason.STOP and ids[-1] not in self.stop_ids and not sampling.stop:
            return f"a completion that stops with the id {ids[-1]}, which is no stop id"
        return None

    def _cut_off(self, ask: Ask[Completion]) -> Completion:
        """What had come by the deadline: the whole lines of a reply that broke off, if they make sense."""
        streamed = read_stream(bytes(ask.received[: ask.received.rfind(b"\n") + 1]))
        if streamed.wrong or streamed.error:
            return Completion((), (), FinishReason.DEADLINE, self.weight_version)
        if streamed.ids:
            self.endpoint.spending.add(len(ask.body["prompt"]), len(streamed.ids))
        return Completion(tuple(streamed.ids), tuple(streamed.logprobs), FinishReason.DEADLINE, self.weight_version)


def server_fields(sampling: Sampling, name: str) -> dict[str, Any]:
    """A sampling as the server's fields, for the prompt of this name."""
    is_greedy = sampling.temperature == 0
    fields: dict[str, Any] = {
        "max_tokens": sampling.max_new_tokens,
        "min_tokens": sampling.min_new_tokens or None,
        "temperature": sampling.temperature,
        "repetition_penalty": sampling.repetition_penalty,
        "stop": list(sampling.stop) or None,
        "logprobs": 0,
        "return_token_ids": True,
        "stream": True,
        # Without a deadline nobody reads the parts: the first token and the rest.
        "stream_interval": sampling.max_new_tokens if sampling.deadline_seconds is None else 1,
    }
    if not is_greedy:
        digest = hashlib.sha256(f"{sampling.seed}/{name}".encode()).digest()
        fields["seed"] = int.from_bytes(digest[:8]) >> 11
        fields |= {"top_p": sampling.top_p, "top_k": sampling.top_k, "min_p": sampling.min_p}
    return fields


@dataclass
class Streamed:
    """What a stream of completion chunks says. `wrong`: why it cannot be read; `error`: the server's own words."""

    ids: list[int] = field(default_factory=list[int])
    logprobs: list[float] = field(default_factory=list[float])
    finish_reason: str | None = None
    wrong: str | None = None
    error: str | None = None
    error_kind: FailureKind = FailureKind.SERVER_ERROR


def read_stream(body: bytes) -> Streamed:
    """Read server-sent events `data: {"choices": [{"token_ids", "logprobs": {"token_logprobs"}, …}]}`."""
    streamed = Streamed()
    lines = [line.removeprefix(b"data:").strip() for line in body.splitlines() if line.startswith(b"data:")]
    if body.strip() and not lines:
        streamed.wrong = f"not a stream of completions: {body[:300].decode('utf-8', 'replace')!r}"
    try:
        for line in lines:
            if line != b"[DONE]":
                _add_chunk(streamed, json.loads(line))
    except (ValueError, LookupError, TypeError, AttributeError) as failure:
        streamed.wrong = streamed.wrong or f"a stream that cannot be read ({type(failure).__name__}: {failure})"
    return streamed


def _add_chunk(streamed: Streamed, chunk: dict[str, Any]) -> None:
    if "error" in chunk:
        status = chunk["error"].get("code")
        streamed.error = str(chunk["error"].get("message"))[:300]
        streamed.error_kind = kind_of(status if isinstance(status, int) else 500)
        return
    for choice in chunk["choices"]:
        ids, logprobs = choice.get("token_ids"), (choice.get("logprobs") or {}).get("token_logprobs")
        if ids is None:
            raise ValueError("text without token ids")
        if logprobs is None or len(ids) != len(logprobs):
            raise ValueError(f"{len(ids)} ids with {len(logprobs or ())} log-probabilities")
        if not all(isinstance(token, int) and token >= 0 for token in ids):
            raise ValueError(f"ids {ids[:5]} …")
        if not all(isinstance(each, int | float) and math.isfinite(each) for each in logprobs):
            raise ValueError("log-probabilities that are not finite")
        streamed.ids += ids
        streamed.logprobs += map(float, logprobs)
        streamed.finish_reason = choice.get("finish_reason") or streamed.finish_reason
