import gzip
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from cameleer.core.artifact import Outcome
from cameleer.core.errors import UserError
from cameleer.core.mixture import MIXTURE
from cameleer.core.stage import StageRun
from cameleer.core.types import Example, Message
from cameleer.curate import progress, take
from cameleer.curate.config import CurateConfig
from cameleer.curate.dropped import DROPPED
from cameleer.curate.run import CARD, run


def pair(number: int, prefix: str = "") -> dict[str, Any]:
    return {"prompt": f"{prefix}what is {number}?", "completion": f"{prefix}it is {number}"}


def save(folder: Path, name: str, rows: list[dict[str, Any]]) -> None:
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def curate(folder: Path, *sources: dict[str, Any], seed: int = 0, out: str = "out", **settings: Any) -> Outcome:
    """Run a curation over files in `folder` into `folder/out`."""
    config = CurateConfig.parse({"sources": list(sources), **settings}, "curate")
    (folder / out).mkdir(exist_ok=True)
    files = {each.role: folder / each.reference for each in config.inputs()}
    return run(config, StageRun("curate", folder / out, files, "model", seed))


def mixture(folder: Path, out: str = "out") -> list[Example]:
    return list(MIXTURE.read(folder / out))


def dropped(folder: Path) -> list[dict[str, Any]]:
    return pq.read_table(folder / "out" / DROPPED).to_pylist()


def per_source(rows: list[Example]) -> dict[str, int]:
    return dict(Counter(row.source for row in rows))


def prompts(rows: list[Example]) -> list[str]:
    return [row.messages[0].content for row in rows]


def test_all_rows_of_a_source_exactly_and_shuffled(tmp_path: Path) -> None:
    save(tmp_path, "a.jsonl", [pair(i, " é\n") for i in range(50)])
    outcome = curate(tmp_path, {"file": "a.jsonl"})
    rows = mixture(tmp_path)
    expected = {
        f"a/{i + 1}": (Message("user", f" é\nwhat is {i}?"), Message("assistant", f" é\nit is {i}")) for i in range(50)
    }
    assert {row.id: row.messages for row in rows} == expected
    assert [row.id for row in rows] != list(expected)
    assert outcome.counts == {
        "rows": 50,
        "dropped": 0,
        "turns": 100,
        "characters": sum(len(message.content) for messages in expected.values() for message in messages),
        "sources": {
            "a": {
                "origin": "file a.jsonl",
                "license": None,
                "revision": None,
                "digest": outcome.counts["sources"]["a"]["digest"],
                "format": "prompt + completion",
                "read": 50,
                "dropped": {},
                "not_sampled": 0,
                "repeats": 0,
                "rows": 50,
                "words": 400,
            }
        },
    }
    assert outcome.summary == {key: value for key, value in outcome.counts.items() if key != "sources"}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [CARD, DROPPED, MIXTURE.name]


def test_counts_and_fractions_are_exact(tmp_path: Path) -> None:
    """Of 101 rows, a half is 50.5 and rounds up to 51; 0.005 is 0.505 and rounds to 1."""
    for name in "abcd":
        save(tmp_path, f"{name}.jsonl", [pair(i, name) for i in range(101)])
    outcome = curate(
        tmp_path,
        {"file": "a.jsonl", "count": 7},
        {"file": "b.jsonl", "fraction": 0.5},
        {"file": "c.jsonl", "fraction": 0.005},
        {"file": "d.jsonl"},
    )
    rows = mixture(tmp_path)
    assert per_source(rows) == {"a": 7, "b": 51, "c": 1, "d": 101}
    assert len({(row.source, row.id) for row in rows}) == len(rows) == outcome.counts["rows"]
    assert outcome.counts["sources"]["a"]["not_sampled"] == 94
    assert outcome.counts["sources"]["b"]["not_sampled"] == 50


