"""The result of verifying one response."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Outcome(StrEnum):
    """What verification found. `timeout` and `error` say nothing about the response: they carry no reward."""

    CORRECT = "correct"
    WRONG = "wrong"
    UNPARSEABLE = "unparseable"
    TIMEOUT = "timeout"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`score` lies in [0, 1] and is None exactly when the outcome is `timeout` or `error`."""

    outcome: Outcome
    score: float | None
    detail: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        judged = self.outcome not in (Outcome.TIMEOUT, Outcome.ERROR)
        assert judged == (self.score is not None), (self.outcome, self.score)


def graded(passed: bool, **detail: Any) -> Verdict:
    """A verdict of `correct` (score 1) or `wrong` (score 0)."""
    return Verdict(Outcome.CORRECT if passed else Outcome.WRONG, float(passed), detail)
