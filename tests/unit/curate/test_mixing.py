"""Strata, caps, parts of a pool of prompts, any number of processes, and what the card says of sources together."""

import json
import re
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cameleer.core.artifact import Outcome
from cameleer.core.errors import UserError
from cameleer.core.mixture import MIXTURE
from cameleer.core.problems import PROBLEMS
from cameleer.core.prompt_range import prompt_position
from cameleer.core.stage import StageRun
from cameleer.core.types import Example, Message
from cameleer.curate import sources
from cameleer.curate.config import CurateConfig
from cameleer.curate.licenses import conflicts
from cameleer.curate.problems import SeenPrompts
from cameleer.curate.run import CARD, run


def row(number: int, prefix: str = "", **columns: Any) -> dict[str, Any]:
    return {"prompt": f"{prefix}what is {number}?", "completion": f"{prefix}it is {number}", **columns}


def save(folder: Path, name: str, rows: list[dict[str, Any]]) -> None:
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), folder / name)
    else:
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def curate(folder: Path, *tables: dict[str, Any], out: str = "out", **settings: Any) -> Outcome:
    config = CurateConfig.parse({"sources": list(tables), **settings}, "curate")
    (folder / out).mkdir(exist_ok=True)
    files = {each.role: folder / each.reference for each in config.inputs()}
    return run(config, StageRun("curate", folder / out, files, "model", 0))


def mixture(folder: Path, out: str = "out") -> list[Example]:
    return list(MIXTURE.read(folder / out))


def test_a_stratified_sample_has_the_columns_proportions_exactly(tmp_path: Path) -> None:
    """60, 25 and 15 rows; of 10 they give 6, 2.5 and 1.5: the remainder goes to the value that comes first."""
    kinds = ["maths"] * 60 + ["code"] * 25 + ["chat"] * 15
    save(tmp_path, "a.jsonl", [row(number, kind=kind) for number, kind in enumerate(kinds)])
    outcome = curate(tmp_path, {"file": "a.jsonl", "count": 10, "stratify": "kind"})
    taken = Counter(kinds[int(each.id.partition("/")[2]) - 1] for each in mixture(tmp_path))
    assert taken == {"maths": 6, "code": 2, "chat": 2}
    assert outcome.counts["sources"]["a"]["strata"] == taken
    more = curate(tmp_path, {"file": "a.jsonl", "fraction": 0.2, "stratify": "kind"}, out="more")
    assert more.counts["sources"]["a"]["strata"] == {"maths": 12, "code": 5, "chat": 3}
    assert {each.id for each in mixture(tmp_path)} <= {each.id for each in mixture(tmp_path, "more")}


def test_a_column_to_stratify_by_must_be_there(tmp_path: Path) -> None:
    save(tmp_path, "a.jsonl", [row(number, kind="x") for number in range(9)])
    with pytest.raises(UserError, match=r"a.jsonl\): stratify names the column 'kinds', which is not there"):
        curate(tmp_path, {"file": "a.jsonl", "count": 3, "stratify": "kinds"})


def test_a_cap_takes_all_rows_where_they_are_fewer(tmp_path: Path) -> None:
    for name, count in (("a", 30), ("b", 10)):
        save(tmp_path, f"{name}.jsonl", [row(number, name) for number in range(count)])
    curate(tmp_path, {"file": "a.jsonl", "max_count": 20}, {"file": "b.jsonl", "max_count": 20})
    assert Counter(each.source for each in mixture(tmp_path)) == {"a": 20, "b": 10}


