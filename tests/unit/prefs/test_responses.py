"""Who answers what, and a file that stands in for a model."""

import json
from collections import Counter
from pathlib import Path

from prefs_support import prefs_config

from cameleer.core.errors import UserError
from cameleer.core.types import Message
from cameleer.model.pool import RecordedSource, Source, answer_all
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
    pool: dict[str, Source] = {name: Endless() for name in names}
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
    rows.append({"messages": [{"role": "user", "content": "Say 2"}], "text": "two", "finish_reason": "length"})
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
