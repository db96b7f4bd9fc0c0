"""The pool of models: what was kept, what a budget counts, and when a server counts as gone."""

from pathlib import Path

import pytest

from cameleer.core.errors import UserError
from cameleer.core.served import ModelConfig
from cameleer.model.journal import Journal, Ledger
from cameleer.model.pool import Outage, RecordedSource, open_endpoint


@pytest.mark.parametrize("line", ["not JSON", "[]", '{"prompt": "x"}', '{"text": "y"}', '{"messages": 3, "text": "y"}'])
def test_a_line_that_is_no_recorded_response_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "r.jsonl").write_text(f'{{"prompt": "x", "text": "y"}}\n{line}\n')
    with pytest.raises(UserError, match="line 2: no recorded response"):
        RecordedSource(tmp_path / "r.jsonl")


def test_a_journal_cut_off_anywhere_keeps_its_whole_lines_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    journal = Journal(path)
    for number in range(3):
        journal.append({"n": number, "text": "é\n"})
    journal.close()
    whole = path.read_bytes()
    for end in range(len(whole) + 1):
        path.write_bytes(whole[:end])
        cut = Journal(path)
        num_lines = whole[:end].count(b"\n")
        assert [row["n"] for row in cut.rows] == list(range(num_lines))
        cut.append({"n": 9})
        cut.close()
        assert [row["n"] for row in Journal(path).rows] == [*range(num_lines), 9]


def test_a_budget_counts_what_earlier_processes_have_used(tmp_path: Path) -> None:
    table = ModelConfig.parse({"model": "m", "endpoint": "http://x/v1", "budget_tokens": 100}, where="models")
    for expected in (0, 60, 120):
        endpoint, ledger = open_endpoint(table), Ledger(tmp_path / "spending.jsonl")
        ledger.restore("model m", endpoint)
        assert endpoint.spending.num_tokens == expected and (endpoint.used_up is not None) == (expected >= 100)
        for _ in range(3):
            endpoint.spending.add(15, 5)
            ledger.note("model m")
        ledger.close()
        used = {"prompt_tokens": expected * 3 // 4 + 45, "completion_tokens": expected // 4 + 15}
        assert ledger.spending() == {"model m": {**used, "unmetered_replies": 0, "cost": None}}


def test_only_failures_without_an_answer_between_mean_that_a_server_is_gone() -> None:
    outage = Outage("model m", 3)
    for failure in ["down: x", "timeout: x", None, "down: x", "down: x", None]:
        outage.note(failure)
    for _ in range(10):
        outage.note("refused: filtered")
    with pytest.raises(UserError, match="model m: 3 requests in a row failed, the last with server_error: x"):
        for _ in range(3):
            outage.note("server_error: x")
    never = Outage("model m", 2)
    never.note("refused: x")
    with pytest.raises(UserError):
        never.note("refused: x")
