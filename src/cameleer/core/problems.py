"""The problems artifact: prompts with verifiers, written by curation, read by preference synthesis and RL.

`problems.parquet` holds a `Problem` a row; `target` and `metadata` are JSON. What only evaluation asks for (prefixes,
choices, clusters) or decontamination (own texts) has no columns.
"""

import json
from typing import Any

import pyarrow as pa

from cameleer.core.table import MESSAGES, Table, conversations, strings, to_conversation
from cameleer.core.types import Problem


def _to_columns(rows: list[Problem]) -> list[pa.Array]:
    assert not any(row.prefix or row.choices or row.cluster for row in rows), "a problem that only evaluates"
    return [
        strings(row.id for row in rows),
        strings(row.task for row in rows),
        strings(row.family for row in rows),
        conversations(row.messages for row in rows),
        strings(row.verifier for row in rows),
        strings(json.dumps(row.target, ensure_ascii=False) for row in rows),
        strings(row.gold for row in rows),
        strings(json.dumps(row.metadata, ensure_ascii=False) for row in rows),
    ]


def _to_row(
    id: str, task: str, family: str, messages: list[Any], verifier: str, target: str, gold: str, metadata: str
) -> Problem:
    conversation = to_conversation(messages)
    if not conversation or conversation[-1].role != "user":
        raise ValueError("messages that do not end with a user turn")
    return Problem(id, task, family, conversation, verifier, json.loads(target), gold, json.loads(metadata))


PROBLEMS = Table[Problem](
    name="problems.parquet",
    noun="set of problems",
    schema=pa.schema(
        [
            ("id", pa.string()),
            ("task", pa.string()),
            ("family", pa.string()),
            ("messages", MESSAGES),
            ("verifier", pa.string()),
            ("target", pa.string()),
            ("gold", pa.string()),
            ("metadata", pa.string()),
        ]
    ),
    to_columns=_to_columns,
    to_row=_to_row,
    size=lambda row: len(row.gold) + sum(len(message.content) for message in row.messages),
)