def test_ranges_divide_a_pool_by_prompt_and_share_none(tmp_path: Path) -> None:
    """Answers, system turns, case and marks differ between the uses of a pool; its prompts fall the same way."""
    count = 400
    save(tmp_path, "sft.jsonl", [row(number) for number in range(count)])
    others = [
        {"messages": [{"role": "system", "content": "Hm."}, {"role": "user", "content": f"  What is {number}"},
                      {"role": "assistant", "content": "!"}]}
        for number in range(count)
    ]  # fmt: skip
    save(tmp_path, "prefs.jsonl", others)
    parts = {"sft": ("sft", [0, 0.6]), "prefs": ("prefs", [0.6, 0.8]), "rest": ("sft", [0.8, 1])}
    prompts: dict[str, set[str]] = {}
    for name, (file, part) in parts.items():
        outcome = curate(tmp_path, {"file": f"{file}.jsonl", "prompt_range": part}, out=name)
        found = mixture(tmp_path, name)
        prompts[name] = {each.messages[-2].content.strip(" ?").lower() for each in found}
        facts = outcome.counts["sources"][file]
        assert facts["outside_range"] + facts["rows"] == count
        assert abs(len(found) - count * (part[1] - part[0])) < 40
    assert sum(map(len, prompts.values())) == len(set().union(*prompts.values())) == count


def test_problems_take_their_part_of_a_pool_too(tmp_path: Path) -> None:
    def problem(number: int) -> dict[str, Any]:
        turns = [{"role": "user", "content": f"what is {number}?"}]
        return {"messages": turns, "dataset": "gsm8k", "ground_truth": str(number)}

    save(tmp_path, "chats.jsonl", [row(number) for number in range(100)])
    save(tmp_path, "problems.jsonl", [problem(number) for number in range(100)])
    source = {"file": "chats.jsonl", "prompt_range": [0, 0.5]}
    outcome = curate(tmp_path, source, problems=[{"file": "problems.jsonl", "prompt_range": [0.5, 1]}])
    trained = {each.messages[0].content for each in mixture(tmp_path)}
    asked = {each.messages[0].content for each in PROBLEMS.read(tmp_path / "out")}
    assert trained | asked == {f"what is {number}?" for number in range(100)} and not trained & asked
    assert "problems_left_out" not in outcome.counts


def test_parts_of_a_pool_share_no_prompt_whichever_rules_change_their_text(tmp_path: Path) -> None:
    """Composed or not, with control characters or not: each of 200 prompts is in one part, whatever its rules."""
    texts = [f"Le cafe\u0301 nume\x07ro {number}\r\nfe\x00\u0301r\u016b\ufeff \u2126?" for number in range(200)]
    turns = [[{"role": "user", "content": text}, {"role": "assistant", "content": "x"}] for text in texts]
    save(tmp_path, "pool.jsonl", [{"messages": each} for each in turns])
    asked = [{"messages": each[:1], "dataset": "gsm8k", "ground_truth": "1"} for each in turns]
    save(tmp_path, "problems.jsonl", asked)
    ways: dict[str, dict[str, Any]] = {
        "both": {"prompt_range": [0, 0.25], "rules": {"unicode": True, "control_characters": True}},
        "one": {"prompt_range": [0.25, 0.5], "rules": {"unicode": True}},
        "none": {"prompt_range": [0.5, 0.75]},
    }
    found: list[str] = []
    for name, way in ways.items():
        curate(tmp_path, {"file": "pool.jsonl", **way}, out=name)
        found += [each.messages[0].content for each in mixture(tmp_path, name)]
    save(tmp_path, "chat.jsonl", [row(0)])
    curate(tmp_path, {"file": "chat.jsonl"}, problems=[{"file": "problems.jsonl", "prompt_range": [0.75, 1]}], out="rl")
    found += [each.messages[0].content for each in PROBLEMS.read(tmp_path / "rl")]
    numbers = [re.findall("[0-9]+", text)[0] for text in found]
    assert len(numbers) == 200 and set(numbers) == set(map(str, range(200)))


def test_a_prompts_position_is_the_same_on_every_machine() -> None:
    """BLAKE2b of `what is 1`, 8 bytes, personalised `prompt`, as a part of 2^64: computed once with hashlib."""
    for text in ("What is 1?", " what\nIS   (1)"):
        assert prompt_position((Message("system", "x"), Message("user", text))) == 0.5291279599489966


