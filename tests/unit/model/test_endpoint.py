"""The client against a real HTTP server that misbehaves (tests/http_server.py)."""

import json
import threading
import time
from collections.abc import Iterable
from email.utils import formatdate
from typing import Any

import pytest
from http_server import Answer, break_off, completion, drip, endless, failure, say, serving, slowly

from cameleer.core.errors import UserError
from cameleer.core.types import Message
from cameleer.model import endpoint as endpoint_module
from cameleer.model.endpoint import ChatReply, ChatRequest, Endpoint, Price
from cameleer.model.replies import EndpointFailure, FailureKind

KEY_ENV, KEY = "CAMELEER_TEST_KEY", "sk-test-1234567890"


def asking(url: str, **settings: Any) -> Endpoint:
    return Endpoint(url, "judge", **({"backoff_seconds": 0.01, "timeout_seconds": 5.0} | settings))


def request(text: str = "hello", **settings: Any) -> ChatRequest:
    return ChatRequest((Message("user", text),), max_tokens=8, **settings)


def only(endpoint: Endpoint, asked: ChatRequest | None = None) -> ChatReply | EndpointFailure:
    [(index, outcome)] = endpoint.complete_all([asked or request()])
    assert index == 0
    return outcome


def test_request_holds_messages_and_settings_and_the_reply_the_text() -> None:
    with serving(say(completion("It is 4."))) as (url, state):
        endpoint = asking(url, extra_body={"max_tokens": None, "max_completion_tokens": 8, "user": "x"})
        asked = ChatRequest((Message("system", "Be brief."), Message("user", "2+2?")), max_tokens=8, temperature=0.5)
        assert only(endpoint, asked) == ChatReply("It is 4.", "stop", None, 1)
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2+2?"}]
    limits = {"max_completion_tokens": 8, "temperature": 0.5, "user": "x"}
    assert state.seen == [{"model": "judge", "messages": messages} | limits]
    assert state.keys == [None]


def test_a_draw_s_settings_are_sent_where_they_are_not_the_defaults() -> None:
    with serving(say(completion())) as (url, state):
        only(asking(url), request(temperature=0.7, top_p=0.9, seed=5, stop=("END", "\n\n")))
    sent = {name: state.seen[0][name] for name in ("temperature", "top_p", "seed", "stop")}
    assert sent == {"temperature": 0.7, "top_p": 0.9, "seed": 5, "stop": ["END", "\n\n"]}


def test_replies_come_in_the_order_in_which_they_finish() -> None:
    with serving(slowly(0.5, completion("slow")), say(completion("fast"))) as (url, _):
        outcomes = list(asking(url).complete_all([request(), request()]))
    assert sorted(index for index, _ in outcomes) == [0, 1]
    assert [outcome.text for _, outcome in outcomes if isinstance(outcome, ChatReply)] == ["fast", "slow"]


def test_no_more_requests_are_under_way_or_drawn_than_may_be() -> None:
    drawn: list[int] = []

    def requests() -> Iterable[ChatRequest]:
        for number in range(12):
            drawn.append(number)
            assert number < 3 + len(state.seen)
            yield request(str(number))

    with serving(slowly(0.03, completion())) as (url, state):
        outcomes = list(asking(url, max_concurrency=3).complete_all(requests()))
        assert state.most_at_once == 3
    assert len(outcomes) == len(drawn) == 12 and all(isinstance(outcome, ChatReply) for _, outcome in outcomes)


def test_a_server_error_is_tried_again() -> None:
    with serving(say(failure("oops"), 500), say(completion())) as (url, state):
        outcome = only(asking(url))
        assert isinstance(outcome, ChatReply) and outcome.num_attempts == len(state.seen) == 2


@pytest.mark.parametrize("as_date", [False, True])
def test_retry_after_is_honoured_by_every_request(as_date: bool) -> None:
    """The first of two is told to wait: neither it nor the second starts before the time. A date has whole seconds."""
    date = int(time.time()) + 2
    due = time.monotonic() + (date - time.time() if as_date else 1.0)
    with serving(
        say(failure(), 429, Retry_After=formatdate(date, usegmt=True) if as_date else "1"), say(completion())
    ) as (url, state):
        outcomes = list(asking(url, max_concurrency=1).complete_all([request(), request()]))
    assert all(isinstance(outcome, ChatReply) for _, outcome in outcomes)
    assert len(state.times) == 3 and min(state.times[1:]) >= due - 0.01


