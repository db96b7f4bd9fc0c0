"""Last letter: its answers prove themselves, and its splits share no list."""

from cameleer.tasks import Split, TaskRole, find_task
from cameleer.tasks.last_letter import LENGTHS, LETTERS

TRAIN, DEV = find_task("last-letter"), find_task("last-letter-dev")


def test_every_gold_is_accepted_and_a_wrong_answer_rejected() -> None:
    for task in (TRAIN, DEV):
        task.check(task.problems(1_000, seed=0))


def test_the_answer_is_the_last_of_distinct_letters() -> None:
    problems = TRAIN.problems(1_000, seed=0)
    for problem in problems:
        (asked,) = problem.messages
        letters = asked.content.split(" ")
        assert problem.gold == letters[-1] and set(letters) <= set(LETTERS) and len(set(letters)) == len(letters)
    assert {len(problem.messages[0].content.split()) for problem in problems} == set(LENGTHS)


def test_no_list_of_dev_is_in_train_under_any_seed() -> None:
    assert (TRAIN.role, TRAIN.split, DEV.role, DEV.split) == (TaskRole.TRAIN, Split.TRAIN, TaskRole.DEV, Split.DEV)
    dev = {problem.messages for problem in DEV.problems(1_000, seed=0)}
    # One list in ten of 16 · 15 · 14 · 13 of four letters is dev's: without the split some would be drawn for both.
    trained = {problem.messages for seed in range(4) for problem in TRAIN.problems(5_000, seed)}
    assert not dev & trained


def test_a_guess_is_right_once_in_sixteen() -> None:
    golds = [problem.gold for problem in DEV.problems(3_200, seed=1)]
    assert all(150 < golds.count(letter) < 250 for letter in LETTERS)
