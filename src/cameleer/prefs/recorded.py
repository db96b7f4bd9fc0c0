"""Recorded pairs in Tülu's preference format: `chosen` and `rejected` are conversations that differ in their last turn.

    id, chosen_model, rejected_model, chosen_rating (or chosen_score), rejected_rating (…): taken where they are there

A row that makes no pair is dropped and counted by its reason.
"""

import json
import math
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cameleer.core.errors import UserError
from cameleer.core.hub import open_split
from cameleer.core.pairs import PreferencePair
from cameleer.core.parquet import is_parquet, parquet_rows
from cameleer.core.prompt_range import in_range
from cameleer.core.types import ROLES, Conversation, Message
from cameleer.prefs.config import PairsConfig


class NotAPair(ValueError):
    """Why a row makes no pair, the same words for the same fault."""


def read_pairs(config: PairsConfig, path: Path | None, seed: int, dropped: Counter[str]) -> Iterator[PreferencePair]:
    """The pairs of a source in its order, `count` of them where that is set; `dropped` counts the others by reason.

    Raises UserError for a source that cannot be read or gives no pair, or fewer than were asked for.
    """
    where = f"pairs '{config.name}' ({path or config.dataset})"
    chosen = None if config.count is None else _sampled(config, path, where, seed)
    count = 0
    for number, row in enumerate(_rows(config, path, where), 1):
        try:
            pair = _pair(row, config, number)
        except NotAPair as failure:
            dropped[str(failure)] += 1
            continue
        if chosen is None or number in chosen:
            count += 1
            yield pair
    if not count:
        reasons = "; ".join(f"{reason}: {times}" for reason, times in dropped.most_common(3))
        raise UserError(
            f"{where}: no row is a pair. {reasons}".strip(), "Rows need chosen and rejected, conversations."
        )


def _sampled(config: PairsConfig, path: Path | None, where: str, seed: int) -> set[int]:
    """The numbers of the rows that are taken, of those that are pairs: found in a reading of their own."""
    usable: list[int] = []
    for number, row in enumerate(_rows(config, path, where), 1):
        try:
            _pair(row, config, number)
        except NotAPair:
            continue
        usable.append(number)
    assert config.count is not None
    if len(usable) < config.count:
        raise UserError(f"{where}: {len(usable)} pairs, but {config.count} were asked for.", "Ask for fewer.")
    return set(random.Random(f"{seed}/{config.name}").sample(usable, config.count))


def _pair(row: Any, config: PairsConfig, number: int) -> PreferencePair:
    """The pair of a row of a source. Raises NotAPair for one that the source does not give."""
    pair = to_pair(row, config.name, number)
    if not in_range(pair.prompt, config.prompt_range):
        raise NotAPair("its prompt is outside of prompt_range")
    return pair


def to_pair(row: Any, source: str, number: int) -> PreferencePair:
    """The pair of a row. Raises NotAPair."""
    if not isinstance(row, dict):
        raise NotAPair("not a JSON object")
    chosen, rejected = _conversation(row, "chosen"), _conversation(row, "rejected")
    if chosen[:-1] != rejected[:-1]:
        raise NotAPair("chosen and rejected answer different prompts")
    if not chosen[-1].content.strip() or not rejected[-1].content.strip():
        raise NotAPair("an empty answer")
    if chosen[-1].content == rejected[-1].content:
        raise NotAPair("chosen and rejected are identical")
    id = row.get("id")
    return PreferencePair(
        str(number) if id is None else f"{id}#{number}",
        source,
        chosen[:-1],
        chosen[-1].content,
        rejected[-1].content,
        _number(row, "chosen"),
        _number(row, "rejected"),
        str(row.get("chosen_model") or ""),
        str(row.get("rejected_model") or ""),
    )


def _conversation(row: dict[str, Any], column: str) -> Conversation:
    turns = row.get(column)
    if not isinstance(turns, list) or len(turns) < 2:
        raise NotAPair(f"{column} is no list of at least two messages")
    messages: list[Message] = []
    for turn in turns:
        role, content = (turn.get("role"), turn.get("content")) if isinstance(turn, dict) else (None, None)
        if role not in ROLES or not isinstance(content, str):
            raise NotAPair(f"{column} has a message without a known role and a content")
        messages.append(Message(role, content))
    if messages[-1].role != "assistant" or messages[-2].role != "user":
        raise NotAPair(f"{column} does not end with a user's turn and its answer")
    return tuple(messages)


def _number(row: dict[str, Any], side: str) -> float | None:
    value = row.get(f"{side}_rating", row.get(f"{side}_score"))
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def _rows(config: PairsConfig, path: Path | None, where: str) -> Iterator[Any]:
    if path is None:
        assert config.dataset is not None
        yield from open_split(where, config.dataset, config.split, config.revision).rows
        return
    yield from parquet_rows(path, where) if is_parquet(path) else _lines(path, where)


def _lines(path: Path, where: str) -> Iterator[Any]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    yield json.loads(line)
                except ValueError:
                    raise UserError(f"{where}: line {number} is not JSON.", "One object a line (JSONL).") from None
