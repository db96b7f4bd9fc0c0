r"""Whether the final answer of a response is the mathematical answer that was asked for.

The rule is Tülu 3's for MATH ("flex"): candidates are the content of the last box and what the phrase "The final answer
is … I hope it is correct" announces; only if there is neither, the text between the last two dollars; only if there is
none, a short response as a whole. One candidate that equals the target makes the response correct. `extract` and
`equal` say what an answer is and when two are equal.

Where this departs from the original, which compares strings after the normalisations of Minerva and Hendrycks and asks
SymPy for the difference of two parsed expressions: answers of all kinds are read as trees and compared by their own
rules, with bounded work. There is no clock, no signal, no thread, so the verdict depends on nothing but the two texts.
Neither a number's digits nor an expression's operators are ever normalised away.
"""

import re
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from cameleer.core.errors import UserError
from cameleer.verify.maths.equal import Notation, equal, letters_of
from cameleer.verify.maths.extract import candidates, without_delimiters
from cameleer.verify.maths.parse import parse
from cameleer.verify.maths.tokens import Token, UnreadableError, has_grouped_number, tokenize
from cameleer.verify.maths.tree import Node, is_expression_of_names
from cameleer.verify.verdict import Outcome, Verdict, graded

MAX_SHOWN_CHARACTERS = 80
"""A verdict's detail quotes no more of an extracted answer than this."""
MAX_ANSWER_CHARACTERS = 1_000
"""A longer answer equals only the identical text."""

MATH_NOTATION = Notation()
_SIMPLE = re.compile(r"(-?)(?:([0-9]+(?:\.[0-9]+)?)|\\[dt]?frac\{([0-9]+)\}\{([0-9]*[1-9][0-9]*)\})")


class Reading(NamedTuple):
    """One way to read an answer: its tokens, and their tree."""

    tokens: tuple[tuple[str, str], ...]
    tree: Node


def verify_math(response: str, target: object) -> Verdict:
    """`correct` if a candidate equals `target`, `unparseable` if the response has no candidate, else `wrong`.

    The detail quotes the candidates by the rule that found them and names what made one equal: the same `text`, the
    same `tokens` or the same `value`. A target that is no string or holds nothing is a UserError.
    """
    expected = _target(target)
    found = candidates(response)
    if not found:
        return Verdict(Outcome.UNPARSEABLE, 0.0, {"reason": "no answer in the response"})
    shown = {candidate.rule: candidate.text[:MAX_SHOWN_CHARACTERS] for candidate in found}
    for candidate in found:
        equal_by = how_equal(candidate.text, expected, MATH_NOTATION)
        if equal_by:
            return graded(True, answers=shown, equal_by=equal_by)
    return graded(False, answers=shown)


def how_equal(answer: str, target: str, notation: Notation) -> str | None:
    """What makes two written answers equal: `text`, `tokens` or `value`; None if nothing does."""
    if answer == target:
        return "text"
    if len(answer) > MAX_ANSWER_CHARACTERS or len(target) > MAX_ANSWER_CHARACTERS:
        return None
    simple = _simple_value(answer), _simple_value(target)
    if simple[0] is not None and simple[1] is not None:
        return "value" if simple[0] == simple[1] else None
    given, wanted = readings(answer), readings(target)
    if any(one.tokens == other.tokens or _same_words(one, other) for one in given for other in wanted):
        return "tokens"
    same = any(equal(one, other.tree, notation) for other in wanted for one in _stated(given, other.tree))
    return "value" if same else None


def _same_words(one: Reading, other: Reading) -> bool:
    """Whether two answers, of which one is a text, are written with the same letters."""
    if "text" not in (one.tree.kind, other.tree.kind):
        return False
    first, second = (" ".join(text for _, text in reading.tokens) for reading in (one, other))
    return letters_of(first) == letters_of(second)


def _stated(given: tuple[Reading, ...], wanted: Node) -> Iterator[Node]:
    """The trees of an answer, and of `a + b = 5` also the 5 where no equation was asked for."""
    for reading in given:
        tree = reading.tree
        yield tree
        is_equation = tree.kind == "relation" and tree.value == "="
        left = tree.args[0] if is_equation else tree
        # 1 is an expression of names by the rule, for m/1; alone it is a number, and `1 = 5` states nothing.
        if is_equation and wanted.kind != "relation" and left.kind != "number" and is_expression_of_names(left):
            yield tree.args[1]


@lru_cache(maxsize=4096)
def readings(answer: str) -> tuple[Reading, ...]:
    """The ways to read an answer: two where commas may group thousands, else one; none if it holds nothing."""
    groupings = (False, True) if has_grouped_number(answer) else (False,)
    return tuple(_reading(tokens) for group in groupings if (tokens := tokenize(answer, group_commas=group)))


def _reading(tokens: list[Token]) -> Reading:
    written = tuple(token[:2] for token in tokens)
    try:
        return Reading(written, parse(tokens))
    except UnreadableError:
        return Reading(written, Node("text", (), " ".join(token.text for token in tokens)))


def _simple_value(answer: str) -> Fraction | None:
    """The value of a plain number or fraction, which needs no reader."""
    match = _SIMPLE.fullmatch(answer)
    if not match:
        return None
    value = Fraction(match[2]) if match[2] else Fraction(int(match[3]), int(match[4]))
    return -value if match[1] else value


def _target(target: object) -> str:
    if isinstance(target, str):
        written = without_delimiters(target)
        if len(written) > MAX_ANSWER_CHARACTERS or (written and readings(written)):
            return written
    raise UserError(
        f"The target of the verifier 'math' must be a mathematical answer, but is {target!r}.",
        r"Give the final answer alone, such as '\frac{3}{4}', '(1, 2)' or 'x^2 + 1'.",
    )
