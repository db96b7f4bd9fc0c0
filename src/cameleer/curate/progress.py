"""Progress that shows itself only when there is time to look at it."""

import time
from contextlib import ExitStack
from typing import Self

from cameleer.core.log import Ticker, ticker

PATIENCE_SECONDS = 2.0


class Progress:
    """A progress line over `total` units that appears once the work has taken two seconds."""

    def __init__(self, label: str, total: int) -> None:
        self._label, self._total = label, total
        self._started = time.monotonic()
        self._shown: Ticker | None = None
        self._stack = ExitStack()
        self._done = 0
        self._note = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, failure: object, *_: object) -> None:
        if failure is None and self._shown is not None:
            self.reach(self._total, self._note)
        self._stack.close()

    def reach(self, done: int, note: str) -> None:
        """Say that `done` units of the total lie behind."""
        if self._shown is not None:
            self._shown.advance(done - self._done, note)
        elif time.monotonic() - self._started > PATIENCE_SECONDS:
            self._shown = self._stack.enter_context(ticker(self._label, self._total, done))
        self._done, self._note = done, note
