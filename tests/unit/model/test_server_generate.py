"""Servers that give ids, and what they do wrong; what they do right is in test_generators.py."""

import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest
from http_server import Answer, break_off, completion, failure, say, serving
from ids_server import Chunks, cut_off, send, serving_ids
from ids_server import sampling as answering

from cameleer.core.errors import UserError
from cameleer.model.endpoint import Endpoint
from cameleer.model.generate import Completion, FinishReason, LocalGenerator, Sampling, generate
from cameleer.model.replies import FailureKind
from cameleer.model.server_generate import IncompleteError, ServerGenerator
from cameleer.model.tiny import tiny_model

LOCAL = LocalGenerator(tiny_model(seed=1), (), batch_size=1)
HONEST = answering(LOCAL)
PROMPTS = [[5, 6], [7], [8, 9, 10]]


def generator(url: str, stop_ids: tuple[int, ...] = (), **settings: Any) -> ServerGenerator:
    settings = {"backoff_seconds": 0.01, "timeout_seconds": 10.0, "max_retries": 1, "max_concurrency": 1} | settings
    return ServerGenerator(Endpoint(url, "tiny", **settings), stop_ids)


def spoiling(change: Callable[[dict[str, Any]], None]) -> Answer:
    """Changes the first chunk's choice."""

    def spoil(chunks: Chunks) -> Chunks:
        change(chunks[0]["choices"][0])
        return chunks

    return answering(LOCAL, spoil)


def without_ids(choice: dict[str, Any]) -> None:
    del choice["token_ids"]
    choice["text"] = "hello"


def taken(source: ServerGenerator, sampling: Sampling) -> tuple[dict[int, Completion], IncompleteError]:
    """What comes before the error, and the error."""
    kept: dict[int, Completion] = {}
    with pytest.raises(IncompleteError) as caught:
        for index, each in source.stream(PROMPTS, sampling):
            kept[index] = each
    return kept, caught.value


def wrong_ids(choice: dict[str, Any]) -> None:
    choice["token_ids"] = [-1]


def text_ids(choice: dict[str, Any]) -> None:
    choice["token_ids"] = ["5"]


def one_id_too_many(choice: dict[str, Any]) -> None:
    choice["token_ids"] = [1, 2]


def no_logprobs(choice: dict[str, Any]) -> None:
    choice["logprobs"] = None


def infinite(choice: dict[str, Any]) -> None:
    choice["logprobs"] = {"token_logprobs": [float("-inf")]}


def five_more(choice: dict[str, Any]) -> None:
    choice["token_ids"], choice["logprobs"] = [4] * 6, {"token_logprobs": [-1.0] * 6}


BAD: list[tuple[str, Answer, FailureKind, str]] = [
    ("garbage", say(b"<html>gateway</html>"), FailureKind.BAD_REPLY, "not a stream"),
    ("json without events", say(b'{"choices": []}'), FailureKind.BAD_REPLY, "not a stream"),
    ("half a line", say(b'data: {"choices": [{"tok'), FailureKind.BAD_REPLY, "cannot be read"),
    ("nothing", say(b""), FailureKind.BAD_REPLY, "finish reason None"),
    ("a list", say(b"data: [1]\n"), FailureKind.BAD_REPLY, "cannot be read"),
    ("text", spoiling(without_ids), FailureKind.BAD_REPLY, "text without token ids"),
    ("one id too many", spoiling(one_id_too_many), FailureKind.BAD_REPLY, "2 ids with 1 log-probabilities"),
    ("too long", spoiling(five_more), FailureKind.BAD_REPLY, "ids where 1 to 6 were asked for"),
    ("negative id", spoiling(wrong_ids), FailureKind.BAD_REPLY, "ids"),
    ("id as text", spoiling(text_ids), FailureKind.BAD_REPLY, "ids"),
    ("no log-probabilities", spoiling(no_logprobs), FailureKind.BAD_REPLY, "1 ids with 0"),
    ("infinite", spoiling(infinite), FailureKind.BAD_REPLY, "not finite"),
    ("aborted", answering(LOCAL, lambda chunks: ending(chunks, "abort")), FailureKind.BAD_REPLY, "reason abort"),
    ("stop without one", answering(LOCAL, lambda chunks: ending(chunks, "stop")), FailureKind.BAD_REPLY, "no stop id"),
    ("unended", answering(LOCAL, lambda chunks: chunks[:-1]), FailureKind.BAD_REPLY, "finish reason None"),
    ("its own error", lambda handler: send(handler, [{"error": {"message": "engine dead"}}]), FailureKind.SERVER_ERROR,
     "engine dead"),
    ("too large", say(failure("oops"), 500), FailureKind.SERVER_ERROR, "oops"),
    ("hurry", say(failure("slow down"), 429), FailureKind.RATE_LIMITED, "slow down"),
]  # fmt: skip


