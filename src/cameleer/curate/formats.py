"""The common chat formats, row by row: which columns hold a conversation, and the conversation of a row.

    messages, conversations, conversation   a list of turns with `role` and `content` (OpenAI, Tülu) or `from` and
                                            `value` (ShareGPT)
    instruction + output | response | completion, question + answer | response
                                            (Alpaca, Dolly) with an optional `input` or `context`, which the user turn
                                            holds after the instruction and an empty line
    prompt + completion | response | answer, problem + solution, query + response
                                            either side may be a list of turns instead of text

Each may have a `system` or `system_prompt` column. Content is exact: nothing is stripped or normalised. A conversation
is at most one system turn, which comes first, then user and assistant turns in alternation, a user's first. An empty
system turn is kept: many templates put a default in the place of an absent one. A user turn may be last; nothing is
trained on it.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeGuard

from cameleer.core.errors import UserError, did_you_mean
from cameleer.core.types import Conversation, Message, Role

ROLE_NAMES: dict[str, Role] = {
    "system": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "ai": "assistant",
}
"""What data calls the speakers, in lower case, as it is compared."""

SYSTEM_COLUMNS = ("system", "system_prompt")
INPUT_COLUMNS = ("input", "context")

MAX_SHOWN_CHARACTERS = 40

NAME_THE_COLUMNS = (
    "If the columns have other names, say which they are:\n"
    "  fields = { messages = 'COLUMN' }   or   fields = { prompt = 'COLUMN', completion = 'COLUMN' }"
)


class RowError(Exception):
    """A row that is no conversation. `reason` says why in a few words, the same words for the same fault."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Format:
    """The columns of a source: either `messages`, or `prompt` and `completion`.

    Of `inputs` and of `systems` the first with a value counts; neither need be there.
    """

    messages: str | None = None
    prompt: str | None = None
    completion: str | None = None
    inputs: tuple[str, ...] = ()
    systems: tuple[str, ...] = ()
    id: str = "id"

    @property
    def required(self) -> tuple[str, ...]:
        """The columns without which a row is none of this format."""
        return tuple(column for column in (self.messages, self.prompt, self.completion) if column is not None)

    @property
    def name(self) -> str:
        return " + ".join(self.required)

    @property
    def columns(self) -> frozenset[str]:
        """All columns that are looked at."""
        return frozenset((*self.required, *self.inputs, *self.systems, self.id))


def _pair(prompt: str, completion: str) -> Format:
    # A prompt is complete; an instruction or a question may refer to an input beside it, which must not get lost.
    inputs = INPUT_COLUMNS if prompt in ("instruction", "question") else ()
    return Format(prompt=prompt, completion=completion, inputs=inputs, systems=SYSTEM_COLUMNS)


FORMATS: tuple[Format, ...] = (
    *(Format(messages=column, systems=SYSTEM_COLUMNS) for column in ("messages", "conversations", "conversation")),
    *(_pair("instruction", column) for column in ("output", "response", "completion")),
    *(_pair("prompt", column) for column in ("completion", "response", "answer")),
    *(_pair("question", column) for column in ("answer", "response")),
    _pair("problem", "solution"),
    _pair("query", "response"),
)
"""In order of preference where a row has the columns of several."""


def recognise(rows: Sequence[Mapping[str, Any]], where: str) -> Format:
    """The format that most of a source's first rows have. Raises UserError, beginning with `where`, if none fits."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    _refuse_preferences(rows, columns, where)
    votes = Counter(found for row in rows if (found := recognised(row)) is not None)
    if not votes:
        known = ", ".join(known.name for known in FORMATS)
        raise UserError(
            f"{where}: no known chat format. Columns: {', '.join(columns) or 'none'}.",
            f"Known formats, by their columns: {known}.\n{NAME_THE_COLUMNS}",
        )
    return votes.most_common(1)[0][0]


def confirm(format: Format, rows: Sequence[Mapping[str, Any]], where: str) -> None:
    """Raise UserError, beginning with `where`, if a column that the user named is in none of a source's first rows."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    for column in format.required:
        if column not in columns:
            raise UserError(
                f"{where}: fields names the column '{column}', which is not there.{did_you_mean(column, columns)}",
                f"Columns: {', '.join(columns) or 'none'}.",
            )


