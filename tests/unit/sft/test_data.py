"""Mixtures to segment trees: what is trained, and what happens to long rows."""

from pathlib import Path

import pytest
from support import conversations

from cameleer.core.errors import UserError
from cameleer.core.mixture import MIXTURE
from cameleer.core.render import Renderer
from cameleer.core.types import Example, Message
from cameleer.model.tiny import tiny_tokenizer
from cameleer.sft.config import Overlong
from cameleer.sft.data import load_rows

QUESTION = Message("user", "Name a colour.")


def mixture(folder: Path, rows: list[Example]) -> Path:
    folder.mkdir(exist_ok=True)
    MIXTURE.write(folder, rows)
    return folder


def test_what_is_trained_is_what_the_assistant_says(tmp_path: Path) -> None:
    renderer = Renderer(tiny_tokenizer())
    turns = (QUESTION, Message("assistant", "Red."), Message("user", "Another."), Message("assistant", "Blue."))
    rows = load_rows(mixture(tmp_path / "m", [Example("1", "s", turns)]), renderer, 512, Overlong.ERROR)
    (segment,) = rows.trees[0]
    trained = [int(token) for token, weight in zip(segment.ids, segment.weights, strict=True) if weight]
    assert renderer.tokenizer.decode(trained) == "Red.<|im_end|>Blue.<|im_end|>"
    assert rows.num_trained_tokens == len(trained) and rows.names == ["s/1"]


def long_and_short(folder: Path) -> Path:
    """Rows: one that fits 60 tokens, one whose answer is too long, one whose question already is."""
    answer = Message("assistant", "Red, green, " * 30)
    rows = [
        Example("fits", "s", (QUESTION, Message("assistant", "Red."))),
        Example("long-answer", "s", (QUESTION, answer)),
        Example("long-question", "s", (Message("user", "word " * 80), Message("assistant", "Red."))),
    ]
    return mixture(folder, rows)


def test_truncate_keeps_what_still_trains(tmp_path: Path) -> None:
    rows = load_rows(long_and_short(tmp_path), Renderer(tiny_tokenizer()), 60, Overlong.TRUNCATE)
    assert rows.names == ["s/fits", "s/long-answer"]
    assert len(rows.trees[1][0].ids) == 60 and (rows.num_truncated, rows.num_dropped) == (1, 1)


def test_drop(tmp_path: Path) -> None:
    rows = load_rows(long_and_short(tmp_path), Renderer(tiny_tokenizer()), 60, Overlong.DROP)
    assert rows.names == ["s/fits"] and (rows.num_truncated, rows.num_dropped) == (0, 2)


def test_error_names_the_row(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"row s/long-answer: \d+ tokens are more than max_tokens = 60"):
        load_rows(long_and_short(tmp_path), Renderer(tiny_tokenizer()), 60, Overlong.ERROR)


def test_a_row_that_trains_on_nothing_is_named(tmp_path: Path) -> None:
    rows = [*conversations(3), Example("silent", "s", (QUESTION,))]
    with pytest.raises(UserError, match=r"row s/silent: .*no assistant turn"):
        load_rows(mixture(tmp_path, rows), Renderer(tiny_tokenizer()), 512, Overlong.ERROR)
