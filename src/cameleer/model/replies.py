"""What an OpenAI-compatible server's replies say where they are no answers."""

import json
import math
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import StrEnum

import httpx

MAX_SHOWN_CHARACTERS = 300


class FailureKind(StrEnum):
    """Why a request has no reply."""

    DOWN = "down"
    TIMEOUT = "timeout"
    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    BAD_REPLY = "bad_reply"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class EndpointFailure:
    """A request without a reply after `num_attempts` attempts."""

    kind: FailureKind
    message: str
    num_attempts: int
    retry_after: float = 0.0
    """The seconds that the server asked to wait, in its last reply."""


def kind_of(status: int) -> FailureKind:
    """The failure that a status other than 200 means."""
    if status == 429:
        return FailureKind.RATE_LIMITED
    if status == 408 or status == 504:
        return FailureKind.TIMEOUT
    if status >= 500 or status in (409, 425):
        return FailureKind.SERVER_ERROR
    return FailureKind.REFUSED if status >= 400 else FailureKind.BAD_REPLY


def retry_after_of(headers: httpx.Headers) -> float:
    """The seconds that a Retry-After header asks for (RFC 9110 §10.2.3: seconds or a date); 0 without a valid one."""
    value = headers.get("retry-after", "").strip()
    try:
        return max(0.0, float(value)) if value and math.isfinite(float(value)) else 0.0
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return 0.0


def error_message(body: bytes) -> str:
    """The message of an error body `{"error": {"message", "code"}}`, else the body's beginning."""
    try:
        error = json.loads(body)["error"]
        text = (
            error
            if isinstance(error, str)
            else " ".join(str(error[key]) for key in ("code", "message") if error.get(key))
        )
        return text[:MAX_SHOWN_CHARACTERS]
    except (ValueError, LookupError, TypeError, AttributeError):
        return shown(body)


def shown(body: bytes) -> str:
    return repr(body[:MAX_SHOWN_CHARACTERS].decode("utf-8", "replace"))
