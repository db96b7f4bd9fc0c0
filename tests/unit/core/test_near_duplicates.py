"""Near-duplicates: what is dropped, what stays, and that hardly any pair escapes."""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cameleer.core.mixture import MIXTURE
from cameleer.core.near_duplicates import SHINGLE_WORDS, NearDuplicates, rows_per_band
from cameleer.core.stage import StageRun
from cameleer.core.types import Conversation, Message
from cameleer.curate.config import CurateConfig
from cameleer.curate.dropped import DROPPED
from cameleer.curate.run import run

Text = list[str]


def conversation(words: Text) -> Conversation:
    """A question and its answer, cut in the middle."""
    half = len(words) // 2
    return (Message("user", " ".join(words[:half])), Message("assistant", " ".join(words[half:])))


def shingles(words: Text) -> set[tuple[str, ...]]:
    """By the definition, the border of the two turns being a word."""
    half = len(words) // 2
    whole = [*words[:half], "<border>", *words[half:]]
    runs = range(max(len(whole) - SHINGLE_WORDS + 1, 1))
    return {tuple(whole[start : start + SHINGLE_WORDS]) for start in runs}


def jaccard(first: Text, second: Text) -> float:
    one, other = shingles(first), shingles(second)
    return len(one & other) / len(one | other)


def edited(words: Text, draw: random.Random, count: int) -> Text:
    made = list(words)
    for place in draw.sample(range(len(made)), count):
        made[place] = f"edit{draw.randrange(10**6)}"
    return made


def texts(draw: random.Random, count: int) -> list[Text]:
    """Texts of a small vocabulary, most of them in families that differ in a few words."""
    vocabulary = [f"w{number}" for number in range(500)]
    found: list[Text] = []
    while len(found) < count:
        words = draw.choices(vocabulary, k=draw.randint(1, 120))
        found += [words] + [edited(words, draw, min(len(words), draw.randint(0, 4))) for _ in range(draw.randint(0, 3))]
    draw.shuffle(found)
    return found[:count]


@pytest.fixture
def near(tmp_path: Path) -> Iterator[NearDuplicates]:
    made = NearDuplicates(0.8, tmp_path)
    yield made
    made.close()


def found(near: NearDuplicates, rows: Sequence[Text], source: str = "a") -> dict[int, tuple[str, int]]:
    for number, words in enumerate(rows):
        near.add(source, number, conversation(words))
    return {number: (each.source, each.row) for number, each in near.duplicates().items()}


def test_the_first_of_some_stays_and_the_others_name_it(near: NearDuplicates) -> None:
    draw = random.Random(1)
    words = texts(draw, 1)[0] + [f"x{i}" for i in range(100)]
    rows = [words, ["other"] * 3, edited(words, draw, 1), list(words)]
    assert found(near, rows) == {2: ("a", 0), 3: ("a", 0)}


def test_a_dropped_row_drops_no_other(near: NearDuplicates) -> None:
    """C is like B and B like A, but C is not like A: B goes, C stays."""
    a = [f"x{i}" for i in range(100)]
    b = ["y0", "y1", "y2", "y3", "y4", "y5", "y6", *a[7:]]
    c = [*b[:-7], "z0", "z1", "z2", "z3", "z4", "z5", "z6"]
    assert jaccard(a, b) >= 0.8 <= jaccard(b, c) and jaccard(a, c) < 0.8
    assert found(near, [a, b, c]) == {1: ("a", 0)}


def test_rows_of_an_earlier_source_count_if_they_were_taken(near: NearDuplicates) -> None:
    one, two = [f"x{i}" for i in range(50)], [f"y{i}" for i in range(50)]
    assert found(near, [one, two], "a") == {}
    near.taken({1})
    assert found(near, [one, two, one], "b") == {1: ("a", 1), 2: ("b", 0)}


def test_excluded_rows_count_for_nothing(near: NearDuplicates) -> None:
    words = [f"x{i}" for i in range(50)]
    for number in range(3):
        near.add("a", number, conversation(words))
    assert [(row, each.row) for row, each in near.duplicates({0}).items()] == [(2, 1)]


def test_short_texts_are_alike_only_if_their_words_are_the_same(near: NearDuplicates) -> None:
    assert found(near, [["Hi", "there"], ["hi", "There!"], ["hi", "you"]]) == {1: ("a", 0)}


@pytest.mark.parametrize("seed", range(3))
def test_rows_are_dropped_as_comparing_all_pairs_drops_them(near: NearDuplicates, seed: int) -> None:
    rows = texts(random.Random(seed), 400)
    kept: list[int] = []
    expected: dict[int, tuple[str, int]] = {}
    for number, words in enumerate(rows):
        like = next((other for other in kept if jaccard(rows[other], words) >= 0.8), None)
        if like is None:
            kept.append(number)
        else:
            expected[number] = ("a", like)
    got = found(near, rows)
    assert len(expected) > 50
    missed = expected.keys() - got.keys()
    assert len(missed) <= 0.01 * len(expected)
    assert not got.keys() - expected.keys() or missed


@pytest.mark.parametrize(("threshold", "rows"), [(0.8, 6), (0.5, 2), (0.9, 9), (0.99, 26)])
def test_bands_are_as_long_as_the_allowed_misses_permit(threshold: float, rows: int) -> None:
    assert rows_per_band(threshold) == rows
    assert (1 - threshold**rows) ** (128 // rows) <= 0.003


def test_a_curation_drops_them_with_the_row_that_stays(tmp_path: Path) -> None:
    words = " ".join(f"x{i}" for i in range(60))
    for name, ends in (("a", ("one", "two")), ("b", ("three", "other"))):
        lines = [f'{{"prompt": "{words} {end}", "completion": "yes"}}' for end in ends if end != "other"]
        lines += ['{"prompt": "something else entirely", "completion": "no"}'] if name == "b" else []
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    table = {"sources": [{"file": "a.jsonl"}, {"file": "b.jsonl"}], "near_duplicates": {"threshold": 0.8}}
    config = CurateConfig.parse(table, "curate")
    (tmp_path / "out").mkdir()
    run(config, StageRun("c", tmp_path / "out", {name: tmp_path / f"{name}.jsonl" for name in "ab"}, "model", 0))
    assert {row.id for row in MIXTURE.read(tmp_path / "out")} == {"a/1", "b/2"}
    dropped = pq.read_table(tmp_path / "out" / DROPPED).to_pylist()
    assert [(row["id"], row["reason"][:26]) for row in dropped] == [
        ("a/2", "near-duplicate of a/1 (0.9"),
        ("b/1", "near-duplicate of a/1 (0.9"),
    ]
