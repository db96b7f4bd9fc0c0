"""The topics of precise instructions: for each a handful of true or plausible sentences, and how it is asked for.

They are read from `precise_if_topics.txt`, blocks of `kind | name | title` with one sentence a line. Each sentence can
stand alone and in any selection that keeps the order; none holds digits, quotation marks, brackets or asterisks, so
that instructions about these can be built on them.
"""

from dataclasses import dataclass
from importlib.resources import files

REQUESTS: dict[str, tuple[str, ...]] = {
    "about": (
        "Tell me about {}.",
        "Describe {}.",
        "Write a short text about {}.",
        "What can you tell me about {}?",
        "Share something about {}.",
        "Give me a brief description of {}.",
    ),
    "how": (
        "Explain how to {}.",
        "How do I {}?",
        "Give me some advice on how to {}.",
        "Tell me how to {}.",
        "I want to {}. What should I do?",
        "Describe how to {}.",
    ),
    "message": ("Write {}.", "Draft {}.", "Please write {}.", "Help me write {}.", "I need {}.", "Compose {}."),
}


@dataclass(frozen=True, slots=True)
class Topic:
    """`kind` selects the requests that `name` fits into."""

    kind: str
    name: str
    title: str
    sentences: tuple[str, ...]


def _read_topics() -> tuple[Topic, ...]:
    text = files("cameleer.tasks").joinpath("precise_if_topics.txt").read_text("utf-8")
    return tuple(_parse(block.split("\n")) for block in text.strip().split("\n\n"))


def _parse(lines: list[str]) -> Topic:
    kind, name, title = lines[0].split(" | ")
    assert kind in REQUESTS, lines[0]
    return Topic(kind, name, title, tuple(lines[1:]))


TOPICS = _read_topics()
