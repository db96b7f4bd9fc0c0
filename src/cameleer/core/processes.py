"""A function over many items in several local processes, results in order: the same as without any."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, Self, TypeVar

from cameleer.core.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")

NUM_AHEAD = 2
"""Items for each process that are under way or done before their turn: bounds memory, whatever the consumer does."""


class Processes:
    """`count` processes, or this one alone where that is 1. Each of several runs `begin` on its arguments first."""

    def __init__(self, count: int, begin: Callable[..., None] | None = None, *arguments: Any) -> None:
        self._count = count
        self._pool: ProcessPoolExecutor | None = None
        if count > 1:
            # Started afresh and not forked: pyarrow, polars and torch keep threads.
            self._pool = ProcessPoolExecutor(count, get_context("spawn"), begin, arguments)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """The function's results in the items' order; `function` is pickled with each item. Lazy."""
        if self._pool is None:
            yield from map(function, items)
            return
        waiting: deque[Future[Result]] = deque()
        try:
            for item in items:
                waiting.append(self._pool.submit(function, item))
                if len(waiting) > NUM_AHEAD * self._count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool:
            raise UserError(
                "A worker process ended before its work was done.",
                "Most often memory ran out: use fewer processes (num_processes, --workers).",
            ) from None
        finally:
            for each in waiting:
                each.cancel()
