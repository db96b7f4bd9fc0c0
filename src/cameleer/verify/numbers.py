"""Whether the last number of a response is the number that was asked for.

The rule is Tülu 3's for GSM8K (open-instruct, `GSM8KVerifier`): commas between digits are deleted, the last decimal or
integer of the text is the answer, and it is compared with the label. Where this departs from it:

* Numbers are compared as exact decimals, not as strings: 18, 18.0, +18 and 018 are the same answer. Nothing is
  rounded: 0.333 is not 0.3333.
* An integer keeps its sign, where the original keeps that of decimals only. A sign that follows a letter, a digit,
  a closing bracket or another sign is an operator, a range or a hyphen: the last number of `12-5` is 5.
* A currency symbol may stand between the sign and the digits: `-$5` is -5.
* A point before digits opens a decimal only where no letter or digit precedes it: `done.18` ends in 18.
* Every comma between two digits goes: `1,2,3` is read as 123, where the original leaves 12,3.
* A response without a number is unparseable, not wrong.
"""

import re
from collections import deque
from collections.abc import Iterator
from decimal import Decimal

from cameleer.core.errors import UserError
from cameleer.verify.verdict import Outcome, Verdict, graded

MAX_SHOWN_CHARACTERS = 80
"""A verdict's detail quotes no more of an extracted answer than this."""

_SEPARATOR = re.compile(r"(?<=[0-9]),(?=[0-9])")
_NUMBER = re.compile(r"(?:(?<![\w)\]}%+−-])([-+−])[$€£]?)?([0-9]+(?:\.[0-9]+)?|(?<![\w.])\.[0-9]+)")


def verify_number(response: str, target: str | int | float) -> Verdict:
    """`correct` if the last number of `response` equals `target`, `unparseable` if it holds no number.

    A target is a finite number, or a string that holds exactly one number as a response would write it (`1,200`);
    anything else is a UserError. The time is linear in the length of the response.
    """
    expected = _target_value(target)
    last = deque(_numbers(response), maxlen=1)
    if not last:
        return Verdict(Outcome.UNPARSEABLE, 0.0, {"reason": "no number in the response"})
    return graded(Decimal(last[0]) == expected, answer=last[0][:MAX_SHOWN_CHARACTERS])


def _numbers(text: str) -> Iterator[str]:
    """The numbers of a text in order, each as sign and digits that Decimal reads."""
    for match in _NUMBER.finditer(_SEPARATOR.sub("", text)):
        sign = "-" if match[1] in ("-", "−") else ""
        yield sign + match[2]


def _target_value(target: str | int | float) -> Decimal:
    if isinstance(target, str):
        written = _SEPARATOR.sub("", target.strip())
        if _NUMBER.fullmatch(written):
            return Decimal(next(_numbers(written)))
    elif isinstance(target, float) or type(target) is int:
        value = Decimal(target if isinstance(target, int) else str(target))
        if value.is_finite():
            return value
    raise UserError(
        f"The target of the verifier 'number' must be one finite number, but is {target!r}.",
        "Give the final answer alone, such as 18, -2.5 or '1,200'.",
    )