def ending(chunks: Chunks, reason: str) -> Chunks:
    chunks[-1]["choices"][0]["finish_reason"] = reason
    return chunks


@pytest.mark.parametrize(("answer", "kind", "says"), [bad[1:] for bad in BAD], ids=[bad[0] for bad in BAD])
def test_a_wrong_reply_is_tried_again_and_then_a_named_failure_beside_what_finished(
    answer: Answer, kind: FailureKind, says: str
) -> None:
    """The requests: the proof, prompt 0, prompt 1 twice, prompt 2."""
    with serving_ids(HONEST, HONEST, answer, answer, HONEST) as (url, state):
        kept, error = taken(generator(url), Sampling(6))
        assert len(state.seen) == 5
    expected = generate(LOCAL, PROMPTS, Sampling(6))
    assert kept == {0: expected[0], 2: expected[2]}
    assert list(error.failures) == [1] and error.failures[1].kind is kind and error.failures[1].num_attempts == 2
    assert says in error.failures[1].message and "1 of 3 prompts" in str(error) and says in str(error)
    with serving_ids(HONEST, HONEST, answer, HONEST, HONEST) as (url, _):
        assert generate(generator(url), PROMPTS, Sampling(6)) == expected


def test_a_refused_prompt_is_not_tried_again_and_ends_nothing() -> None:
    def stream_error(handler: Any) -> None:
        send(handler, [{"error": {"message": "id out of vocabulary", "code": 400}}])

    for refusal in (say(failure("id out of vocabulary"), 400), stream_error):
        with serving_ids(HONEST, refusal, HONEST) as (url, state):
            kept, error = taken(generator(url), Sampling(3))
            assert set(kept) == {1, 2} and len(state.seen) == 4
        assert error.failures[0].kind is FailureKind.REFUSED and "out of vocabulary" in str(error)


def test_a_server_that_dies_half_way_leaves_what_finished_and_names_the_rest() -> None:
    """It answers the proof and one prompt, breaks off within the next, and is gone; the last is not even asked for."""
    with serving_ids(HONEST, HONEST, cut_off(LOCAL)) as (url, state):
        source = generator(url)
        source.explain = lambda: "its log says: out of memory"
        kept, error = taken(source, Sampling(6))
        assert len(state.seen) == 4
    assert kept == {0: generate(LOCAL, PROMPTS[:1], Sampling(6))[0]}
    assert {index: failed.kind for index, failed in error.failures.items()} == dict.fromkeys((1, 2), FailureKind.DOWN)
    assert "its log says: out of memory" in str(error) and error.failures[2].num_attempts == 0


def test_a_connection_that_breaks_once_costs_nothing() -> None:
    with serving_ids(HONEST, cut_off(LOCAL), HONEST, break_off, HONEST) as (url, _):
        assert generate(generator(url), PROMPTS, Sampling(6)) == generate(LOCAL, PROMPTS, Sampling(6))


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (spoiling(without_ids), "text without token ids"),
        (say(completion("a chat")), "not a stream of completions"),
        (say(failure("unknown field"), 400), "unknown field"),
        (spoiling(lambda choice: choice["logprobs"].update(token_logprobs=[-0.5])), "before temperature and filters"),
    ],
    ids=["text", "chat", "refusal", "raw log-probabilities"],
)
def test_a_server_that_cannot_be_sampled_from_is_named_before_any_prompt(answer: Answer, says: str) -> None:
    with serving_ids(answer) as (url, state), pytest.raises(UserError, match=says):
        generator(url, max_retries=0).stream(PROMPTS, Sampling(6))
    assert len(state.seen) == 1 and state.seen[0]["max_tokens"] == 1


def test_a_server_that_is_not_there_is_named_before_any_prompt() -> None:
    with serving(HONEST) as (url, _):
        pass
    with pytest.raises(UserError, match=r"cannot be sampled from: down"):
        generator(url).stream(PROMPTS, Sampling(6))


