"""Verification with deadlines: processes that are killed when they take too long.

A verifier may hang inside C code or crash its process, and no signal, thread or exception helps against that: `pool`
gives each slow verifier a worker process, and kills it at the deadline. It works the same from any thread of any
process, also of one that holds a GPU or many threads, since workers are started afresh and never forked.

    with VerifierPool() as pool:
        for index, verdict, seconds in pool.verify_all(items):    # or: future = pool.submit(response, "math", target)

Verifiers in `IN_PROCESS` take time linear in the response and run at once where they are submitted.
"""

import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Self

from cameleer.core.errors import UserError
from cameleer.verify.sandbox.linux import die_with_parent
from cameleer.verify.verdict import Outcome, Verdict

IN_PROCESS = frozenset({"choice", "constraints", "ifeval", "number", "text"})
"""Verifiers that need no deadline: pure Python whose time is linear in the length of the response."""

START_SECONDS = 120.0
"""How long a worker may take until it is ready: it imports verifiers, perhaps on a busy file system."""
VERIFY = "cameleer.verify.verifiers:verify"
_SOURCE = str(Path(__file__).resolve().parents[2])
_BOOTSTRAP = (
    "import sys; sys.path.insert(0, {source!r}); from cameleer.verify.pool import work; work({descriptor}, {parent})"
)

Item = tuple[str, str, Any]
"""A response, the name of a verifier, and the verifier's target."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict, and how long it took where it was made."""

    verdict: Verdict
    seconds: float


def needs_pool(verifier: str) -> bool:
    """Whether a verifier may take so long that it must run where it can be killed."""
    return verifier not in IN_PROCESS