def recognised(row: Mapping[str, Any]) -> Format | None:
    """The common format that a row has, by its columns with a value."""
    return next((each for each in FORMATS if all(row.get(column) is not None for column in each.required)), None)


def _refuse_preferences(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], where: str) -> None:
    """Ratings and pairs hold answers that nobody should learn from, so what to train on must be said."""
    if "chosen" in columns and "rejected" in columns:
        text = any(isinstance(row.get("chosen"), str) for row in rows)
        fields = "prompt = 'prompt', completion = 'chosen'" if text and "prompt" in columns else "messages = 'chosen'"
        raise UserError(
            f"{where}: preference pairs (columns 'chosen' and 'rejected') are not conversations to train on.",
            f"To train on the preferred answers all the same, say so: fields = {{ {fields} }}",
        )
    if "completion" in columns and any(isinstance(row.get("label"), bool) for row in rows):
        raise UserError(
            f"{where}: completions with a 'label' of true or false are preferences, not conversations to train on.",
            "Keep the rows whose label is true, without the label, in a file of their own.",
        )


def convert(row: Mapping[str, Any], format: Format) -> Conversation:
    """The conversation of a row. Raises RowError for a row that does not fit the format or is no conversation."""
    messages = _system_turn(row, format)
    if format.messages is not None:
        messages += _turns(_value(row, format.messages), format.messages)
    else:
        messages += _prompt_turns(row, format)
    check(messages)
    return tuple(messages)


def own_id(row: Mapping[str, Any], format: Format) -> str | None:
    """The row's own id, where it has one that is a line of text or a whole number."""
    value = row.get(format.id)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) and value and value.isprintable() else None


def _value(row: Mapping[str, Any], column: str) -> Any:
    """A value that must be there: neither absent nor null."""
    value = row.get(column)
    if value is None:
        raise RowError(f"missing column '{column}'")
    return value


def _optional_text(row: Mapping[str, Any], columns: tuple[str, ...]) -> str:
    """The first value of the columns that is neither null nor empty; else the empty string."""
    for column in columns:
        value = row.get(column)
        if value is not None and value != "":
            return _text(value)
    return ""


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise RowError("content is not text")
    return value


def _system_turn(row: Mapping[str, Any], format: Format) -> list[Message]:
    text = _optional_text(row, format.systems)
    return [Message("system", text)] if text else []


def _prompt_turns(row: Mapping[str, Any], format: Format) -> list[Message]:
    assert format.prompt is not None and format.completion is not None, format
    prompt, completion = _value(row, format.prompt), _value(row, format.completion)
    extra = _optional_text(row, format.inputs)
    if extra:
        prompt = f"{_text(prompt)}\n\n{extra}"
    before = _turns(prompt, format.prompt) if _is_list(prompt) else [Message("user", _text(prompt))]
    after = _turns(completion, format.completion) if _is_list(completion) else [Message("assistant", _text(completion))]
    return before + after


def _turns(value: Any, column: str) -> list[Message]:
    if not _is_list(value):
        raise RowError(f"'{column}' is not a list of turns")
    return [_turn(turn) for turn in value]


def _turn(turn: Any) -> Message:
    """A turn with `role` and `content`, or `from` and `value`."""
    if not _is_object(turn):
        raise RowError("a turn is not an object")
    speaker, content = turn.get("role"), turn.get("content")
    if speaker is None and turn.get("from") is not None:
        speaker, content = turn["from"], turn.get("value")
    if not isinstance(speaker, str):
        raise RowError("a turn without a role")
    role = ROLE_NAMES.get(speaker.lower())
    if role is None:
        raise RowError(f"unknown role '{speaker[:MAX_SHOWN_CHARACTERS]}'")
    return Message(role, _text(content))


def check(messages: Sequence[Message]) -> None:
    """Raise RowError unless the turns have the shape that the module's text states."""
    if not any(message.role == "assistant" for message in messages):
        raise RowError("no assistant turn")
    turns = messages[1:] if messages[0].role == "system" else messages
    if any(message.role == "system" for message in turns):
        raise RowError("system turn not first")
    if turns[0].role != "user":
        raise RowError("first turn is not a user's")
    if any(first.role == second.role for first, second in pairwise(turns)):
        raise RowError("roles do not alternate")
    for message in turns:
        if not message.content or message.content.isspace():
            raise RowError(f"empty {message.role} turn")


def _is_list(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def _is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)
