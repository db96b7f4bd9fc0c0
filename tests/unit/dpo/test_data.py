"""Answers to other prompts, from which KTO estimates its KL."""

import pytest

from cameleer.core.errors import UserError
from cameleer.dpo.data import mismatched
from cameleer.train.layout import Tree
from cameleer.train.pairs import pair_tree


def tree(prompt: int, answer: int) -> Tree:
    return pair_tree([prompt] * 3, [answer] * 4, [answer + 1] * 2)


def test_each_prompt_gets_the_answers_of_the_last_other_prompt() -> None:
    """Prompts 1 2 3 1 1: the last two get the third's answers, and so does the first, around the beginning."""
    trees = [tree(prompt, 10 * place) for place, prompt in enumerate((1, 2, 3, 1, 1))]
    found = mismatched(trees, max_tokens=100)
    assert [int(each[0].ids[0]) for each in found] == [1, 2, 3, 1, 1]
    assert [int(each[1].ids[0]) for each in found] == [20, 0, 10, 20, 20]
    assert [int(each[2].ids[0]) for each in found] == [21, 1, 11, 21, 21]


def test_answers_are_cut_to_fit() -> None:
    found = mismatched([tree(1, 10), tree(2, 20)], max_tokens=6)
    assert [[len(segment.ids) for segment in each] for each in found] == [[3, 3, 2], [3, 3, 2]]


def test_one_prompt_alone_is_refused() -> None:
    with pytest.raises(UserError, match="same prompt"):
        mismatched([tree(1, 10), tree(1, 20)], max_tokens=100)