class VerifierPool:
    """Worker processes for slow verifiers, started when first needed and gone when the pool is closed.

    An item that is not judged within `deadline_seconds` (for a program, its own limits if they are longer) gets the
    outcome `timeout`; one whose worker died, `error`; it
    is not tried again, since it most likely killed the worker. Other items are not affected by either.
    `verify` names the function of (response, verifier, target) that the workers import, as "module:function".
    """

    def __init__(self, num_workers: int | None = None, deadline_seconds: float = 60.0, verify: str = VERIFY) -> None:
        self.num_workers = num_workers or os.cpu_count() or 1
        self.deadline_seconds = deadline_seconds
        self._verify_name = verify
        self._verify = _resolve(verify)
        self._items: queue.SimpleQueue[tuple[Item, Future[Judged]] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._workers: set[_Worker] = set()
        self._lock = threading.Lock()
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(self, response: str, verifier: str, target: Any) -> "Future[Judged]":
        """Have an item judged. The future raises a UserError for an unknown verifier or a malformed target."""
        future: Future[Judged] = Future()
        if not needs_pool(verifier):
            _complete(future, lambda: _judge(self._verify, (response, verifier, target)))
            return future
        with self._lock:
            assert not self._closed, "the pool is closed"
            if len(self._threads) < self.num_workers:
                self._threads.append(threading.Thread(target=self._run_worker, daemon=True, name="verifier"))
                self._threads[-1].start()
            self._items.put(((response, verifier, target), future))
        return future

    def verify_all(self, items: Iterable[Item]) -> Iterator[tuple[int, Verdict, float]]:
        """Judge a stream of items and give (index, verdict, seconds) as they are done.

        Items are taken as they can be worked on, so that a stream may be endless. One that its verifier refuses, for a
        target that is malformed, or that no worker could be started for, has the outcome `error` like one whose worker
        died: it ends no stream.
        """
        waiting: dict[Future[Judged], int] = {}
        for index, item in enumerate(items):
            waiting[self.submit(*item)] = index
            full = len(waiting) >= 4 * self.num_workers
            yield from _finished(waiting, timeout=None if full else 0)
        while waiting:
            yield from _finished(waiting, timeout=None)

    def close(self) -> None:
        """Kill the workers and forget what was not judged; the futures of such items are cancelled."""
        with self._lock:
            self._closed = True
            for _ in self._threads:
                self._items.put(None)
            for worker in self._workers:
                worker.kill()
        for thread in self._threads:
            thread.join()
        with suppress(queue.Empty):
            while True:
                taken = self._items.get_nowait()
                if taken is not None:
                    taken[1].cancel()

    def _run_worker(self) -> None:
        """The life of one thread: it owns a worker, since the kernel kills a worker whose starting thread ends."""
        worker: _Worker | None = None
        while (taken := self._items.get()) is not None:
            item, future = taken
            if self._closed or not future.set_running_or_notify_cancel():
                future.cancel()
                continue
            try:
                worker = worker or self._start_worker()
            except Exception as error:  # Out of processes, descriptors, memory: the item's failure, not the thread's.
                future.set_result(_error(f"no worker process could be started: {error}", 0.0))
                continue
            _complete_running(future, lambda worker=worker, item=item: worker.judge(item, self._deadline(item)))
            if worker.dead:
                self._forget(worker)
                worker = None
        if worker is not None:
            self._forget(worker)

    def _deadline(self, item: Item) -> float:
        """The seconds for an item: a program has time for its own limits first, exceeding which is a wrong answer."""
        if item[1] != "code":
            return self.deadline_seconds
        from cameleer.verify.sandbox.code import seconds_needed

        return max(self.deadline_seconds, seconds_needed(item[2]))

    def _start_worker(self) -> "_Worker":
        worker = _Worker(self._verify_name)
        with self._lock:
            self._workers.add(worker)
            if self._closed:
                worker.kill()
        return worker

    def _forget(self, worker: "_Worker") -> None:
        worker.end()
        with self._lock:
            self._workers.discard(worker)


def _finished(waiting: "dict[Future[Judged], int]", timeout: float | None) -> Iterator[tuple[int, Verdict, float]]:
    done, _ = wait(waiting, timeout, FIRST_COMPLETED)
    for future in sorted(done, key=waiting.__getitem__):
        index = waiting.pop(future)
        try:
            judged = future.result()
        except UserError as refused:
            judged = Judged(Verdict(Outcome.ERROR, None, {"error": str(refused)}), 0.0)
        yield index, judged.verdict, judged.seconds


def _complete(future: "Future[Judged]", judge: Callable[[], Judged]) -> None:
    future.set_running_or_notify_cancel()
    _complete_running(future, judge)


def _complete_running(future: "Future[Judged]", judge: Callable[[], Judged]) -> None:
    try:
        future.set_result(judge())
    except Exception as error:
        future.set_exception(error)


def _judge(verify: Callable[..., Verdict], item: Item) -> Judged:
    started = time.perf_counter()
    verdict = verify(*item)
    return Judged(verdict, time.perf_counter() - started)


def _error(reason: str, seconds: float) -> Judged:
    return Judged(Verdict(Outcome.ERROR, None, {"error": reason}), seconds)


class _Worker:
    """The parent's side of one worker process."""

    def __init__(self, verify: str) -> None:
        from multiprocessing import Pipe

        self._channel, theirs = Pipe()
        bootstrap = _BOOTSTRAP.format(source=_SOURCE, descriptor=theirs.fileno(), parent=os.getpid())
        # Its standard streams: none, so that it outlives no pipe of ours; its own session, so that Ctrl-C is ours.
        self._process = subprocess.Popen(
            [sys.executable, "-c", bootstrap],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
        theirs.close()
        self.dead = False
        self._ready = False
        self._channel.send((verify, sys.path))

    def judge(self, item: Item, deadline_seconds: float) -> Judged:
        """The item's verdict, `timeout` or `error` included; afterwards `dead` tells whether the worker was lost."""
        started = time.perf_counter()
        if not self._ready:
            self._ready = self._said_ready()
            if not self._ready:
                reason = f"its worker process did not start ({self._exit_status()}); its error is above"
                return self._lost(reason, time.perf_counter() - started)
        started = time.perf_counter()
        try:
            self._channel.send(item)
            answered = self._channel.poll(deadline_seconds)
            reply = self._channel.recv() if answered else None
        except (EOFError, OSError):
            return self._lost(f"its worker process died ({self._exit_status()})", time.perf_counter() - started)
        if reply is None:
            self.kill()
            detail = {"error": f"no verdict within {deadline_seconds:g} seconds"}
            return Judged(Verdict(Outcome.TIMEOUT, None, detail), time.perf_counter() - started)
        if isinstance(reply, UserError):
            raise reply
        return reply

    def _said_ready(self) -> bool:
        try:
            return self._channel.poll(START_SECONDS) and self._channel.recv() == "ready"
        except (EOFError, OSError):
            return False

    def _lost(self, reason: str, seconds: float) -> Judged:
        self.kill()
        return _error(reason, seconds)

    def _exit_status(self) -> str:
        with suppress(subprocess.TimeoutExpired):
            code = self._process.wait(timeout=1)
            return f"signal {-code}" if code < 0 else f"status {code}"
        return "still running"

    def kill(self) -> None:
        self.dead = True
        self._process.kill()

    def end(self) -> None:
        """Kill the process, wait for its end, close the channel."""
        self.kill()
        self._process.wait()
        self._channel.close()


def work(descriptor: int, parent: int) -> None:
    """The life of a worker process: judge what comes through the channel until it closes."""
    from multiprocessing.connection import Connection

    die_with_parent()
    if os.getppid() != parent:
        return
    channel: Connection[Any, Any] = Connection(descriptor)
    verify_name, sys.path[:] = channel.recv()
    verify = _resolve(verify_name)
    channel.send("ready")
    while True:
        try:
            item = channel.recv()
        except EOFError:
            return
        channel.send(_reply(verify, item))


def _reply(verify: Callable[..., Verdict], item: Item) -> Judged | UserError:
    started = time.perf_counter()
    try:
        return _judge(verify, item)
    except UserError as error:
        return error
    except BaseException as error:
        detail = {"error": f"{type(error).__name__}: {error}"}
        return Judged(Verdict(Outcome.ERROR, None, detail), time.perf_counter() - started)


def _resolve(name: str) -> Callable[..., Verdict]:
    module, _, function = name.partition(":")
    return getattr(import_module(module), function)