def test_retry_after_that_is_too_long_is_a_failure_at_once() -> None:
    with serving(say(failure("tomorrow"), 429, Retry_After="86400")) as (url, state):
        outcome = only(asking(url))
        assert isinstance(outcome, EndpointFailure) and outcome.kind is FailureKind.RATE_LIMITED
        assert len(state.seen) == 1 and "tomorrow" in outcome.message


def test_pauses_grow_twofold() -> None:
    """Base 0.1 s: pauses of at least 0.05, 0.1 and 0.2 s, and at most twice that and what a busy machine adds."""
    with serving(say(failure(), 500)) as (url, state):
        outcome = only(asking(url, backoff_seconds=0.1, max_retries=3))
        pauses = [after - before for before, after in zip(state.times, state.times[1:], strict=False)]
    assert isinstance(outcome, EndpointFailure) and outcome.num_attempts == 4
    assert len(pauses) == 3
    assert all(low <= pause < 2 * low + 3 for low, pause in zip((0.05, 0.1, 0.2), pauses, strict=True))


def test_rate_is_kept() -> None:
    """600 a minute: one every 0.1 s, retries included."""
    with serving(say(failure(), 500), say(completion())) as (url, state):
        started = time.monotonic()
        list(asking(url, requests_per_minute=600, backoff_seconds=0.001).complete_all([request() for _ in range(4)]))
    assert len(state.times) == 5
    assert all(arrival - started >= 0.1 * number for number, arrival in enumerate(sorted(state.times)))


@pytest.mark.parametrize("answer", [slowly(30, completion()), drip], ids=["silent", "dripping"])
def test_deadline_covers_the_whole_reply(answer: Answer) -> None:
    with serving(answer) as (url, state):
        started = time.monotonic()
        outcome = only(asking(url, timeout_seconds=0.2, max_retries=1))
        assert isinstance(outcome, EndpointFailure) and outcome.kind is FailureKind.TIMEOUT
        assert time.monotonic() - started < 10 and len(state.seen) == outcome.num_attempts == 2


def test_server_that_is_down_is_a_failure_per_request() -> None:
    with serving(say(completion())) as (url, _):
        pass
    outcomes = dict(asking(url, max_retries=1).complete_all([request(), request()]))
    assert [outcomes[index].kind for index in (0, 1)] == [FailureKind.DOWN] * 2


@pytest.mark.parametrize(
    "answer",
    [
        say(b"<html>gateway</html>"),
        say(b"[1, 2]"),
        say(b""),
        say(b'{"choices": []}'),
        say(b'{"choices": [{"message": null}]}'),
        say(completion(None)),
        say(b"", 302, Location="http://127.0.0.1:1/"),
    ],
    ids=["html", "list", "nothing", "no choices", "no message", "no text", "redirect"],
)
def test_nonsense_is_a_bad_reply_and_is_tried_again(answer: Answer) -> None:
    with serving(answer) as (url, state):
        outcome = only(asking(url, max_retries=1))
        assert isinstance(outcome, EndpointFailure) and outcome.kind is FailureKind.BAD_REPLY
        assert len(state.seen) == 2
    with serving(answer, say(completion())) as (url, _):
        assert isinstance(only(asking(url)), ChatReply)


def test_connection_dropped_half_way_is_tried_again() -> None:
    with serving(break_off, say(completion())) as (url, _):
        outcome = only(asking(url))
        assert isinstance(outcome, ChatReply) and outcome.num_attempts == 2
    with serving(break_off) as (url, _):
        outcome = only(asking(url, max_retries=0))
        assert isinstance(outcome, EndpointFailure) and outcome.kind is FailureKind.DOWN


def test_huge_reply_is_dropped_at_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_module, "MAX_REPLY_BYTES", 1 << 18)
    with serving(endless) as (url, _):
        outcome = only(asking(url, max_retries=0))
        assert isinstance(outcome, EndpointFailure) and outcome.kind is FailureKind.BAD_REPLY
        assert str(1 << 18) in outcome.message