@pytest.mark.parametrize("given", [[0.5, 0.5], [0.6, 0.2], [-0.1, 1], [0, 1.1]])
def test_a_range_is_within_0_and_1(given: list[float]) -> None:
    with pytest.raises(UserError, match=r"prompt_range is \[from, to\) within 0 and 1"):
        CurateConfig.parse({"sources": [{"file": "a", "prompt_range": given}]}, "curate")


def test_any_processes_and_any_blocks_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [row(number % 150, note="e\u0301") for number in range(250)]
    save(tmp_path, "a.jsonl", [*rows, {"prompt": "?"}, *(row(n, "Cafe\u0301 ") for n in range(50))])
    save(tmp_path, "b.parquet", [row(number, kind="xyz"[number % 3]) for number in range(100, 400)])
    (tmp_path / "c.json").write_text(json.dumps([row(number, "c") for number in range(100)]))
    tables = (
        {"file": "a.jsonl", "rules": {"unicode": True}},
        {"file": "b.parquet", "count": 200, "stratify": "kind"},
        {"file": "c.json", "count": 110, "upsample": True, "prompt_range": [0, 0.7]},
    )
    settings: dict[str, Any] = {"near_duplicates": {"threshold": 0.9}, "rules": {"max_words": 12}}
    counts = [curate(tmp_path, *tables, out="one", **settings).counts]
    monkeypatch.setattr(sources, "ROWS_PER_READ", 37)
    counts.append(curate(tmp_path, *tables, out="small", **settings).counts)
    monkeypatch.setattr(sources, "BYTES_PER_BLOCK", 1)
    counts.append(curate(tmp_path, *tables, out="two", num_processes=2, **settings).counts)
    assert counts[0] == counts[1] == counts[2]
    files = [{path.name: path.read_bytes() for path in (tmp_path / out).iterdir()} for out in ("one", "small", "two")]
    assert files[0] == files[1] == files[2]
    assert counts[0]["sources"]["a"]["changed"] == {"unicode": 50}


@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")
def test_a_ray_cluster_gives_the_same_bytes_with_two_pools_at_work(tmp_path: Path) -> None:
    save(tmp_path, "a.jsonl", [row(number % 150) for number in range(250)])
    rules = {"tasks": ["word-arithmetic-dev"], "num_generated": 20}
    settings: dict[str, Any] = {"num_processes": 2, "decontaminate": rules}
    local = curate(tmp_path, {"file": "a.jsonl"}, out="local", **settings)
    ray = curate(tmp_path, {"file": "a.jsonl"}, out="ray", executor="ray", **settings)
    assert local.counts == ray.counts
    files = [{path.name: path.read_bytes() for path in (tmp_path / out).iterdir()} for out in ("local", "ray")]
    assert files[0] == files[1]


def test_processes_are_no_part_of_what_is_made() -> None:
    config = CurateConfig.parse({"sources": [{"file": "a"}], "num_processes": 7, "executor": "ray"}, "curate")
    assert not {"num_processes", "executor"} & config.model_dump().keys()


@pytest.mark.parametrize(
    ("licenses", "found"),
    [
        ({"a": "apache-2.0", "b": "odc-by", "c": None, "d": "other"}, []),
        ({"a": "cc-by-nc-4.0", "b": "CC-BY-NC-SA-4.0", "c": "unknown"}, []),
        (
            {"a": "MIT", "b": "cc-by-nc-4.0"},
            ["Non-commercial and permissive: b (cc-by-nc-4.0) make all of the mixture"],
        ),
        ({"a": "cc-by-sa-3.0", "b": "cc-by-sa-4.0"}, []),
        ({"a": "cc-by-sa-4.0", "b": "gpl-3.0"}, ["Different share-alike licences"]),
        ({"a": "cc-by-nd-4.0"}, ["No derivatives: a (cc-by-nd-4.0)"]),
    ],
)
def test_licences_that_clash_are_named(licenses: dict[str, str | None], found: list[str]) -> None:
    said = conflicts(licenses)
    assert len(said) == len(found)
    assert all(sentence.startswith(start) for sentence, start in zip(said, found, strict=True))


