"""The mixture artifact: conversations to train on, written by curation and read by fine-tuning.

`mixture.parquet` holds one conversation a row, in the order in which it was written: `id` (unique within `source`),
`source`, and `messages`, a list of structs of `role` and `content`.
"""

from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from cameleer.core.table import MESSAGES, Table, conversations, strings, to_conversation
from cameleer.core.types import Conversation, Example


def _to_columns(rows: list[Example]) -> list[pa.Array]:
    return [
        strings(row.id for row in rows),
        strings(row.source for row in rows),
        conversations(row.messages for row in rows),
    ]


def _to_row(id: str, source: str, messages: list[Any]) -> Example:
    return Example(id, source, to_conversation(messages))


MIXTURE = Table[Example](
    name="mixture.parquet",
    noun="mixture",
    schema=pa.schema([("id", pa.string()), ("source", pa.string()), ("messages", MESSAGES)]),
    to_columns=_to_columns,
    to_row=_to_row,
    size=lambda row: sum(len(message.content) for message in row.messages),
)


def read_prompts(folder: Path, sources: Collection[str] = ()) -> Iterator[Example]:
    """The conversations of some sources (all, where none is named) up to their last user turn, each prompt once."""
    seen: set[Conversation] = set()
    for example in MIXTURE.read(folder):
        messages = example.messages
        while messages and messages[-1].role != "user":
            messages = messages[:-1]
        if messages and messages not in seen and (not sources or example.source in sources):
            seen.add(messages)
            yield replace(example, messages=messages)