def test_a_server_is_proven_once() -> None:
    with serving_ids(HONEST) as (url, state):
        source = generator(url)
        for _ in range(2):
            generate(source, PROMPTS, Sampling(2))
        assert len(state.seen) == 1 + 2 * len(PROMPTS)


def test_the_deadline_keeps_the_tokens_that_came() -> None:
    """One token every 0.1 s, one prompt at a time: some of the first one's 40 by 2.5 s, none of the others'."""
    with serving_ids(answering(LOCAL, seconds_per_chunk=0.1)) as (url, _):
        source = generator(url)
        whole = generate(LOCAL, PROMPTS, Sampling(40))
        found = generate(source, PROMPTS, Sampling(40, deadline_seconds=2.5))
    assert {each.finish_reason for each in found} == {FinishReason.DEADLINE}
    count = len(found[0].ids)
    assert 0 < count < 40 and (found[0].ids, found[0].logprobs) == (whole[0].ids[:count], whole[0].logprobs[:count])
    assert found[1].ids == found[2].ids == ()


def test_the_deadline_keeps_whole_lines_of_a_reply_that_stands_still_within_one() -> None:
    line = b'data: {"choices": [{"token_ids": [4], "logprobs": {"token_logprobs": [-1.5]}, "finish_reason": null}]}\n\n'

    def stand_still(handler: Any) -> None:
        handler.start(200, 1000, {})
        handler.wfile.write(line + line + line[:40])
        handler.server_state.sleep(30)

    with serving_ids(HONEST, stand_still) as (url, _):
        [found] = generate(generator(url), [[5]], Sampling(9, deadline_seconds=1.0))
    assert (found.ids, found.logprobs, found.finish_reason) == ((4, 4), (-1.5, -1.5), FinishReason.DEADLINE)


def test_tokens_are_metered_and_a_budget_ends_the_work() -> None:
    """The proof takes 2 + 1 tokens, prompt 0 2 + 6, prompt 1 1 + 6: past 15, prompt 2 is not asked for."""
    with serving_ids(HONEST) as (url, _):
        source = generator(url, budget_tokens=15)
        kept: list[int] = []
        with pytest.raises(UserError, match=r"budget_tokens = 15, with 18 tokens"):
            for index, _ in source.stream(PROMPTS, Sampling(6)):
                kept.append(index)
    assert kept == [0, 1]
    assert (source.endpoint.spending.num_prompt_tokens, source.endpoint.spending.num_completion_tokens) == (5, 13)


def test_leaving_early_asks_for_no_more() -> None:
    with serving_ids(HONEST) as (url, state):
        stream = generator(url).stream([[3]] * 50, Sampling(2))
        next(stream)
        stream.close()
        assert len(state.seen) < 10
    assert not [thread for thread in threading.enumerate() if thread.name == "endpoint"]


def test_greedy_sends_no_draw_and_a_draw_all_its_filters() -> None:
    with serving_ids(HONEST) as (url, state):
        generate(generator(url, (9, 2)), [[3]], Sampling(2, top_p=0.5, top_k=3))
        generate(generator(url), [[3]], Sampling(2, temperature=0.5, min_p=0.1, min_new_tokens=1))
    greedy, drawn = state.seen[1], state.seen[3]
    assert not {"seed", "top_p", "top_k", "min_p"} & greedy.keys()
    assert (greedy["prompt"], greedy["stop_token_ids"], greedy["ignore_eos"]) == ([3], [2, 9], True)
    assert (drawn["temperature"], drawn["min_p"], drawn["min_tokens"]) == (0.5, 0.1, 1) and 0 <= drawn["seed"] < 2**53


def test_a_temperature_that_the_server_would_raise_is_refused() -> None:
    with pytest.raises(UserError, match=r"0\.01 instead of 0\.001"):
        generator("http://x/v1").stream([[3]], Sampling(2, temperature=0.001))


def test_an_incomplete_error_survives_the_way_between_processes() -> None:
    with serving_ids(HONEST, say(failure("too long"), 400)) as (url, _):
        _, error = taken(generator(url), Sampling(2))
    copy = pickle.loads(pickle.dumps(error))
    assert copy.failures == error.failures and str(copy) == str(error)