@pytest.mark.parametrize(
    "answer",
    [
        say(failure("the prompt is too long"), 400),
        say(failure("unprocessable"), 422),
        say(completion(None, finish_reason="content_filter")),
        say(json.dumps({"choices": [{"message": {"content": None, "refusal": "I will not."}}]}).encode()),
    ],
    ids=["400", "422", "filtered", "refusal"],
)
def test_refused_request_is_not_tried_again_and_ends_nothing(answer: Answer) -> None:
    with serving(answer, say(completion())) as (url, state):
        outcomes = dict(asking(url, max_concurrency=1).complete_all([request(), request()]))
        assert isinstance(outcomes[0], EndpointFailure) and outcomes[0].kind is FailureKind.REFUSED
        assert isinstance(outcomes[1], ChatReply) and len(state.seen) == 2


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (401, failure(f"Incorrect key {KEY} given"), "refuses the key"),
        (403, failure("not for you"), "refuses the key"),
        (402, failure("pay first"), "no budget"),
        (429, failure("see your plan", "insufficient_quota"), "no budget"),
        (404, failure("no such thing"), "no model 'judge'"),
        (400, failure("unknown", "model_not_found"), "no model 'judge'"),
    ],
)
def test_what_will_not_get_better_ends_the_work_at_once(
    status: int, body: bytes, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_ENV, KEY)
    with serving(say(body, status)) as (url, state):
        endpoint = asking(url, api_key_env=KEY_ENV, max_concurrency=2)
        with pytest.raises(UserError, match=says) as caught:
            list(endpoint.complete_all(request() for _ in range(50)))
        assert KEY not in str(caught.value)
        assert len(state.seen) <= 4 and set(state.keys) == {f"Bearer {KEY}"}


def test_403_after_an_answer_concerns_one_request() -> None:
    with serving(say(completion()), say(failure("flagged"), 403), say(completion())) as (url, _):
        outcomes = dict(asking(url, max_concurrency=1).complete_all([request() for _ in range(3)]))
    assert [type(outcomes[index]) for index in range(3)] == [ChatReply, EndpointFailure, ChatReply]


def test_missing_key_is_named_before_anything_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_ENV, raising=False)
    with serving(say(completion())) as (url, state):
        with pytest.raises(UserError, match=KEY_ENV):
            list(asking(url, api_key_env=KEY_ENV).complete_all([request()]))
        assert state.seen == []


def test_key_is_nowhere_to_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_ENV, KEY)
    with serving(say(failure(f"bad request by {KEY}"), 400)) as (url, _):
        endpoint = asking(url, api_key_env=KEY_ENV)
        outcome = only(endpoint)
    assert isinstance(outcome, EndpointFailure) and "bad request by" in outcome.message
    assert KEY not in repr(outcome) + repr(endpoint) + json.dumps(endpoint.identity)


def test_first_token_logprobs_are_read() -> None:
    """A token may come twice, as two byte sequences that decode to the same text; the likelier one counts."""
    alternatives = [{"token": "m", "logprob": -0.1}, {"token": "M", "logprob": -2.5}, {"token": "m", "logprob": -9.0}]
    logprobs = {"content": [{"token": "m", "logprob": -0.1, "top_logprobs": alternatives}]}
    with serving(say(completion("m", logprobs=logprobs))) as (url, state):
        outcome = only(asking(url), request(top_logprobs=5))
        assert isinstance(outcome, ChatReply) and outcome.first_logprobs == {"m": -0.1, "M": -2.5}
        assert (state.seen[0]["logprobs"], state.seen[0]["top_logprobs"]) == (True, 5)


def test_server_without_logprobs_is_named() -> None:
    with serving(say(completion())) as (url, _), pytest.raises(UserError, match="log-probabilities"):
        only(asking(url), request(top_logprobs=5))


