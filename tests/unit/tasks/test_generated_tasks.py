"""What holds for every generator of problems: proof, determinism, disjoint splits, form."""

import json
import os
import subprocess
import sys
from collections import Counter
from functools import cache

import pytest

from cameleer.core.types import Problem
from cameleer.tasks import SealedReader, Split, Task, TaskRole, find_task

NAMES = ("word-arithmetic", "precise-if")
ALL = tuple(name + suffix for name in NAMES for suffix in ("", "-dev", "-unseen"))
COUNT = 2_000


def task_of(name: str) -> Task:
    return find_task(name, SealedReader.EVALS)


@cache
def problems_of(name: str) -> list[Problem]:
    return task_of(name).problems(COUNT, seed=0)


@pytest.mark.parametrize("name", ALL)
def test_every_gold_is_accepted_and_a_wrong_answer_rejected(name: str) -> None:
    assert len(problems_of(name)) == COUNT
    task_of(name).check(problems_of(name))


@pytest.mark.parametrize("name", ALL)
def test_prompts_and_ids_are_distinct(name: str) -> None:
    problems = problems_of(name)
    assert len({problem.messages for problem in problems}) == COUNT
    assert len({problem.id for problem in problems}) == COUNT
    assert {problem.task for problem in problems} == {name}


@pytest.mark.parametrize("name", ALL)
def test_a_seed_gives_the_same_problems_and_fewer_are_the_first_of_more(name: str) -> None:
    assert task_of(name).problems(50, seed=0) == problems_of(name)[:50]


@pytest.mark.parametrize("name", ALL)
def test_another_seed_gives_other_problems(name: str) -> None:
    first = {problem.messages for problem in problems_of(name)[:200]}
    second = {problem.messages for problem in task_of(name).problems(200, seed=1)}
    assert len(first & second) < 10


DIGESTS = f"""
from hashlib import blake2b
from cameleer.tasks import SealedReader, find_task
for name in {ALL!r}:
    problems = find_task(name, SealedReader.EVALS).problems(100, seed=0)
    print(name, blake2b(repr(problems).encode()).hexdigest())
"""


def digests(hash_seed: str) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    command = [sys.executable, "-c", DIGESTS]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60).stdout


def test_problems_do_not_depend_on_the_hash_seed() -> None:
    assert digests("1") == digests("2") != ""


@pytest.mark.parametrize("name", NAMES)
def test_roles_and_splits(name: str) -> None:
    tasks = [task_of(name + suffix) for suffix in ("", "-dev", "-unseen")]
    assert [task.role for task in tasks] == [TaskRole.TRAIN, TaskRole.DEV, TaskRole.UNSEEN]
    assert [task.split for task in tasks] == [Split.TRAIN, Split.DEV, Split.UNSEEN]


@pytest.mark.parametrize("name", NAMES)
def test_splits_share_no_prompt_and_unseen_shares_no_family(name: str) -> None:
    train, dev, unseen = (problems_of(name + suffix) for suffix in ("", "-dev", "-unseen"))
    prompts = [{problem.messages for problem in part} for part in (train, dev, unseen)]
    assert len(set.union(*prompts)) == 3 * COUNT
    families = [{family for problem in part for family in problem.family.split(" + ")} for part in (train, dev, unseen)]
    assert families[0] == families[1]
    assert not families[0] & families[2]


@pytest.mark.parametrize("name", ALL)
def test_a_conversation_ends_with_the_user_and_alternates(name: str) -> None:
    for problem in problems_of(name):
        roles = [message.role for message in problem.messages]
        spoken = roles[1:] if roles[0] == "system" else roles
        assert spoken == ["user", "assistant"] * (len(spoken) // 2) + ["user"]
        assert all(message.content == message.content.strip() != "" for message in problem.messages)
        assert problem.gold == problem.gold.strip()


@pytest.mark.parametrize("name", NAMES)
def test_about_15_percent_are_longer_and_each_form_occurs(name: str) -> None:
    forms = Counter(problem.metadata["form"] for problem in problems_of(name))
    longer = COUNT - forms["single"]
    assert 0.12 < longer / COUNT < 0.18
    assert len(forms) >= 4
    assert min(forms.values()) > 0.02 * COUNT
    lengths = {form: set[int]() for form in forms}
    for problem in problems_of(name):
        lengths[problem.metadata["form"]].add(len(problem.messages))
    assert lengths["single"] == {1} and lengths["system"] == {2} and lengths["second question"] == {3}


@pytest.mark.parametrize("name", ALL)
def test_targets_and_metadata_survive_json(name: str) -> None:
    for problem in problems_of(name)[:200]:
        assert json.loads(json.dumps([problem.target, problem.metadata])) == [problem.target, problem.metadata]
