"""From the name of a verifier, a response and a target to a verdict."""

from collections.abc import Callable
from typing import Any

from cameleer.core.errors import UserError, did_you_mean
from cameleer.verify.constraints import verify_constraints
from cameleer.verify.numbers import verify_number
from cameleer.verify.verdict import Outcome, Verdict

VERIFIERS: dict[str, Callable[[str, Any], Verdict]] = {
    "constraints": verify_constraints,
    "number": verify_number,
}
"""Pure functions (response, target) → verdict. A malformed target raises a UserError."""


def verify(response: str, verifier: str, target: Any) -> Verdict:
    """The verdict of a named verifier.

    An unknown name or a malformed target raises a UserError: the data is at fault. Whatever else goes wrong inside a
    verifier says nothing about the response and is returned as outcome `error`, with the exception in the detail.
    No deadline is enforced here.
    """
    if verifier not in VERIFIERS:
        raise UserError(
            f"Unknown verifier '{verifier}'.{did_you_mean(verifier, VERIFIERS)}", f"Known: {', '.join(VERIFIERS)}."
        )
    try:
        return VERIFIERS[verifier](response, target)
    except UserError:
        raise
    except Exception as error:
        return Verdict(Outcome.ERROR, None, {"error": f"{type(error).__name__}: {error}"})
