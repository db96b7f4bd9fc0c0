"""Overlaps by the definition, row by row and item by item, in a few lines that share nothing with the fast way."""

import re
from collections.abc import Sequence
from fractions import Fraction

from cameleer.curate.overlap import Item

SEPARATORS = re.compile(r'[\s\0,.?!:;()"\\-]+')


def tokens(text: str) -> list[str]:
    return [token for token in SEPARATORS.split(text.lower()) if token]


def share(item: Item, prompt: Sequence[str], size: int = 8, full: bool = False) -> Fraction:
    """The mean over an item's fields of the proportion of tokens that match a row's user turns."""
    turns = [tokens(turn) for turn in prompt]
    shares: list[Fraction] = []
    for field in filter(None, map(tokens, item.fields)):
        if full:
            found = any(turn[i : i + len(field)] == field for turn in turns for i in range(len(turn)))
            shares.append(Fraction(found))
            continue
        runs = {tuple(turn[i : i + size]) for turn in turns for i in range(len(turn) - size + 1)}
        matching = {
            i + j for i in range(len(field) - size + 1) if tuple(field[i : i + size]) in runs for j in range(size)
        }
        shares.append(Fraction(len(matching), len(field)))
    return sum(shares, Fraction()) / len(shares) if shares else Fraction()


def overlaps(
    items: Sequence[Item], prompts: Sequence[Sequence[str]], threshold: float = 0.5, size: int = 8, full: bool = False
) -> dict[tuple[int, int], float]:
    """(row, item) of every overlap, with its share."""
    shares = {
        (r, i): share(item, prompt, size, full) for r, prompt in enumerate(prompts) for i, item in enumerate(items)
    }
    return {place: float(value) for place, value in shares.items() if value > Fraction(str(threshold))}
