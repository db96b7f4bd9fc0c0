"""A stand-in for vLLM's server: its route and fields, answered by the local generator on a model in this process."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from http_server import Answer, Handler, ServerState, serving

from cameleer.model.generate import Completion, LocalGenerator, Sampling, generate

Chunks = list[dict[str, Any]]
_model = threading.Lock()


def sampling(
    local: LocalGenerator, spoil: Callable[[Chunks], Chunks] | None = None, seconds_per_chunk: float = 0.0
) -> Answer:
    """Samples what is asked for and streams it; `spoil` changes the chunks before they are sent."""

    def answer(handler: Handler) -> None:
        chunks = _chunks(_sample(local, handler), handler.asked["stream_interval"])
        send(handler, spoil(chunks) if spoil else chunks, seconds_per_chunk)

    return answer


def send(handler: Handler, chunks: Chunks, seconds_per_chunk: float = 0.0, is_whole: bool = True) -> None:
    """Server-sent events in HTTP's chunked encoding, which shows where a reply ends early."""
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    for line in [*(json.dumps(chunk).encode() for chunk in chunks), *([b"[DONE]"] if is_whole else [])]:
        event = b"data: " + line + b"\n\n"
        handler.wfile.write(f"{len(event):x}\r\n".encode() + event + b"\r\n")
        handler.server_state.sleep(seconds_per_chunk)
    if is_whole:
        handler.wfile.write(b"0\r\n\r\n")
    else:
        handler.close_connection = True


def cut_off(local: LocalGenerator) -> Answer:
    """Breaks off after the first token."""

    def answer(handler: Handler) -> None:
        send(handler, _chunks(_sample(local, handler), 1)[:1], is_whole=False)

    return answer


@contextmanager
def serving_ids(*answers: Answer) -> Iterator[tuple[str, ServerState]]:
    """`serving`, which ends when no reply is being sampled any more: torch must not run while Python shuts down."""
    with serving(*answers) as served:
        yield served
    with _model:
        pass


def _sample(local: LocalGenerator, handler: Handler) -> Completion:
    asked = handler.asked
    assert asked["return_token_ids"] and asked["logprobs"] == 0 and asked["ignore_eos"] and asked["stream"]
    settings = Sampling(
        asked["max_tokens"],
        asked["temperature"],
        asked.get("top_p", 1.0),
        tuple(asked.get("stop", ())),
        asked.get("seed", 0),
        asked.get("top_k", 0),
        asked.get("min_p", 0.0),
        asked.get("repetition_penalty", 1.0),
        asked.get("min_tokens", 0),
    )
    with _model:
        if handler.server_state.stopped.is_set():
            raise ConnectionAbortedError("the test is over")
        [completion] = generate(replace(local, stop_ids=asked["stop_token_ids"]), [asked["prompt"]], settings)
    return completion


def _chunks(completion: Completion, interval: int) -> Chunks:
    """The first token, then so many at a time, as vLLM does."""
    count = len(completion.ids)
    starts = [0, *range(1, count, interval)]
    return [
        {
            "choices": [
                {
                    "index": 0,
                    "token_ids": completion.ids[start:end],
                    "logprobs": {"token_logprobs": completion.logprobs[start:end]},
                    "finish_reason": completion.finish_reason if end == count else None,
                }
            ]
        }
        for start, end in zip(starts, [*starts[1:], count], strict=True)
    ]
