"""What follows from overlaps: which sources are contaminated, which rows go, and what the certificate says."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dev_suite_rows import suite_rows

from cameleer.core.artifact import Outcome
from cameleer.core.errors import UserError
from cameleer.core.mixture import MIXTURE
from cameleer.core.stage import StageRun
from cameleer.curate.config import CurateConfig, Decontaminate
from cameleer.curate.decontaminate import OVERLAPS, Evaluations, add_task
from cameleer.curate.dropped import DROPPED
from cameleer.curate.run import CARD, run
from cameleer.curate.standalone import SUMMARY, Request, decontaminate
from cameleer.pipeline import read_recipe
from cameleer.tasks import find_task

TASK = "word-arithmetic-dev"


def questions(count: int = 200) -> list[str]:
    """Items of a generated evaluation, one user turn each or more, as the stage sees them under seed 0."""
    return [problem.messages[-1].content for problem in find_task(TASK).problems(count, 0)]


def long_questions(count: int) -> list[str]:
    """Such as cannot but overlap when they are copied."""
    alone = [each.messages[0].content for each in find_task(TASK).problems(200, 0) if len(each.messages) == 1]
    return [text for text in alone if len(text.split()) > 15][:count]


def save(path: Path, prompts: list[str]) -> None:
    lines = [{"prompt": prompt, "completion": f"answer {number}"} for number, prompt in enumerate(prompts)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def harmless(count: int, topic: str = "stone") -> list[str]:
    return [f"Tell me about the {topic} number {number} and what else there is to say." for number in range(count)]


def curate(folder: Path, rules: dict[str, Any], *sources: dict[str, Any], **settings: Any) -> Outcome:
    table = {"sources": list(sources), "decontaminate": {"tasks": [TASK], **rules}, **settings}
    config = CurateConfig.parse(table, "curate")
    (folder / "out").mkdir(exist_ok=True)
    files = {each.role: folder / each.reference for each in config.inputs()}
    return run(config, StageRun("curate", folder / "out", files, "model", 0))


def prompts(folder: Path) -> set[str]:
    return {row.messages[0].content for row in MIXTURE.read(folder / "out")}


def overlap_lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / OVERLAPS).read_text().splitlines()]


def test_rows_of_a_contaminated_source_are_dropped_with_item_and_share(tmp_path: Path) -> None:
    """5 of 200 items are 2.5%, more than 2%."""
    copied = long_questions(5)
    save(tmp_path / "a.jsonl", [*harmless(20), *copied])
    outcome = curate(tmp_path, {"policy": "remove"}, {"file": "a.jsonl"})
    assert prompts(tmp_path) == set(harmless(20))
    dropped = pq.read_table(tmp_path / "out" / DROPPED).to_pylist()
    assert len(dropped) == 5
    assert all(row["reason"].startswith(f"overlaps {TASK}/") and row["reason"].endswith("(1.00)") for row in dropped)
    assert outcome.counts["sources"]["a"]["dropped"] == {f"overlaps {TASK}": 5}
    [found] = outcome.counts["decontamination"]["sources"].values()
    assert found["removed"] == 5 and found["overlaps"][TASK]["contaminated"]
    assert outcome.summary["overlapping_items"] == 0
    assert f"| a | {TASK} |" in (tmp_path / "out" / CARD).read_text()


def test_as_many_items_as_the_limit_allows_are_not_more_and_what_is_left_is_told(tmp_path: Path) -> None:
    save(tmp_path / "a.jsonl", [*harmless(20), *long_questions(1)])
    outcome = curate(tmp_path, {}, {"file": "a.jsonl"})
    count = len({line["eval_id"] for line in overlap_lines(tmp_path / "out")})
    assert outcome.summary["overlapping_items"] == count > 0
    curate(tmp_path, {"policy": "remove", "max_overlap": count / 200}, {"file": "a.jsonl"})
    assert len(prompts(tmp_path)) == 21
    curate(tmp_path, {"policy": "remove", "max_overlap": (count - 1) / 200}, {"file": "a.jsonl"})
    assert len(prompts(tmp_path)) == 20


def test_a_report_drops_nothing(tmp_path: Path) -> None:
    save(tmp_path / "a.jsonl", [*harmless(20), *long_questions(50)])
    outcome = curate(tmp_path, {}, {"file": "a.jsonl"})
    assert len(prompts(tmp_path)) == 70
    assert outcome.counts["decontamination"]["sources"]["a"]["overlaps"][TASK]["contaminated"]


def test_a_contaminated_source_is_dropped_whole_and_the_others_stay(tmp_path: Path) -> None:
    save(tmp_path / "a.jsonl", [*harmless(20), *long_questions(50)])
    save(tmp_path / "b.jsonl", harmless(30, "river"))
    outcome = curate(tmp_path, {"policy": "drop_source"}, {"file": "a.jsonl"}, {"file": "b.jsonl"})
    assert prompts(tmp_path) == set(harmless(30, "river"))
    assert pq.read_table(tmp_path / "out" / DROPPED).num_rows == 70
    assert list(outcome.counts["sources"]) == ["b"]
    assert outcome.counts["decontamination"]["sources"]["a"]["removed"] == 70


def test_a_source_that_must_give_rows_is_not_dropped_silently(tmp_path: Path) -> None:
    save(tmp_path / "a.jsonl", [*harmless(20), *long_questions(50)])
    with pytest.raises(UserError, match=r"source 'a': its source overlaps .* of word-arithmetic-dev.*count = 5"):
        curate(tmp_path, {"policy": "drop_source"}, {"file": "a.jsonl", "count": 5})


def test_fewer_rows_than_asked_for_are_an_error_that_names_the_reason(tmp_path: Path) -> None:
    save(tmp_path / "a.jsonl", [*harmless(20), *long_questions(10)])
    with pytest.raises(UserError, match=r"25 rows are asked for, but only 20 are usable.*overlaps word-arithmetic-dev"):
        curate(tmp_path, {"policy": "remove"}, {"file": "a.jsonl", "count": 25})


def test_an_earlier_answer_is_no_prompt(tmp_path: Path) -> None:
    """Only user turns count: an item in an assistant's turn is no overlap."""
    turns = [{"role": "user", "content": "Hello, say something."}]
    rows = [{"messages": [*turns, {"role": "assistant", "content": text}]} for text in long_questions(20)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    curate(tmp_path, {"policy": "remove"}, {"file": "a.jsonl"})
    assert overlap_lines(tmp_path / "out") == []


def test_a_recipe_is_checked_against_what_it_evaluates(tmp_path: Path) -> None:
    save(tmp_path / "a.jsonl", harmless(3))
    text = """
name = "r"
model = "m"
[curate]
[[curate.sources]]
file = "a.jsonl"
[eval]
models = ["base"]
tasks = ["quickstart-dev", "gsm8k", "mmlu-pro"]
num_items = 300
"""
    (tmp_path / "r.toml").write_text(text)
    config = read_recipe(tmp_path / "r.toml").stage("curate").config
    assert isinstance(config, CurateConfig)
    assert config.decontaminate.tasks == ("word-arithmetic-dev", "precise-if-dev", "gsm8k", "mmlu-pro")
    assert config.decontaminate.num_generated == 300
    (tmp_path / "r.toml").write_text(text.replace("[eval]", "[curate.decontaminate]\ntasks = []\n[eval]"))
    config = read_recipe(tmp_path / "r.toml").stage("curate").config
    assert isinstance(config, CurateConfig)
    assert config.decontaminate.tasks == ()


def test_a_benchmark_that_the_mirror_lacks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMELEER_MIRROR", str(tmp_path / "mirror"))
    save(tmp_path / "a.jsonl", harmless(3))
    with pytest.raises(UserError, match=r"decontamination against 'gsm8k': The mirror has no allenai/RLVR-GSM"):
        curate(tmp_path, {"tasks": ["gsm8k"]}, {"file": "a.jsonl"})


def test_an_unknown_evaluation_is_an_error() -> None:
    with pytest.raises(UserError, match=r"decontaminate\.tasks: unknown task 'gsm8'\. Did you mean 'gsm8k'"):
        Decontaminate.parse({"tasks": ["gsm8"]}, "decontaminate")


def test_items_are_the_own_texts_of_problems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DROP's items are passage and question, without the worked examples that stand in the prompt."""
    monkeypatch.setenv("CAMELEER_MIRROR", str(tmp_path))
    for split, rows in suite_rows().items():
        split.folder.mkdir(parents=True, exist_ok=True)
        (split.folder / f"{split.split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    evaluations = Evaluations()
    add_task(evaluations, "drop", 1, 0)
    for item, problem in zip(evaluations.items, find_task("drop").problems(None, 0), strict=True):
        passage, question = item.fields
        assert problem.messages[-1].content.endswith(f"Passage: {passage}\nQuestion: {question}\nAnswer:")
        assert problem.messages[-1].content.count("Question:") == 4
    assert evaluations.facts["drop"]["items"] == len(evaluations.items) == 2


# --- without a recipe ---


def write_files(folder: Path) -> tuple[str, str]:
    items = [{"id": f"q{number}", "question": text} for number, text in enumerate(long_questions(30))]
    (folder / "test.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    rows = [{"prompt": text, "other": number} for number, text in enumerate([*harmless(10), *long_questions(3)])]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"x": 1}\nnot json\n')
    return str(folder / "train.jsonl"), f"mine={folder / 'test.jsonl'}"


def test_files_are_compared_and_left_clean(tmp_path: Path) -> None:
    train, test = write_files(tmp_path)
    summary = decontaminate(Request([train], [test]), Decontaminate.parse({"policy": "remove"}, ""), tmp_path / "out")
    lines = overlap_lines(tmp_path / "out")
    assert {"train/11", "train/12", "train/13"} == {line["train_id"] for line in lines}
    assert {line["eval_task"] for line in lines} == {"mine"}
    assert all(set(line) >= {"train_id", "eval_task", "eval_id", "share", "matched_text"} for line in lines)
    clean = [json.loads(line) for line in (tmp_path / "out" / "clean.train.jsonl").read_text().splitlines()]
    assert clean == [{"prompt": text, "other": number} for number, text in enumerate(harmless(10))]
    assert json.loads((tmp_path / "out" / SUMMARY).read_text()) == summary
    assert summary["unreadable"]["train"]["no column with a prompt"] == {"rows": 1, "first": [14]}
    assert sum(each["rows"] for each in summary["unreadable"]["train"].values()) == 2


def test_parquet_stays_parquet_with_its_columns_and_types(tmp_path: Path) -> None:
    _, test = write_files(tmp_path)
    table = pa.table({"prompt": [*harmless(10), *long_questions(3)], "score": pa.array(range(13), pa.int8())})
    pq.write_table(table, tmp_path / "train.parquet")
    decontaminate(
        Request([str(tmp_path / "train.parquet")], [test], num_workers=2),
        Decontaminate.parse({"policy": "remove"}, ""),
        tmp_path / "out",
    )
    assert pq.read_table(tmp_path / "out" / "clean.train.parquet").equals(table.slice(0, 10))


def test_named_columns_are_the_fields(tmp_path: Path) -> None:
    passage, question = long_questions(2)
    (tmp_path / "e.jsonl").write_text(json.dumps({"p": passage, "q": question, "note": "x"}) + "\n")
    (tmp_path / "t.jsonl").write_text(json.dumps({"a": passage, "b": question}) + "\n")
    half = Request([str(tmp_path / "t.jsonl")], [str(tmp_path / "e.jsonl")], ["a"], ["p", "q"])
    both = Request([str(tmp_path / "t.jsonl")], [str(tmp_path / "e.jsonl")], ["a", "b"], ["p", "q"])
    rules = Decontaminate.parse({}, "")
    assert decontaminate(half, rules, tmp_path / "half")["sources"]["t"]["overlaps"] == {}
    assert decontaminate(both, rules, tmp_path / "both")["sources"]["t"]["overlaps"]["e"]["items"] == 1


@pytest.mark.parametrize(
    ("train", "evaluation", "message"),
    [
        ("nowhere.jsonl", "gsm8k", "nowhere.jsonl: no such file"),
        ("{train}", "gsm8kk", "Unknown task 'gsm8kk'"),
        ("{train}", "nowhere.jsonl", "nowhere.jsonl: no such file"),
        ("{test}", "{train}", "row 14: no column with a prompt"),
        ("{bare}", "{test}", "no row has a prompt"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, train: str, evaluation: str, message: str) -> None:
    files = dict(zip(("train", "test"), write_files(tmp_path), strict=True))
    (tmp_path / "bare.jsonl").write_text('{"x": 1}\n')
    files |= {"bare": str(tmp_path / "bare.jsonl")}
    request = Request([train.format(**files)], [evaluation.format(**files)])
    with pytest.raises(UserError, match=message):
        decontaminate(request, Decontaminate(), tmp_path / "out")
