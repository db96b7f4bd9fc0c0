"""Recorded pairs in Tülu's format: what is a pair, what is dropped, and what is said of it."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hub_support import COMMIT, GONE, cache_dataset
from prefs_support import prefs_config, prefs_stage, read_made_pairs

from cameleer.core.errors import UserError
from cameleer.core.pairs import PreferencePair
from cameleer.core.prompt_range import prompt_position
from cameleer.core.types import Message
from cameleer.prefs.config import PairsConfig
from cameleer.prefs.recorded import read_pairs
from cameleer.prefs.run import run


def turns(*contents: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(contents)]


GOOD: dict[str, Any] = {
    "id": "x",
    "chosen": turns("Hi", "Hello!"),
    "rejected": turns("Hi", "Go away."),
    "chosen_rating": 4.75,
    "rejected_rating": 2,
    "chosen_model": "m",
    "rejected_model": "n",
}
BAD: dict[str, dict[str, Any]] = {
    "chosen and rejected answer different prompts": {"rejected": turns("Ho", "Go away.")},
    "chosen and rejected are identical": {"rejected": turns("Hi", "Hello!")},
    "an empty answer": {"rejected": turns("Hi", "  ")},
    "chosen is no list of at least two messages": {"chosen": "Hello!"},
    "rejected does not end with a user's turn and its answer": {"rejected": turns("Hi", "Hello", "So?")},
    "rejected has a message without a known role and a content": {"rejected": [{"role": "tool"}, {"role": "user"}]},
}


def read(path: Path, dropped: Counter[str] | None = None, **keys: Any) -> list[PreferencePair]:
    config = PairsConfig.parse({"name": "rec", "file": path.name, **keys}, where="s")
    return list(read_pairs(config, path, 0, Counter() if dropped is None else dropped))


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_row_becomes_a_pair(tmp_path: Path) -> None:
    expected = PreferencePair("x#1", "rec", (Message("user", "Hi"),), "Hello!", "Go away.", 4.75, 2.0, "m", "n")
    assert read(write(tmp_path / "p.jsonl", [GOOD])) == [expected]
    pq.write_table(pa.Table.from_pylist([GOOD]), tmp_path / "p.parquet")
    assert read(tmp_path / "p.parquet") == [expected]


def test_scores_and_models_need_not_be_there(tmp_path: Path) -> None:
    row = {key: GOOD[key] for key in ("chosen", "rejected")}
    [pair] = read(write(tmp_path / "p.jsonl", [row]))
    assert (pair.id, pair.chosen_score, pair.rejected_score, pair.chosen_model) == ("1", None, None, "")


@pytest.mark.parametrize("reason", BAD)
def test_a_row_that_is_no_pair_is_dropped_with_its_reason(tmp_path: Path, reason: str) -> None:
    dropped = Counter[str]()
    assert len(read(write(tmp_path / "p.jsonl", [GOOD | BAD[reason], GOOD]), dropped)) == 1
    assert dropped == {reason: 1}


def test_a_sample_is_the_seeds_and_of_pairs_only(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", [{"id": 1}] * 20 + [GOOD | {"id": n} for n in range(20)])
    found = read(path, count=5)
    assert found == read(path, count=5) and len({pair.id for pair in found}) == 5
    with pytest.raises(UserError, match="20 pairs, but 21 were asked for"):
        read(path, count=21)


def test_a_file_without_a_pair_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no row is a pair\. chosen is no list of at least two messages: 1"):
        read(write(tmp_path / "p.jsonl", [{"id": 1}]))


def test_pairs_of_a_hub_dataset_are_of_the_commit_that_was_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = cache_dataset(tmp_path, monkeypatch, [GOOD, GOOD])
    config = PairsConfig.parse({"name": "rec", "dataset": dataset, "revision": COMMIT}, where="s")
    assert [pair.rejected for pair in read_pairs(config, None, 0, Counter())] == ["Go away."] * 2
    config = PairsConfig.parse({"name": "rec", "dataset": dataset, "revision": GONE}, where="s")
    with pytest.raises(UserError, match=rf"^pairs 'rec' \({dataset}\): revision {GONE} .*the cache holds {COMMIT}"):
        list(read_pairs(config, None, 0, Counter()))


def test_recorded_pairs_alone_are_a_stage(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", [GOOD, GOOD | BAD["an empty answer"]])
    config = prefs_config(sources=[{"name": "rec", "file": "p.jsonl"}])
    outcome = run(config, prefs_stage(tmp_path / "out", {"pairs rec": path}))
    assert outcome.counts["recorded_pairs"] == {"rec": 1} and outcome.counts["dropped_rows"] == {
        "rec": {"an empty answer": 1}
    }
    assert len(read_made_pairs(tmp_path / "out")) == 1


def test_a_range_takes_its_part_of_the_pool_as_curation_does(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    rows = [{**GOOD, "chosen": turns(f"{n}?", "Yes."), "rejected": turns(f"{n}?", "No.")} for n in range(100)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    parts: list[set[str]] = []
    for part in ([0, 0.4], [0.4, 1]):
        dropped: Counter[str] = Counter()
        config = PairsConfig.parse({"file": str(path), "prompt_range": part}, where="")
        pairs = list(read_pairs(config, path, 0, dropped))
        assert all(part[0] <= prompt_position(pair.prompt) < part[1] for pair in pairs)
        assert dropped == {"its prompt is outside of prompt_range": 100 - len(pairs)}
        parts.append({pair.prompt[-1].content for pair in pairs})
    assert len(parts[0] | parts[1]) == 100 and not parts[0] & parts[1]
    few = PairsConfig.parse({"file": str(path), "prompt_range": [0, 0.4], "count": 5}, where="")
    assert {pair.prompt[-1].content for pair in read_pairs(few, path, 0, Counter())} < parts[0]
