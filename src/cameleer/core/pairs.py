"""The pairs artifact: two answers to a prompt, one preferred; made by preference synthesis, read by DPO and rewards.

`pairs.parquet` holds a `PreferencePair` a row; its prompt is a list of structs of `role` and `content`.
"""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from cameleer.core.table import MESSAGES, Table, conversations, strings, to_conversation
from cameleer.core.types import Conversation


@dataclass(frozen=True, slots=True)
class PreferencePair:
    """Two answers to `prompt`, a conversation that ends with a user turn; `chosen` is the better one.

    `id` is unique within `source`. Scores are what the pair was decided by, on the scale of whoever rated it; None
    where no rating is known. `chosen_model` and `rejected_model` name who wrote the answers; empty where unknown.
    """

    id: str
    source: str
    prompt: Conversation
    chosen: str
    rejected: str
    chosen_score: float | None = None
    rejected_score: float | None = None
    chosen_model: str = ""
    rejected_model: str = ""

    @property
    def name(self) -> str:
        """What messages and logs call it."""
        return f"{self.source}/{self.id}"


def _to_columns(rows: list[PreferencePair]) -> list[pa.Array]:
    return [
        strings(row.id for row in rows),
        strings(row.source for row in rows),
        conversations(row.prompt for row in rows),
        strings(row.chosen for row in rows),
        strings(row.rejected for row in rows),
        pa.array([row.chosen_score for row in rows], pa.float64()),
        pa.array([row.rejected_score for row in rows], pa.float64()),
        strings(row.chosen_model for row in rows),
        strings(row.rejected_model for row in rows),
    ]


def _to_row(id: str, source: str, prompt: list[Any], chosen: str, rejected: str, *rest: Any) -> PreferencePair:
    messages = to_conversation(prompt)
    if not messages or messages[-1].role != "user":
        raise ValueError("a prompt that does not end with a user turn")
    return PreferencePair(id, source, messages, chosen, rejected, *rest)


PAIRS = Table[PreferencePair](
    name="pairs.parquet",
    noun="set of pairs",
    schema=pa.schema(
        [
            ("id", pa.string()),
            ("source", pa.string()),
            ("prompt", MESSAGES),
            ("chosen", pa.string()),
            ("rejected", pa.string()),
            ("chosen_score", pa.float64()),
            ("rejected_score", pa.float64()),
            ("chosen_model", pa.string()),
            ("rejected_model", pa.string()),
        ]
    ),
    to_columns=_to_columns,
    to_row=_to_row,
    size=lambda row: len(row.chosen) + len(row.rejected) + sum(len(message.content) for message in row.prompt),
    optional=frozenset({"chosen_score", "rejected_score"}),
)