def test_weights_share_the_rows_exactly(tmp_path: Path) -> None:
    for name in "abc":
        save(tmp_path, f"{name}.jsonl", [pair(i, name) for i in range(60)])
    sources = [{"file": f"{name}.jsonl", "weight": weight} for name, weight in zip("abc", (0.1, 0.2, 0.7), strict=True)]
    curate(tmp_path, *sources, num_rows=80)
    assert per_source(mixture(tmp_path)) == {"a": 8, "b": 16, "c": 56}


def test_upsampling_is_whole_passes_and_a_remainder_without_replacement(tmp_path: Path) -> None:
    save(tmp_path, "a.jsonl", [{"id": f"n{i}", **pair(i)} for i in range(10)])
    outcome = curate(tmp_path, {"file": "a.jsonl", "count": 34, "upsample": True})
    rows = mixture(tmp_path)
    times = Counter(prompts(rows))
    assert sorted(times.values()) == [3] * 6 + [4] * 4
    assert outcome.counts["sources"]["a"]["repeats"] == 24
    numbered = {(row.id, row.messages[0].content) for row in rows}
    assert len(numbered) == 34
    for i in range(10):
        copies = times[f"what is {i}?"]
        ids = [f"n{i}", *(f"n{i}#{copy}" for copy in range(2, copies + 1))]
        assert {id for id, prompt in numbered if prompt == f"what is {i}?"} == set(ids)


def test_upsampling_does_nothing_where_rows_suffice(tmp_path: Path) -> None:
    save(tmp_path, "a.jsonl", [pair(i) for i in range(10)])
    curate(tmp_path, {"file": "a.jsonl", "count": 6}, out="plain")
    curate(tmp_path, {"file": "a.jsonl", "count": 6, "upsample": True}, out="upsampled")
    assert mixture(tmp_path, "plain") == mixture(tmp_path, "upsampled")


def test_a_sample_grows_by_adding_rows(tmp_path: Path) -> None:
    """Asking for more keeps what fewer gave; the other sources do not matter."""
    save(tmp_path, "a.jsonl", [pair(i) for i in range(3000)])
    save(tmp_path, "b.jsonl", [pair(i, "b") for i in range(30)])
    curate(tmp_path, {"file": "a.jsonl", "count": 20}, out="few")
    curate(tmp_path, {"file": "b.jsonl"}, {"file": "a.jsonl", "count": 40}, out="many")
    few = [row for row in mixture(tmp_path, "few")]
    many = [row for row in mixture(tmp_path, "many") if row.source == "a"]
    assert [row for row in many if row in few] == few
    assert len(many) == 40


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(tmp_path: Path) -> None:
    save(tmp_path, "a.jsonl", [pair(i) for i in range(300)] + [pair(3), {"prompt": "x"}])
    sources = ({"file": "a.jsonl", "count": 100}, {"task": "word-arithmetic", "count": 50})
    for out, seed in (("one", 5), ("again", 5), ("other", 6)):
        curate(tmp_path, *sources, seed=seed, out=out)
    assert files_of(tmp_path / "one") == files_of(tmp_path / "again")
    assert files_of(tmp_path / "one")[MIXTURE.name] != files_of(tmp_path / "other")[MIXTURE.name]
    chosen = [{row.id for row in mixture(tmp_path, out) if row.source == "a"} for out in ("one", "other")]
    assert chosen[0] != chosen[1]


def test_bytes_do_not_depend_on_the_hash_seed(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from cameleer.core.stage import StageRun\n"
        "from cameleer.curate.config import CurateConfig; from cameleer.curate.run import run\n"
        "folder = Path(sys.argv[1]); out = folder / sys.argv[2]; out.mkdir()\n"
        "config = CurateConfig.parse({'sources': [{'file': 'a.jsonl', 'count': 60}]}, 'curate')\n"
        "run(config, StageRun('curate', out, {'a': folder / 'a.jsonl'}, 'model', 0))\n"
    )
    save(
        tmp_path,
        "a.jsonl",
        [pair(i % 90) for i in range(100)] + [{"prompt": 1}, {"messages": 2}, {"prompt": "", "completion": "c"}],
    )
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        subprocess.run(
            [sys.executable, "-c", program, str(tmp_path), hash_seed], env=environment, check=True, timeout=60
        )
    assert files_of(tmp_path / "1") == files_of(tmp_path / "2")


