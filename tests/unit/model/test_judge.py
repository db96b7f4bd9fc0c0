"""Judges: one protocol on an endpoint and on a model in this process, and a memory that spends no call twice."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from scripted_judge import ScriptedJudge, shown

from cameleer.core.errors import UserError
from cameleer.core.render import Renderer
from cameleer.core.types import Message
from cameleer.model.endpoint import ChatReply, ChatRequest, Endpoint
from cameleer.model.generate import LocalGenerator, Sampling
from cameleer.model.judge import (
    CachedJudge,
    EndpointJudge,
    JudgeReply,
    JudgeRequest,
    LocalJudge,
    ask_all,
    model_logprobs,
)
from cameleer.model.replies import EndpointFailure, FailureKind
from cameleer.model.tiny import tiny_model, tiny_tokenizer


def request(text: str, labels: tuple[str, ...] = (), max_tokens: int = 6) -> JudgeRequest:
    return JudgeRequest((Message("user", text),), 1 if labels else max_tokens, labels)


def local_judge() -> LocalJudge:
    renderer, model = Renderer(tiny_tokenizer()), tiny_model(seed=3)
    return LocalJudge(LocalGenerator(model, renderer.stop_ids), renderer, "tiny", model_logprobs(model))


class RecordedEndpoint(Endpoint):
    """An endpoint whose server is a list of outcomes; tests/unit/model/test_endpoint.py talks to real servers."""

    outcomes: list[ChatReply | EndpointFailure]
    seen: list[ChatRequest]

    def complete_all(self, requests: Any) -> Iterator[tuple[int, ChatReply | EndpointFailure]]:
        self.seen = list(requests)
        yield from enumerate(self.outcomes)


def test_endpoint_judge_asks_for_logprobs_only_where_labels_are_compared() -> None:
    endpoint = RecordedEndpoint("http://x/v1", "judge")
    endpoint.outcomes = [
        ChatReply("yes", "stop", None, 1),
        ChatReply("m", "length", {"m": -0.2, "M": -1.7, "The": -9.0}, 1),
        EndpointFailure(FailureKind.TIMEOUT, "no reply within 3 s", 2),
    ]
    replies = ask_all(EndpointJudge(endpoint), [request("a"), request("b", ("m", "M")), request("c")])
    assert replies[0] == JudgeReply("yes")
    assert replies[1] == JudgeReply("m", {"m": -0.2, "M": -1.7})
    assert replies[2].text is None and "timeout" in (replies[2].failure or "")
    assert [asked.top_logprobs for asked in endpoint.seen] == [0, 5, 0]
    assert [(asked.max_tokens, asked.temperature) for asked in endpoint.seen] == [(6, 0.0), (1, 0.0), (6, 0.0)]


def test_local_judge_says_what_the_model_generates() -> None:
    judge = local_judge()
    requests = [request("What is it?", max_tokens=5), request("Another", max_tokens=9), request("Third", max_tokens=5)]
    for asked, reply in zip(requests, ask_all(judge, requests), strict=True):
        prompt = judge.renderer.prompt(asked.messages)
        [(_, completion)] = judge.generator.stream([prompt], Sampling(max_new_tokens=asked.max_tokens))
        assert reply.text == judge.renderer.decode(completion.ids) and reply.failure is None


def test_local_label_logprobs_are_those_of_the_next_token() -> None:
    """Against the logits of a plain forward pass over the prompt, at the tokens with which the labels begin."""
    judge, model, tokenizer = local_judge(), tiny_model(seed=3, attention="sdpa"), tiny_tokenizer()
    asked = request("Which is better?", ("m", "M"))
    [reply] = ask_all(judge, [asked])
    with torch.no_grad():
        logits = model(torch.tensor([judge.renderer.prompt(asked.messages)])).logits[0, -1]
    expected = torch.log_softmax(logits, dim=0)
    for label in ("m", "M"):
        token = tokenizer.convert_tokens_to_ids(label)
        assert reply.label_logprobs[label] == pytest.approx(expected[token].item(), abs=1e-5)
    assert reply.text == max(reply.label_logprobs, key=lambda label: reply.label_logprobs[label])


def test_local_label_logprobs_are_the_same_alone_and_among_others() -> None:
    judge, asked = local_judge(), [request("x" * length, ("m", "M")) for length in (3, 40, 11)]
    assert ask_all(judge, asked) == [reply for one in asked for reply in ask_all(judge, [one])]


def test_labels_that_begin_alike_are_refused() -> None:
    with pytest.raises(UserError, match="begin with the same token"):
        ask_all(local_judge(), [request("?", ("number one", "number two"))])


def test_prompt_that_does_not_fit_is_one_failure_among_answers() -> None:
    replies = ask_all(local_judge(), [request("x" * 3000), request("short"), request("x" * 3000, ("m", "M"))])
    assert [reply.text is None for reply in replies] == [True, False, True]
    assert "too many" in (replies[0].failure or "")


def upper(asked: JudgeRequest) -> str:
    return shown(asked).upper()


def test_memory_answers_what_was_asked_before(tmp_path: Path) -> None:
    first, asked = ScriptedJudge(upper), [request("a"), request("b")]
    assert ask_all(CachedJudge(first, tmp_path), asked) == [JudgeReply("A"), JudgeReply("B")]
    second = ScriptedJudge(upper)
    again = CachedJudge(second, tmp_path)
    assert ask_all(again, [*asked, request("c")]) == [JudgeReply("A"), JudgeReply("B"), JudgeReply("C")]
    assert [shown(each) for each in second.asked] == ["c"]
    assert (again.num_asked, again.num_remembered) == (1, 2)


def test_interrupted_evaluation_spends_no_call_twice(tmp_path: Path) -> None:
    """Left after one reply of three, as a kill would leave it: with the last line torn."""
    asked = [request("a"), request("b"), request("c")]
    first = CachedJudge(ScriptedJudge(upper), tmp_path)
    replies = first.ask(asked)
    index, _ = next(replies)
    replies.close()
    [memory] = tmp_path.iterdir()
    memory.write_bytes(memory.read_bytes() + b'{"key": "torn')
    second = ScriptedJudge(upper)
    assert ask_all(CachedJudge(second, tmp_path), asked) == [JudgeReply(text) for text in "ABC"]
    assert sorted(map(shown, second.asked)) == sorted({"a", "b", "c"} - {shown(asked[index])})
    assert all(json.loads(line) for line in memory.read_text().splitlines())


@pytest.mark.parametrize(
    "changed", [request("a", max_tokens=7), request("a", ("m", "M")), JudgeRequest((Message("system", "a"),), 6)]
)
def test_memory_tells_settings_apart(changed: JudgeRequest, tmp_path: Path) -> None:
    judge = ScriptedJudge(upper)
    ask_all(CachedJudge(judge, tmp_path), [request("a"), changed])
    assert len(judge.asked) == 2


def test_memory_tells_judges_apart(tmp_path: Path) -> None:
    ask_all(CachedJudge(ScriptedJudge(upper), tmp_path), [request("a")])
    other = ScriptedJudge(lambda _: "other", name="other")
    assert ask_all(CachedJudge(other, tmp_path), [request("a")]) == [JudgeReply("other")]


def test_equal_requests_are_asked_once(tmp_path: Path) -> None:
    judge = ScriptedJudge(upper)
    assert ask_all(CachedJudge(judge, tmp_path), [request("a"), request("b"), request("a")])[2] == JudgeReply("A")
    assert len(judge.asked) == 2


def test_failure_is_asked_again_and_an_unreadable_text_is_not(tmp_path: Path) -> None:
    """A text that cannot be parsed was paid for, and a greedy judge would say it again."""
    failing = ScriptedJudge(lambda asked: JudgeReply(None, failure="down") if shown(asked) == "a" else "???")
    ask_all(CachedJudge(failing, tmp_path), [request("a"), request("b")])
    judge = ScriptedJudge(upper)
    replies: Sequence[JudgeReply] = ask_all(CachedJudge(judge, tmp_path), [request("a"), request("b")])
    assert [reply.text for reply in replies] == ["A", "???"] and [shown(each) for each in judge.asked] == ["a"]


def test_labels_survive_the_memory(tmp_path: Path) -> None:
    reply = JudgeReply("m", {"m": -0.125, "M": -2.0625})
    ask_all(CachedJudge(ScriptedJudge(lambda _: reply), tmp_path), [request("a", ("m", "M"))])
    assert ask_all(CachedJudge(ScriptedJudge(upper), tmp_path), [request("a", ("m", "M"))]) == [reply]
