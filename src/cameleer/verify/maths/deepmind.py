"""Whether a response ends in the answer to a problem of DeepMind's Mathematics dataset.

The rule is Tülu 3's: the response announces "the final answer is [answer]. I hope it is correct"; delimiters and the
full stop go; the answer is correct if it is the same string as the target or equal to it as an expression. Answers are
written in plain text: `**` for powers, `*`, `a/b`, lists with commas in the order asked for, True and False, single
letters, numerals in some base, times of day.

Departures: expressions are compared by the reader and evaluator of `maths.equal`, not by SymPy, so work is bounded.
LaTeX is understood, since models trained on MATH write it; that habit breaks the original's extraction. Without the
phrase, the last box or a shorter phrase ("the answer is …", "Answer: …") is taken. A word, or a numeral with letters
(`47bc`), equals only the same letters in the same order. As in the original, an expression equals any other with the
same value, factored or not.
"""

import re

from cameleer.core.errors import UserError
from cameleer.verify.maths.answer import MAX_SHOWN_CHARACTERS, how_equal
from cameleer.verify.maths.equal import Notation
from cameleer.verify.maths.extract import candidates, phrase_answer, without_delimiters
from cameleer.verify.verdict import Outcome, Verdict, graded

PLAIN_NOTATION = Notation(constants=frozenset(), ordered_lists=True)
"""Every letter is a variable, `e` and `i` too."""

_SHORT_PHRASE = re.compile(r"\banswer\s*(?:is\b|:)\s*:?", re.IGNORECASE)
_LETTERS = re.compile(r"-?[0-9a-z]*[a-z][0-9a-z]+|-?[0-9a-z]*[0-9][a-z]|True|False|[0-9]{1,2}:[0-9]{2} [AP]M")
_WRAPPERS = (("[", "]"), ("\\(", "\\)"), ("\\[", "\\]"), ("\\boxed{", "}"), ("\\text{", "}"), ('"', '"'), ("'", "'"))


def verify_deepmind_math(response: str, target: object) -> Verdict:
    """`correct` if the announced answer equals `target`, `unparseable` if the response announces none, else `wrong`.

    The detail quotes the answer and what made it equal: `text`, `tokens` or `value`. A target that is no string or is
    blank is a UserError.
    """
    if not isinstance(target, str) or not target.strip():
        raise UserError(
            f"The target of the verifier 'deepmind_math' must be an answer in plain text, but is {target!r}.",
            "Give it as the dataset does, such as '-7*w**2 + 4*w', '1/3', '3, 5, 23' or 'True'.",
        )
    answer = _answer(response)
    if not answer:
        return Verdict(Outcome.UNPARSEABLE, 0.0, {"reason": "no answer in the response"})
    equal_by = _how_equal(answer, target.strip())
    shown = answer[:MAX_SHOWN_CHARACTERS]
    return graded(True, answer=shown, equal_by=equal_by) if equal_by else graded(False, answer=shown)


def _answer(response: str) -> str:
    """The announced answer without delimiters; empty if there is none."""
    stated = phrase_answer(response)
    if stated is None:
        found = candidates(response)
        starts = [match.end() for match in _SHORT_PHRASE.finditer(response)]
        if found and found[0].rule == "box":
            stated = found[0].text
        elif starts:
            stated = response[starts[-1] :].lstrip().split("\n", 1)[0]
    return _unwrapped(stated or "")


def _unwrapped(text: str) -> str:
    """An answer without brackets, quotes and emphasis around the whole of it."""
    text = without_delimiters(text)
    for opening, closing in _WRAPPERS:
        inner = text[len(opening) : -len(closing)]
        if text.startswith(opening) and text.endswith(closing) and opening not in inner and closing not in inner:
            return _unwrapped(inner)
    return text


def _how_equal(answer: str, target: str) -> str | None:
    if not _LETTERS.fullmatch(target):
        return how_equal(answer, target, PLAIN_NOTATION)
    return "text" if _folded(answer) == _folded(target) else None


def _folded(text: str) -> str:
    """A word for comparison: without case, full stops and spaces."""
    return "".join(text.casefold().replace(".", "").split())
