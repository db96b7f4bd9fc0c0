"""Prompts with answers to other prompts, from which KTO estimates its KL. Pairs come from `cameleer.train.pairs`."""

from collections.abc import Sequence

from cameleer.core.errors import UserError
from cameleer.train.layout import Tree
from cameleer.train.pairs import pair_tree

PROMPT, CHOSEN, REJECTED = 0, 1, 2
"""The segments of a pair's tree."""


def mismatched(trees: Sequence[Tree], max_tokens: int) -> list[Tree]:
    """Each prompt with the answers of the last pair before it that has another prompt, cut to fit.

    Raises UserError where all pairs have one prompt.
    """
    partners = _last_with_another_prompt([tree[PROMPT].ids.tobytes() for tree in trees])
    found: list[Tree] = []
    for tree, partner in zip(trees, partners, strict=True):
        prompt = tree[PROMPT].ids.tolist()
        answers = [trees[partner][answer].ids[: max_tokens - len(prompt)].tolist() for answer in (CHOSEN, REJECTED)]
        found.append(pair_tree(prompt, *answers))
    return found


def _last_with_another_prompt(prompts: Sequence[bytes]) -> list[int]:
    """For each row the nearest one before it, around the beginning, whose prompt differs."""
    if len(set(prompts)) < 2:
        raise UserError(
            "objective = 'kto' estimates the KL divergence from prompts with answers to other prompts, and all pairs "
            "have the same prompt."
        )
    count = len(prompts)
    partners = [0] * (2 * count)
    # Two rounds, so that each row knows of those before the beginning.
    for place in range(1, 2 * count):
        row, before = place % count, (place - 1) % count
        partners[place] = before if prompts[before] != prompts[row] else partners[place - 1]
    return partners[count:]
