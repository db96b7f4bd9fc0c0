"""Errors that a user can act upon."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in what Cameleer was given: shown without a traceback; says what, where, and what to do.

    Anything that is Cameleer's own fault is an assertion or another exception and keeps its traceback.
    """

    def __init__(self, what: str, hint: str | None = None) -> None:
        super().__init__(what if hint is None else f"{what}\n{hint}")
        self.what = what
        self.hint = hint

    def __reduce__(self) -> tuple[type["UserError"], tuple[str, str | None]]:
        """Pickled by its parts: it crosses from the processes of ranks to the one that shows it."""
        return type(self), (self.what, self.hint)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` Did you mean 'x'?` with the known word nearest to `word`, or an empty string when none is near."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" Did you mean '{near[0]}'?" if near else ""