def test_clashing_licences_are_on_the_console_the_card_and_the_manifest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in "ab":
        save(tmp_path, f"{name}.jsonl", [row(1, name)])
    free = {"file": "a.jsonl", "license": "mit", "skill": "maths"}
    outcome = curate(tmp_path, free, {"file": "b.jsonl", "license": "cc-by-nc-4.0", "skill": "code"})
    (clash,) = outcome.counts["license_conflicts"]
    assert "b (cc-by-nc-4.0)" in clash and "a (mit)" in clash
    card = (tmp_path / "out" / CARD).read_text()
    assert f"## Licences that do not go together\n\n* {clash}\n" in card
    assert "| maths | 1 | 50.0% | 6 |" in card
    assert "non-commercial" in capsys.readouterr().err


def test_the_card_tells_lengths_languages_and_overlaps(tmp_path: Path) -> None:
    long = "It is the number of apples which are left when she has eaten three of them, and no other number. "
    save(tmp_path, "a.jsonl", [{"prompt": f"{n}?", "completion": f"{long} {n}"} for n in range(20)])
    save(
        tmp_path,
        "b.jsonl",
        [{"prompt": f"{n}?", "completion": f"{long} {n}" if n < 15 else "?"} for n in range(10, 20)],
    )
    curate(tmp_path, {"file": "a.jsonl"}, {"file": "b.jsonl"})
    card = (tmp_path / "out" / CARD).read_text()
    assert "| a | 40 | 2.0 | 440 | 22 | 22 | 22 | 22 |" in card
    assert "| a | en 100.0% |" in card
    assert "| b | a | 5 | 0 | 5 |" in card


def test_prompts_that_sources_share_are_counted_once_for_each_two() -> None:
    seen = SeenPrompts()
    for source, prompt in (
        ("a", "x"),
        ("b", "x"),
        ("b", "x"),
        ("c", "x"),
        ("a", "x"),
        ("b", "y"),
        ("a", "y"),
        ("c", "z"),
    ):
        seen.add((Message("user", prompt), Message("assistant", source)), source)
    assert seen.shared == {("a", "b"): 2, ("a", "c"): 1, ("b", "c"): 1}


class TestBadInput:
    """Each is named with its file, and its row where there is one; no mixture is made short without a word."""

    def test_rows_without_prompts(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        save(tmp_path, "a.jsonl", [row(1), {"prompt": None, "completion": "c"}, {"prompt": " ", "completion": "c"}])
        outcome = curate(tmp_path, {"file": "a.jsonl"})
        said = " ".join(capsys.readouterr().err.split())
        assert "missing column 'prompt' (1, first in row 2), empty user turn (1, first in row 3)" in said
        assert outcome.counts["dropped"] == 2

    def test_a_broken_parquet_file(self, tmp_path: Path) -> None:
        path = tmp_path / "a.parquet"
        table = pa.Table.from_pylist([row(number) for number in range(6000)])
        pq.write_table(table, path, row_group_size=3000, compression="zstd", write_page_checksum=True)
        content = bytearray(path.read_bytes())
        second = pq.ParquetFile(path).metadata.row_group(1).column(1)
        start = second.dictionary_page_offset or second.data_page_offset
        content[start + 20 : start + 40] = b"x" * 20
        path.write_bytes(content)
        with pytest.raises(UserError, match=rf"source 'a' \({path}\): damaged after row \d+"):
            curate(tmp_path, {"file": "a.parquet"})
        assert not (tmp_path / "out" / MIXTURE.name).exists()

    def test_more_rows_than_exist_after_rules(self, tmp_path: Path) -> None:
        save(tmp_path, "a.jsonl", [row(number) for number in range(10)] + [row(11, "ChatGPT ")])
        with pytest.raises(UserError) as error:
            curate(tmp_path, {"file": "a.jsonl", "count": 11}, rules={"keywords": ["ChatGPT"]})
        assert f"({tmp_path / 'a.jsonl'}): 11 rows are asked for, but only 10 are usable" in error.value.what
        assert "keywords: 'ChatGPT' (1, first in row 11)" in error.value.what
