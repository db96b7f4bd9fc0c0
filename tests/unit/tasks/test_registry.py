"""Tasks by name, and the seal on those that training must not see."""

import ast
from pathlib import Path
from typing import Any

import pytest

import cameleer
from cameleer.core.errors import UserError
from cameleer.tasks import TASKS, SealedReader, TaskRole, find_task
from cameleer.tasks.registry import SEALED_TASKS

SOURCE = Path(cameleer.__file__).parent
MAY_NAME = {
    "SEALED_TASKS": ("tasks/",),
    "EVALS": ("tasks/", "evals/"),
    "DECONTAMINATE": ("tasks/", "curate/"),
}


def names_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text("utf-8"))
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    return attributes | imported | {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def test_tasks_are_found_by_name() -> None:
    assert all(find_task(name) is task and task.name == name for name, task in TASKS.items())
    assert {"word-arithmetic", "word-arithmetic-dev", "precise-if", "precise-if-dev"} <= set(TASKS)


def test_an_unknown_task_is_an_error_with_the_nearest_name() -> None:
    with pytest.raises(UserError, match=r"Unknown task 'word-arithmetics'\. Did you mean 'word-arithmetic'\?"):
        find_task("word-arithmetics")


def test_open_tasks_hold_no_unseen_one() -> None:
    assert all(task.role is not TaskRole.UNSEEN for task in TASKS.values())
    assert {"word-arithmetic-unseen", "precise-if-unseen"} <= set(SEALED_TASKS)
    assert all(task.role is TaskRole.UNSEEN for task in SEALED_TASKS.values())


@pytest.mark.parametrize("name", SEALED_TASKS)
def test_a_sealed_task_is_refused_without_a_purpose(name: str) -> None:
    with pytest.raises(UserError, match="is sealed"):
        find_task(name)
    nobody: Any = "sft"
    with pytest.raises(UserError, match="is sealed"):
        find_task(name, nobody)


@pytest.mark.parametrize("reader", SealedReader)
@pytest.mark.parametrize("name", SEALED_TASKS)
def test_a_sealed_task_is_given_to_its_readers(name: str, reader: SealedReader) -> None:
    assert find_task(name, reader) is SEALED_TASKS[name]


@pytest.mark.parametrize("name", MAY_NAME)
def test_only_evaluation_and_decontamination_name_the_keys(name: str) -> None:
    paths = {path.relative_to(SOURCE).as_posix(): path for path in SOURCE.rglob("*.py")}
    assert len(paths) > 20
    naming = [relative for relative, path in paths.items() if name in names_in(path)]
    assert [relative for relative in naming if not relative.startswith(MAY_NAME[name])] == []
