"""Several processes give what one gives, and never run far ahead of whoever takes the results."""

import os
from collections.abc import Iterator

import pytest

from cameleer.core.errors import UserError
from cameleer.core.processes import NUM_AHEAD, Processes


def test_results_come_in_order_and_items_are_read_only_a_little_ahead() -> None:
    read: list[int] = []

    def items() -> Iterator[int]:
        for number in range(0, -100, -1):
            read.append(number)
            yield number

    with Processes(2) as processes:
        results = processes.map(abs, items())
        assert [next(results) for _ in range(3)] == [0, 1, 2]
        assert len(read) <= 3 + NUM_AHEAD * 2
        assert list(results) == list(range(3, 100))
    with Processes(1) as processes:
        assert list(processes.map(abs, range(-3, 0))) == [3, 2, 1]


def test_a_process_that_dies_is_a_user_error_and_no_endless_wait() -> None:
    with Processes(2) as processes, pytest.raises(UserError, match="ended before its work was done"):
        list(processes.map(os._exit, [1, 1, 1]))
