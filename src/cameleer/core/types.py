"""The nouns that stages exchange: messages, conversations, problems."""

from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["system", "user", "assistant"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant")

ChatTemplate = Literal["model", "tulu"]
"""Whose chat template renders conversations: the model's own, or Tülu's."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. The content is exact: rendering never strips or normalises it."""

    role: Role
    content: str


Conversation = tuple[Message, ...]


def turns(messages: Conversation) -> list[dict[str, str]]:
    """A conversation as plain data, as JSON and chat templates have it."""
    return [{"role": message.role, "content": message.content} for message in messages]


@dataclass(frozen=True, slots=True)
class Example:
    """One training conversation with its provenance: `id` is unique within `source`."""

    id: str
    source: str
    messages: Conversation


@dataclass(frozen=True, slots=True)
class Problem:
    """A prompt whose answer can be verified.

    `messages` ends with a user turn. `verifier` names a function of `cameleer.verify`; `target` is the
    JSON-serialisable thing that it compares a response with. `gold` is a response that the verifier accepts, `family`
    the kind of problem. `prefix` is what the assistant's turn is begun with for the model: the response goes on from
    there and does not hold it. `choices`, where there are some, are continuations whose likelihood is asked for in
    place of a generated answer; `gold` is then one of them. Items with the same `cluster` share material, such as a
    passage, and are not independent. `own_texts` are the texts that are the item's own (question, passage), where the
    user turns also hold instructions, worked examples or choices: decontamination compares them in place of the turns.
    """

    id: str
    task: str
    family: str
    messages: Conversation
    verifier: str
    target: Any
    gold: str
    metadata: dict[str, Any] = field(default_factory=dict)
    prefix: str = ""
    choices: tuple[str, ...] = ()
    cluster: str = ""
    own_texts: tuple[str, ...] = ()
