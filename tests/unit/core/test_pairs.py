"""Pairs and problems on disk: what is written is read, and a bad row is named."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cameleer.core.errors import UserError
from cameleer.core.pairs import PAIRS, PreferencePair
from cameleer.core.problems import PROBLEMS
from cameleer.core.types import Message, Problem

PROMPT = (Message("system", "Be kind."), Message("user", "Hi\n é"))


def test_pairs_come_back_as_they_were_missing_scores_included(tmp_path: Path) -> None:
    rows = [
        PreferencePair("1", "s", PROMPT, "yes", "no", 5.0, 1.0, "a", "b"),
        PreferencePair("2", "s", PROMPT[1:], "", "\u2028", None, None),
    ]
    assert PAIRS.write(tmp_path, rows) == PAIRS.count(tmp_path) == 2
    assert list(PAIRS.read(tmp_path)) == rows


def test_problems_come_back_with_their_targets(tmp_path: Path) -> None:
    target = {"prompt": "é", "ids": [1, None], "share": 0.5}
    row = Problem("1", "t", "f", PROMPT, "ifeval", target, "gold", {"k": [1]})
    PROBLEMS.write(tmp_path, [row])
    assert list(PROBLEMS.read(tmp_path)) == [row]


def test_a_pair_without_an_answer_and_a_prompt_without_a_question_are_named(tmp_path: Path) -> None:
    good = {
        name: [value]
        for name, value in zip(PAIRS.schema.names, ("1", "s", [], "a", "b", 1.0, 0.0, "", ""), strict=True)
    }
    user, assistant = {"role": "user", "content": "q"}, {"role": "assistant", "content": "q"}
    for prompt, chosen, fault in (([user], None, "no value in column 'chosen'"), ([assistant], "a", "user turn")):
        columns = {**good, "prompt": [prompt], "chosen": [chosen]}
        pq.write_table(pa.table(columns, schema=PAIRS.schema), tmp_path / PAIRS.name)
        with pytest.raises(UserError, match=rf"{PAIRS.name}: row 1: .*{fault}"):
            list(PAIRS.read(tmp_path))
