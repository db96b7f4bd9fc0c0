"""A real HTTP server in a thread, which misbehaves in the ways that real ones do."""

import json
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def completion(text: str | None = "fine", tokens: int = 10, **choice: Any) -> bytes:
    body = {
        "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"} | choice],
        "usage": {"prompt_tokens": tokens, "completion_tokens": 2},
    }
    return json.dumps(body).encode()


def failure(message: str = "no", code: str | None = None) -> bytes:
    return json.dumps({"error": {"message": message, "code": code}}).encode()


Answer = Callable[["Handler"], None]


def say(body: bytes, status: int = 200, **headers: str) -> Answer:
    """An ordinary answer."""
    return lambda handler: handler.say(status, body, {name.replace("_", "-"): text for name, text in headers.items()})


def slowly(seconds: float, body: bytes) -> Answer:
    def answer(handler: "Handler") -> None:
        handler.server_state.sleep(seconds)
        handler.say(200, body, {})

    return answer


def drip(handler: "Handler") -> None:
    """A byte now and then: no single read waits long, but the reply never ends."""
    handler.start(200, 10**6, {})
    while not handler.server_state.stopped.wait(0.02):
        handler.wfile.write(b" ")


def break_off(handler: "Handler") -> None:
    handler.start(200, 1000, {})
    handler.wfile.write(b'{"choices": [')
    handler.close_connection = True


def endless(handler: "Handler") -> None:
    handler.start(200, 1 << 40, {})
    while not handler.server_state.stopped.is_set():
        handler.wfile.write(b"x" * 65536)


@dataclass
class ServerState:
    """What the server does and what it saw. `answers` are used in order, the last one again and again."""

    answers: list[Answer]
    seen: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    most_at_once: int = 0
    now_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    stopped: threading.Event = field(default_factory=threading.Event)

    def sleep(self, seconds: float) -> None:
        self.stopped.wait(seconds)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    asked: dict[str, Any]
    """The body of the request that is being answered."""

    @property
    def server_state(self) -> ServerState:
        return self.server.state

    def do_POST(self) -> None:
        state = self.server_state
        self.asked = body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with state.lock:
            state.times.append(time.monotonic())
            state.seen.append(body)
            state.keys.append(self.headers.get("Authorization"))
            answer = state.answers[min(len(state.seen), len(state.answers)) - 1]
            state.now_at_once += 1
            state.most_at_once = max(state.most_at_once, state.now_at_once)
        try:
            answer(self)
        except OSError:
            self.close_connection = True  # The client has gone, as some tests want.
        finally:
            with state.lock:
                state.now_at_once -= 1

    def start(self, status: int, length: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(length)} | headers).items():
            self.send_header(name, value)
        self.end_headers()

    def say(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        # The counter goes down before the client can know that it may send the next one.
        with self.server_state.lock:
            self.server_state.now_at_once -= 1
        self.start(status, len(body), headers)
        self.wfile.write(body)
        with self.server_state.lock:
            self.server_state.now_at_once += 1

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""


class Server(ThreadingHTTPServer):
    request_queue_size = 128
    """Python's own 5 turn connections away on a busy machine when a client opens 16 at once."""


@contextmanager
def serving(*answers: Answer) -> Generator[tuple[str, ServerState]]:
    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads, server.block_on_close = True, False
    state = ServerState(list(answers))
    server.state = state
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1", state
    finally:
        state.stopped.set()
        server.shutdown()
        server.server_close()
