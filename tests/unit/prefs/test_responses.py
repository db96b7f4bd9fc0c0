"""Who answers what, what was kept, and when a server counts as gone."""

import json
from collections import Counter
from pathlib import Path

import pytest
from prefs_support import prefs_config

from cameleer.core.errors import UserError
from cameleer.core.types import Message
from cameleer.model.journal import Journal, Ledger
from cameleer.model.pool import Outage, RecordedSource, Source, answer_all, open_endpoint
from cameleer.prefs.config import PrefsConfig
from cameleer.prefs.prompts import Prompt
from cameleer.prefs.responses import Slot, assign

PROMPTS = [Prompt(str(n), "p", (Message("user", f"Say {n}"),)) for n in range(400)]


class Endless:
    """A source that is never asked here."""

    def capacity(self, forms: object) -> int | None:
        return None

    def answers(self, slots: object) -> object:
        raise AssertionError


def config_of(names: list[str], **keys: object) -> PrefsConfig:
    models = [{"model": name, "endpoint": "http://x/v1"} for name in names]
    return prefs_config(prompts=[{"problems": "curate"}], models=models, **keys)


def names_of(names: list[str], **keys: object) -> list[list[str]]:
    pool: dict[str, Source] = {name: Endless() for name in names}  # type: ignore[dict-item]
    return [[slot.model for slot in slots] for slots in assign(PROMPTS, pool, config_of(names, **keys), 3)]


def test_four_models_of_the_pool_answer_each_prompt_and_all_as_often() -> None:
    names = ["a", "b", "c", "d", "e", "f"]
    drawn = names_of(names)
    assert all(len(set(each)) == 4 for each in drawn)
    for name, times in Counter(name for each in drawn for name in each).items():
        # Each model is among the 4 of 6 with probability 2/3; 5 standard deviations of 400 draws are 47.
        assert abs(times - 400 * 4 / 6) < 47, name


def test_on_policy_pairs_have_the_policy_on_one_side_and_in_no_fixed_place() -> None:
    drawn = names_of(["sft", "b", "c"], policy="sft", num_responses=2)
    assert all(each.count("sft") == 1 for each in drawn)
    first = sum(each[0] == "sft" for each in drawn)
    assert abs(first - 200) < 50
    assert Counter(name for each in drawn for name in each).keys() == {"sft", "b", "c"}


def test_a_small_pool_answers_in_turn() -> None:
    assert all(each == ["sft"] * 4 for each in names_of(["sft"]))
    assert all(sorted(Counter(each).values()) == [2, 2] for each in names_of(["a", "b"]))
    assert all(Counter(each)["sft"] == 1 for each in names_of(["sft", "b"], policy="sft"))


def test_a_file_answers_as_often_as_it_has_the_prompt(tmp_path: Path) -> None:
    rows = [{"prompt": "Say 0", "text": "zero"}, {"prompt": "Say 0", "text": "0"}, {"prompt": "Say 1", "text": None}]
    rows.append({"messages": [{"role": "user", "content": "Say 2"}], "text": "two", "finish_reason": "length"})  # type: ignore[dict-item]
    path = tmp_path / "recorded.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = RecordedSource(path)
    assert [source.capacity([prompt.messages]) for prompt in PROMPTS[:4]] == [2, 0, 1, 0]
    pool: dict[str, Source] = {"file": source}
    slots = list(assign(PROMPTS[:4], pool, config_of(["file"]), 0))
    assert [len(each) for each in slots] == [2, 0, 1, 0]
    kept: list[tuple[Slot, object]] = []
    failures: list[UserError] = []
    asked = [slot for each in slots for slot in each]
    found = list(answer_all(asked, pool, lambda slot, answer: kept.append((slot, answer)), failures.append))
    assert kept == found and not failures
    assert [answer.text for _, answer in found] == ["zero", "0", "two"]
    assert found[2][1].finish_reason == "length"


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
    model = {"model": "m", "endpoint": "http://x/v1", "budget_tokens": 100}
    table = prefs_config(prompts=[{"problems": "c"}], models=[model]).models[0]
    for expected in (0, 60, 120):
        endpoint, ledger = open_endpoint(table), Ledger(tmp_path / "spending.jsonl")
        ledger.restore("model m", endpoint)
        assert endpoint.spending.num_tokens == expected and (endpoint.used_up is not None) == (expected >= 100)
        for _ in range(3):
            endpoint.spending.add(15, 5)
            ledger.note("model m", endpoint)
        ledger.close()


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
