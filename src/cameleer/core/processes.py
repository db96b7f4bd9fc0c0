"""A function over many items in several processes, of this machine or of a Ray cluster, results in order.

The same function runs wherever it runs, so results are the same for any number of processes and any executor.

A cluster is reached as Ray reaches it (`RAY_ADDRESS`, else the cluster that runs on this machine, else one is started
for the occasion). Ray's actors are used and not Ray Data: items come in order and a bounded number ahead, and a worker
is given what it holds once. Cameleer must be installed on each machine of the cluster; functions get all they need.
"""

import importlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from enum import StrEnum
from multiprocessing import get_context
from typing import Any, Protocol, Self, TypeVar

from cameleer.core.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")

RAY_SECONDS = 120
"""How long a cluster has to start its workers, which begin by loading what they hold."""
NUM_AHEAD = 2
"""Items for each process that are under way or done before their turn: bounds memory, whatever the consumer does."""


class Executor(StrEnum):
    """Where several processes are: on this machine, or in a Ray cluster."""

    LOCAL = "local"
    RAY = "ray"


class _Pool(Protocol):
    def submit(self, function: Callable[[Any], Any], item: Any) -> Any: ...
    def result(self, ticket: Any) -> Any: ...
    def close(self) -> None: ...


class Processes:
    """`count` processes. Each of several runs `begin` on its arguments first; one local process is this one itself."""

    def __init__(
        self, count: int, begin: Callable[..., None] | None = None, *arguments: Any, executor: Executor = Executor.LOCAL
    ) -> None:
        self._count = count
        self._pool: _Pool | None = None
        if executor is Executor.RAY:
            self._pool = _RayActors(count, begin, arguments)
        elif count > 1:
            self._pool = _LocalProcesses(count, begin, arguments)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        if self._pool is not None:
            self._pool.close()

    @property
    def are_elsewhere(self) -> bool:
        """Whether the function runs in other processes than this, which have run `begin`."""
        return self._pool is not None

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """The function's results in the items' order; `function` is pickled with each item. Lazy."""
        if self._pool is None:
            yield from map(function, items)
            return
        waiting: deque[Any] = deque()
        for item in items:
            waiting.append(self._pool.submit(function, item))
            if len(waiting) > NUM_AHEAD * self._count:
                yield self._pool.result(waiting.popleft())
        while waiting:
            yield self._pool.result(waiting.popleft())


def _ended(reason: str = "") -> UserError:
    return UserError(
        f"A worker process ended before its work was done. {reason}".rstrip(),
        "Most often memory ran out: use fewer processes (num_processes, --num-workers).",
    )


class _LocalProcesses:
    def __init__(self, count: int, begin: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
        # Started afresh and not forked: pyarrow, polars and torch keep threads.
        self._pool = ProcessPoolExecutor(count, get_context("spawn"), begin, arguments)

    def submit(self, function: Callable[[Any], Any], item: Any) -> "Future[Any]":
        try:
            return self._pool.submit(function, item)
        except BrokenProcessPool:
            raise _ended() from None

    def result(self, ticket: "Future[Any]") -> Any:
        try:
            return ticket.result()
        except BrokenProcessPool:
            raise _ended() from None

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


class _RayActors:
    def __init__(self, count: int, begin: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
        try:
            ray: Any = importlib.import_module("ray")
        except ImportError:
            raise UserError(
                "executor = 'ray' needs Ray, which is not installed.", "pip install 'cameleer[ray]'"
            ) from None
        self._ray = ray
        if not ray.is_initialized():
            ray.init(log_to_driver=False, include_dashboard=False, logging_level="warning")
        held = [ray.put(argument) for argument in arguments]
        # Two pools may be at work in turn, which together take a CPU for each of their pairs of workers.
        actor: Any = ray.remote(num_cpus=0.5, scheduling_strategy="SPREAD")(_Actor)
        self._actors = [actor.remote(begin, *held) for _ in range(count)]
        self._next = 0
        try:
            self._wait_for([each.begun.remote() for each in self._actors], RAY_SECONDS)
        except BaseException as failure:
            self.close()
            if not isinstance(failure, ray.exceptions.GetTimeoutError):
                raise
            raise UserError(
                f"The Ray cluster has not started {count} workers within {RAY_SECONDS} s: its CPUs are taken.",
                "Use fewer processes (num_processes, --num-workers), or wait until the cluster is free.",
            ) from None

    def submit(self, function: Callable[[Any], Any], item: Any) -> Any:
        actor = self._actors[self._next]
        self._next = (self._next + 1) % len(self._actors)
        return actor.run.remote(function, item)

    def result(self, ticket: Any) -> Any:
        return self._wait_for(ticket, None)

    def _wait_for(self, ticket: Any, seconds: float | None) -> Any:
        errors = self._ray.exceptions
        try:
            return self._ray.get(ticket, timeout=seconds)
        except errors.GetTimeoutError:
            raise
        except errors.RayTaskError as failure:
            raise failure.cause from None
        except errors.RayError as failure:
            raise _ended(" ".join(str(failure).split())) from None

    def close(self) -> None:
        for actor in self._actors:
            self._ray.kill(actor)


class _Actor:
    def __init__(self, begin: Callable[..., None] | None, *arguments: Any) -> None:
        if begin is not None:
            begin(*arguments)

    def begun(self) -> None:
        """Answers once the worker is there and has begun."""

    def run(self, function: Callable[[Any], Any], item: Any) -> Any:
        return function(item)