def test_every_dropped_row_is_there_with_its_reason(tmp_path: Path) -> None:
    long = {"id": "long", "prompt": "p" * 1000, "completion": ""}
    lines = [
        json.dumps(pair(1)),
        "{oops",
        json.dumps(pair(1)),
        json.dumps(long),
        '{"prompt": "p", "completion": "\\ud83d", "id": "half"}',
        "[]",
        json.dumps({"id": 77, "completion": "c"}),
        json.dumps(pair(2)),
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    outcome = curate(tmp_path, {"file": "a.jsonl"})
    assert sorted(prompts(mixture(tmp_path))) == ["what is 1?", "what is 2?"]
    found = dropped(tmp_path)
    assert [(row["source"], row["id"], row["row"], row["reason"]) for row in found] == [
        ("a", "a/2", 2, "not JSON"),
        ("a", "a/3", 3, "duplicate within the source"),
        ("a", "long", 4, "empty assistant turn"),
        ("a", "half", 5, "content is not valid Unicode"),
        ("a", "a/6", 6, "not a JSON object"),
        ("a", "77", 7, "missing column 'prompt'"),
    ]
    assert found[0]["excerpt"] == "{oops\n"
    assert found[2]["excerpt"] == json.dumps(long)[:200]
    assert found[3]["excerpt"] == '{"prompt": "p", "completion": "?", "id": "half"}'
    assert outcome.counts["dropped"] == 6
    assert outcome.counts["sources"]["a"]["dropped"] == {row["reason"]: 1 for row in found}


def test_duplicates_go_by_what_the_mixture_holds(tmp_path: Path) -> None:
    """`b` repeats all of `a`, which gives only 3 rows of 10: those 3 are duplicates in `b`, the other 7 are not."""
    save(tmp_path, "a.jsonl", [pair(i) for i in range(10)])
    save(
        tmp_path,
        "b.jsonl",
        [
            {"messages": [{"role": "user", "content": f"what is {i}?"}, {"role": "assistant", "content": f"it is {i}"}]}
            for i in range(10)
        ],
    )
    outcome = curate(tmp_path, {"file": "a.jsonl", "count": 3}, {"file": "b.jsonl"})
    assert sorted(prompts(mixture(tmp_path))) == [f"what is {i}?" for i in range(10)]
    assert outcome.counts["sources"]["b"]["dropped"] == {"duplicate of a row of 'a'": 3}


def test_duplicates_stay_where_the_recipe_says_so(tmp_path: Path) -> None:
    save(tmp_path, "a.jsonl", [{"id": "same", **pair(1)}] * 3)
    curate(tmp_path, {"file": "a.jsonl"}, deduplicate=False)
    rows = mixture(tmp_path)
    assert sorted(row.id for row in rows) == ["same", "same#2", "same#3"]
    assert prompts(rows) == ["what is 1?"] * 3


def test_ids_stay_unique_where_rows_share_one_or_look_alike(tmp_path: Path) -> None:
    save(tmp_path, "a.jsonl", [{"id": id, **pair(i)} for i, id in enumerate(["x", "x#2", "x", "x", "x#2"])])
    curate(tmp_path, {"file": "a.jsonl"})
    assert sorted(row.id for row in mixture(tmp_path)) == ["x", "x#2", "x#2#2", "x#3", "x#4"]


def test_a_mixed_schema_loses_no_row_silently(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chats = [
        {"messages": [{"role": "user", "content": str(i)}, {"role": "assistant", "content": "yes"}]} for i in range(150)
    ]
    save(tmp_path, "a.jsonl", chats + [pair(i) for i in range(5)])
    outcome = curate(tmp_path, {"file": "a.jsonl"})
    facts = outcome.counts["sources"]["a"]
    reason = "mixed schemas: prompt + completion, where the source has messages"
    assert (facts["read"], facts["rows"], facts["dropped"]) == (155, 150, {reason: 5})
    assert [row["row"] for row in dropped(tmp_path)] == [151, 152, 153, 154, 155]
    said = " ".join(capsys.readouterr().err.split())
    assert "source 'a'" in said
    assert f"of 155 rows dropped (see dropped.parquet): {reason} (5, first in row 151)" in said


def test_named_fields_are_read(tmp_path: Path) -> None:
    save(tmp_path, "a.jsonl", [{"q": "?", "a": "!", "key": 5, "chosen": "c", "rejected": "r"}])
    curate(tmp_path, {"file": "a.jsonl", "fields": {"prompt": "q", "completion": "a", "id": "key"}})
    assert mixture(tmp_path) == [Example("5", "a", (Message("user", "?"), Message("assistant", "!")))]


def test_a_task_is_a_source_like_another(tmp_path: Path) -> None:
    save(tmp_path, "a.jsonl", [pair(i) for i in range(5)])
    outcome = curate(tmp_path, {"file": "a.jsonl", "weight": 1}, {"task": "word-arithmetic", "weight": 3}, num_rows=20)
    rows = mixture(tmp_path)
    assert per_source(rows) == {"a": 5, "word-arithmetic": 15}
    assert all(row.messages[-1].role == "assistant" for row in rows)
    assert outcome.counts["sources"]["word-arithmetic"]["origin"] == "task word-arithmetic, version 1"


def test_the_card_tells_what_is_in_and_what_is_out(tmp_path: Path) -> None:
    rows = [
        {"prompt": "show | code", "completion": "```py\n````\n" + "x" * 2000, "topic": "t"},
        {"prompt": "p", "completion": ""},
    ]
    save(tmp_path, "a|b.jsonl", rows)
    curate(tmp_path, {"file": "a|b.jsonl", "license": "odc-by"})
    card = (tmp_path / "out" / CARD).read_text()
    assert "1 conversation from 1 source, shuffled with seed 0." in card
    assert "| a\\|b | file a\\|b.jsonl | odc-by | 2 | 1 | 0 | 0 | 1 | 100.0% |" in card
    assert "| empty assistant turn | 1 |" in card
    assert "Read as `prompt + completion`; digest `" in card
    assert "Columns that were not used: `topic`." in card
    assert "`````text\n```py\n````\n" in card
    assert "\n… 1,411 more characters\n`````" in card


class TestRefusals:
    """Nothing is made of an input that cannot give what was asked for; the message names the source and its file."""

    def refusal(self, folder: Path, *sources: dict[str, Any], **settings: Any) -> str:
        with pytest.raises(UserError) as error:
            curate(folder, *sources, **settings)
        assert not (folder / "out" / MIXTURE.name).exists()
        return str(error.value)

    def test_too_few_rows(self, tmp_path: Path) -> None:
        save(tmp_path, "a.jsonl", [pair(i) for i in range(10)] + [pair(1), pair(2), {"prompt": "p"}])
        message = self.refusal(tmp_path, {"file": "a.jsonl", "count": 11})
        assert f"source 'a' ({tmp_path / 'a.jsonl'}): 11 rows are asked for, but only 10 are usable" in message
        assert (
            "13 rows were read and 3 were dropped: duplicate within the source (2, first in row 11), "
            "missing column 'completion' (1, first in row 13)" in message
        )
        assert "Lower count, or set upsample = true to repeat rows." in message
        assert str(tmp_path / "out" / DROPPED) in message
        assert len(dropped(tmp_path)) == 3

    def test_too_few_rows_for_a_weight(self, tmp_path: Path) -> None:
        save(tmp_path, "a.jsonl", [pair(i) for i in range(10)])
        message = self.refusal(tmp_path, {"file": "a.jsonl", "weight": 1}, num_rows=11)
        assert "only 10 are usable: 10 rows were read and none was dropped." in message
        assert "Lower num_rows or its weight, or set upsample = true" in message

    def test_no_usable_row(self, tmp_path: Path) -> None:
        save(tmp_path, "a.jsonl", [{"messages": [{"role": "user", "content": "?"}]}] * 4)
        message = self.refusal(tmp_path, {"file": "a.jsonl"})
        assert "no usable row: 4 rows were read and 4 were dropped: no assistant turn (4, first in row 1)." in message

    def test_a_fraction_of_no_row(self, tmp_path: Path) -> None:
        save(tmp_path, "a.jsonl", [pair(i) for i in range(10)])
        assert "fraction = 0.04 of 10 usable rows is no row" in self.refusal(
            tmp_path, {"file": "a.jsonl", "fraction": 0.04}
        )

    def test_many_reasons_are_summed_up(self, tmp_path: Path) -> None:
        rows = [{"messages": [{"role": f"r{i}", "content": "?"}]} for i in range(9)]
        save(tmp_path, "a.jsonl", rows)
        assert "unknown role 'r4' (1, first in row 5), 4 other reasons." in self.refusal(tmp_path, {"file": "a.jsonl"})

    @pytest.mark.parametrize(
        ("name", "content", "fault"),
        [
            ("a.jsonl", b"", "the file is empty"),
            ("a.jsonl", b"\n \n", "it holds no rows"),
            ("a.json", b"[]", "it holds no rows"),
            ("a.jsonl", b"prompt,completion\na,b\n", "none of its first 2 rows is an object; row 1: not JSON"),
            ("a.jsonl", "é".encode("latin-1") * 9, "none of its first 1 rows is an object; row 1: not UTF-8"),
            ("a.jsonl", b'{"url": "x", "html": "y"}', "no known chat format. Columns: url, html."),
            ("a.json", b'[{"prompt": "p", "completion": "c"}', "the file ends before ',' or ']'"),
            ("a.parquet", b"PAR1" + b"x" * 100, "not a readable Parquet file"),
            (
                "a.jsonl.gz",
                gzip.compress(b'{"prompt": "p", "completion": "c"}\n' * 99, mtime=0)[:-9],
                "damaged gzip file",
            ),
        ],
    )
    def test_a_bad_file(self, tmp_path: Path, name: str, content: bytes, fault: str) -> None:
        (tmp_path / name).write_bytes(content)
        message = self.refusal(tmp_path, {"file": name})
        assert f"source 'a' ({tmp_path / name}): " in message
        assert fault in message

    def test_a_file_of_preferences(self, tmp_path: Path) -> None:
        save(tmp_path, "a.jsonl", [{"prompt": "p", "chosen": "c", "rejected": "r"}])
        assert "preference pairs (columns 'chosen' and 'rejected')" in self.refusal(tmp_path, {"file": "a.jsonl"})

    def test_an_earlier_source_that_took_all(self, tmp_path: Path) -> None:
        save(tmp_path, "a.jsonl", [pair(i) for i in range(3)])
        message = self.refusal(tmp_path, {"file": "a.jsonl"}, {"file": "a.jsonl", "name": "b"})
        assert "source 'b'" in message
        assert "duplicate of a row of 'a' (3, first in row 1)" in message


def test_long_work_shows_its_progress(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path, "a.jsonl", [pair(i) for i in range(3000)])
    curate(tmp_path, {"file": "a.jsonl"})
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress, "PATIENCE_SECONDS", 0.0)
    curate(tmp_path, {"file": "a.jsonl"})
    assert "write the mixture (rows) 1536/3000" in capsys.readouterr().err


def test_reading_ends_with_the_first_rows_of_a_short_source(tmp_path: Path) -> None:
    for count in (1, take.ROWS_TO_RECOGNISE, take.ROWS_TO_RECOGNISE + 1):
        save(tmp_path, f"n{count}.jsonl", [pair(i) for i in range(count)])
        assert curate(tmp_path, {"file": f"n{count}.jsonl"}, out=str(count)).counts["rows"] == count
