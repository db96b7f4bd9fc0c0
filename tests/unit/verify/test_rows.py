"""A file of rows becomes a file of verdicts, whole or not at all."""

import json
from pathlib import Path
from typing import Any

import pytest

from cameleer.core.errors import UserError
from cameleer.verify.rows import verify_rows


def row(number: int, response: str = "It is 5.", **changes: Any) -> dict[str, Any]:
    return {"id": number, "verifier": "number", "target": 5, "response": response} | changes


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in rows))
    return path


def test_verdicts_stand_in_the_order_of_the_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers = ["It is 5.", "It is 6.", "No idea."] * 30
    source = write(tmp_path / "rows.jsonl", [row(number, answer) for number, answer in enumerate(answers)])
    out = tmp_path / "verdicts.jsonl"
    assert verify_rows(source, out) == {"correct": 30, "wrong": 30, "unparseable": 30}
    verdicts = [json.loads(line) for line in out.read_text().splitlines()]
    assert [verdict["id"] for verdict in verdicts] == list(range(90))
    assert [verdict["outcome"] for verdict in verdicts] == ["correct", "wrong", "unparseable"] * 30
    assert verdicts[0].keys() == {"id", "outcome", "score", "detail", "seconds"}
    assert (verdicts[0]["score"], verdicts[1]["score"]) == (1.0, 0.0) and verdicts[0]["seconds"] >= 0
    assert "90 rows" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.jsonl", "verdicts.jsonl"]


def test_empty_lines_and_further_keys_are_passed_over(tmp_path: Path) -> None:
    source = tmp_path / "rows.jsonl"
    source.write_text("\n" + json.dumps(row(1, source="x")) + "\n\n")
    assert verify_rows(source, tmp_path / "out.jsonl") == {"correct": 1}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "is not JSON"),
        ("[1]", "is no JSON object"),
        ('{"id": 1}', "lacks verifier, target, response"),
        (json.dumps(row(1, verifier="numbr")), "unknown verifier 'numbr'. Did you mean 'number'"),
        (json.dumps(row(1, response=None)), "must be texts"),
        (json.dumps(row(1, target="five")), "target"),
    ],
)
def test_a_malformed_row_is_named_and_nothing_is_written(tmp_path: Path, line: str, said: str) -> None:
    source, out = tmp_path / "rows.jsonl", tmp_path / "verdicts.jsonl"
    source.write_text(json.dumps(row(0)) + "\n" + line + "\n")
    out.write_text("what was there before\n")
    with pytest.raises(UserError, match=r"rows\.jsonl, line 2") as caught:
        verify_rows(source, out)
    assert said in caught.value.what
    assert out.read_text() == "what was there before\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.jsonl", "verdicts.jsonl"]


def test_a_missing_file_and_a_file_onto_itself_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no file"):
        verify_rows(tmp_path / "none.jsonl", tmp_path / "out.jsonl")
    source = write(tmp_path / "rows.jsonl", [row(0)])
    with pytest.raises(UserError, match="would replace"):
        verify_rows(source, source)
    assert source.read_text()


@pytest.mark.parametrize(
    ("out", "settings", "said"),
    [
        (".", {}, "is a folder"),
        ("rows.jsonl/out.jsonl", {}, "cannot be written"),
        ("out.jsonl", {"num_workers": 0}, "at least 1, but is 0"),
        ("out.jsonl", {"num_workers": -1}, "at least 1, but is -1"),
        ("out.jsonl", {"deadline_seconds": 0.0}, "more than 0 seconds"),
        ("out.jsonl", {"deadline_seconds": float("nan")}, "more than 0 seconds"),
    ],
)
def test_settings_that_mean_nothing_are_refused_before_any_row_is_judged(
    tmp_path: Path, out: str, settings: dict[str, Any], said: str
) -> None:
    source = write(tmp_path / "rows.jsonl", [row(0, verifier="math")])
    with pytest.raises(UserError, match=said):
        verify_rows(source, tmp_path / out, **settings)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def test_half_of_a_character_in_a_response_ends_no_run(tmp_path: Path) -> None:
    rows, out = tmp_path / "rows.jsonl", tmp_path / "new" / "out.jsonl"
    rows.write_text('{"id": "\\ud83d", "verifier": "number", "target": "1", "response": "\\ud83d 1"}\n')
    assert verify_rows(rows, out) == {"correct": 1}
    assert json.loads(out.read_text())["outcome"] == "correct"
