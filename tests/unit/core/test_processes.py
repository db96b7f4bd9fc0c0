"""Several processes give what one gives, and never run far ahead of whoever takes the results."""

import os
from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from cameleer.core.errors import UserError
from cameleer.core.processes import NUM_AHEAD, Executor, Processes


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


EXECUTORS = [
    pytest.param(Executor.LOCAL),
    pytest.param(Executor.RAY, marks=pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")),
]


@pytest.mark.parametrize("executor", EXECUTORS)
def test_workers_begin_first_and_results_and_failures_are_the_functions(executor: Executor) -> None:
    """Each call of `os.umask` returns what the one before it has set, the first what the beginning set."""
    own = os.umask(0o22)
    with Processes(2, os.umask, 0o17, executor=executor) as processes:
        assert processes.are_elsewhere
        assert list(processes.map(os.umask, [0o17] * 9)) == [0o17] * 9
        assert list(processes.map(abs, range(-50, 0))) == list(range(50, 0, -1))
        with pytest.raises(ValueError, match="invalid literal"):
            list(processes.map(int, ["1", "x"]))
    assert os.umask(own) == 0o22


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_process_that_dies_is_a_user_error_and_no_endless_wait(executor: Executor) -> None:
    with Processes(2, executor=executor) as processes, pytest.raises(UserError, match="ended before its work was done"):
        list(processes.map(os._exit, [1, 1, 1]))


@pytest.mark.skipif(find_spec("ray") is not None, reason="Ray is installed")
def test_without_ray_its_executor_says_how_to_get_it() -> None:
    with pytest.raises(UserError, match="needs Ray, which is not installed"):
        Processes(2, executor=Executor.RAY)