def test_every_metered_token_is_counted_once_and_priced() -> None:
    """Three replies of 10 + 2 tokens, one of them without choices, one without usage: (20 · 3 + 4 · 5) / 10⁶."""
    empty = json.dumps({"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 2}}).encode()
    bare = json.dumps({"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}).encode()
    with serving(say(empty), say(completion()), say(bare)) as (url, _):
        endpoint = asking(url, max_concurrency=1, price=Price(prompt=3.0, completion=5.0))
        list(endpoint.complete_all([request(), request()]))
    spending = endpoint.spending
    assert (spending.num_attempts, spending.num_unmetered) == (3, 1)
    assert (spending.num_prompt_tokens, spending.num_completion_tokens) == (20, 4)
    assert endpoint.cost == pytest.approx(80e-6)


@pytest.mark.parametrize(
    ("budget", "named"),
    [
        ({"budget_tokens": 36}, "budget_tokens = 36, with 36 tokens"),
        ({"budget_cost": 120e-6, "price": Price(3.0, 5.0)}, "budget_cost = 0.00012, with 0.00012 spent"),
    ],
    ids=["tokens", "cost"],
)
def test_a_budget_ends_the_work_once_it_is_reached_and_what_came_is_kept(budget: dict[str, Any], named: str) -> None:
    """A reply takes 10 + 2 tokens and costs (10 · 3 + 2 · 5) / 10⁶ = 40e-6: three of them reach either budget."""
    with serving(say(completion())) as (url, state):
        endpoint, kept = asking(url, max_concurrency=1, **budget), list[int]()
        with pytest.raises(UserError, match="the budget is used up") as caught:
            for index, _ in endpoint.complete_all([request() for _ in range(5)]):
                kept.append(index)
        assert named in str(caught.value)
        assert kept == [0, 1, 2] and len(state.seen) == 3
        rest = asking(url, max_concurrency=1, **budget)
        assert len(list(rest.complete_all([request() for _ in range(2)]))) == 2


def test_a_budget_that_just_suffices_is_no_error() -> None:
    with serving(say(completion())) as (url, _):
        assert len(list(asking(url, budget_tokens=24).complete_all([request(), request()]))) == 2


def test_what_is_under_way_when_the_budget_is_reached_is_handed_out() -> None:
    """Four at once, the first of which spends all: the other three were sent and paid for."""
    with serving(say(completion()), slowly(0.3, completion())) as (url, state):
        kept: list[int] = []
        with pytest.raises(UserError, match="budget"):
            for index, outcome in asking(url, max_concurrency=4, budget_tokens=1).complete_all([request()] * 9):
                assert isinstance(outcome, ChatReply)
                kept.append(index)
        assert len(kept) == len(state.seen) == 4


def test_no_failed_request_is_tried_again_past_the_budget() -> None:
    paid_nonsense = json.dumps({"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 2}}).encode()
    with serving(say(paid_nonsense)) as (url, state):
        outcome = only(asking(url, budget_tokens=12))
        assert isinstance(outcome, EndpointFailure) and outcome.num_attempts == len(state.seen) == 1


def test_leaving_early_stops_the_rest() -> None:
    with serving(slowly(0.02, completion())) as (url, state):
        outcomes = asking(url, max_concurrency=2).complete_all(request() for _ in range(1000))
        next(outcomes)
        outcomes.close()
        seen = len(state.seen)
        time.sleep(0.15)
        assert len(state.seen) == seen < 20
    assert not [thread for thread in threading.enumerate() if thread.name == "endpoint"]


def test_error_in_the_source_of_requests_reaches_the_caller() -> None:
    def requests() -> Iterable[ChatRequest]:
        yield request()
        raise ZeroDivisionError

    with serving(say(completion())) as (url, _), pytest.raises(ZeroDivisionError):
        list(asking(url).complete_all(requests()))


@pytest.mark.parametrize(
    "settings",
    [
        {"base_url": "localhost:8000/v1"},
        {"base_url": "http://x/v1/chat/completions"},
        {"base_url": "http://x/v1/completions"},
        {"budget_tokens": 0},
        {"budget_cost": 1.0},
        {"max_concurrency": 0},
        {"timeout_seconds": 0},
        {"requests_per_minute": -1},
    ],
    ids=str,
)
def test_impossible_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        Endpoint(**({"base_url": "http://x/v1", "model": "judge"} | settings))
