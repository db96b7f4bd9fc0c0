"""What each rule changes and drops, and that what it did can be seen and taken back."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from cameleer.core.artifact import Outcome
from cameleer.core.errors import UserError
from cameleer.core.mixture import MIXTURE
from cameleer.core.stage import StageRun
from cameleer.core.types import Conversation, Message
from cameleer.curate.config import CurateConfig, Rules
from cameleer.curate.dropped import CHANGED, DROPPED
from cameleer.curate.language import language_of
from cameleer.curate.rules import changed, objection, repeated
from cameleer.curate.run import CARD, run


def chat(answer: str, question: str = "What is it?") -> Conversation:
    return (Message("user", question), Message("assistant", answer))


def curate(folder: Path, rows: list[tuple[str, str]], **settings: Any) -> Outcome:
    lines = [json.dumps({"prompt": prompt, "completion": answer}) for prompt, answer in rows]
    (folder / "a.jsonl").write_text("\n".join(lines))
    (folder / "out").mkdir()
    config = CurateConfig.parse({"sources": [{"file": "a.jsonl"}], **settings}, "curate")
    return run(config, StageRun("curate", folder / "out", {"a": folder / "a.jsonl"}, "model", 0))


@pytest.mark.parametrize(
    ("rules", "text", "after", "names"),
    [
        ({"unicode": True}, "cafe\u0301", "caf\u00e9", ["unicode"]),
        ({"unicode": True}, "cafe", "cafe", []),
        ({"unicode": True}, "a\r\nb", "a\r\nb", []),
        ({"control_characters": True}, "\ufeffa\r\nb\rc\x00\x07d\te\n", "a\nb\ncd\te\n", ["control_characters"]),
        ({"control_characters": True}, "e\u0301 \u200d", "e\u0301 \u200d", []),
        ({"unicode": True, "control_characters": True}, "e\x00\u0301", "e\u0301", ["control_characters"]),
        ({}, "e\u0301\r\n", "e\u0301\r\n", []),
    ],
)
def test_what_a_rule_changes(rules: dict[str, Any], text: str, after: str, names: list[str]) -> None:
    assert changed(chat(text), Rules(**rules)) == (chat(after), names)


LONG = " ".join(f"word{number}" for number in range(60))


@pytest.mark.parametrize(
    ("rules", "conversation", "reason"),
    [
        ({"min_words": 5}, chat("no"), "min_words: fewer than 5"),
        ({"min_words": 4}, chat("no"), None),
        ({"max_words": 3}, chat("no"), "max_words: more than 3"),
        ({"max_words": 4}, chat("no"), None),
        ({"keywords": ("OpenAI", "Open AI")}, chat("I was made by open ai."), "keywords: 'Open AI'"),
        ({"keywords": ("OpenAI",)}, chat("OpenAIs"), None),
        ({"keywords": ("OpenAI",)}, chat("no", "Who is OpenAI?"), None),
        ({"keywords": ("C++",)}, chat("I like C++."), "keywords: 'C++'"),
        ({"refusals": True}, chat("I'm sorry, but I can't help with that."), "refusals"),
        ({"refusals": True}, chat("You can do that."), None),
        ({"max_repeated": 0.3}, chat(f"{LONG} {LONG}"), "max_repeated: more than 0.3"),
        ({"max_repeated": 0.3}, chat(LONG), None),
        ({"languages": ("en",)}, chat("Sie isst drei der sieben Äpfel, also bleiben vier übrig."), "languages: de"),
        ({"languages": ("de", "fr")}, chat("Sie isst drei der sieben Äpfel, also bleiben vier übrig."), None),
        ({"languages": ("en",)}, chat("42", "6 * 7"), None),
        ({"max_words": 3, "refusals": True}, chat("I can't do that."), "max_words: more than 3"),
    ],
)
def test_what_a_rule_drops(rules: dict[str, Any], conversation: Conversation, reason: str | None) -> None:
    assert objection(conversation, Rules(**rules)) == reason


def test_repeated_is_the_share_of_runs_that_came_before() -> None:
    """60 words twice: 116 runs of five, of which 60 - 4 = 56 come again; the 4 across the border are new."""
    assert repeated(f"{LONG} {LONG}") == pytest.approx(56 / 116)
    assert repeated(LONG) == 0
    assert repeated("again " * 49) == 0


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("How many of the apples are left if she eats three of them?", "en"),
        ("HOW MANY OF THE APPLES ARE LEFT IF SHE EATS THREE OF THEM?", "en"),
        ("Combien de pommes restent si elle en mange trois ?", "fr"),
        ("如果她吃了三个苹果，还剩下多少个苹果？请一步一步地思考。", "zh-cn"),
        ("彼女がりんごを三つ食べたら、いくつ残りますか。", "ja"),
        ("كم تفاحة تبقى إذا أكلت ثلاثا منها؟", "ar"),
        ("12 + 3 = ?", None),
        ("```python\nfor each in range(12): print(each)\n``` https://example.org/how-many", None),
        ("\ud800", None),
    ],
)
def test_languages_are_told_by_letters(text: str, language: str | None) -> None:
    assert language_of(text) == language


def test_every_change_and_drop_is_counted_and_can_be_taken_back(tmp_path: Path) -> None:
    rows = [
        ("plain?", "yes"),
        ("e\u0301?", "e\u0301\r\n"),
        ("who?", "ChatGPT"),
        ("\x00", "empty now"),
        ("r\x07", "ChatGPT"),
    ]
    rules = {"unicode": True, "control_characters": True, "keywords": ["ChatGPT"]}
    outcome = curate(tmp_path, rows, rules=rules)
    assert {row.messages for row in MIXTURE.read(tmp_path / "out")} == {chat("yes", "plain?"), chat("é\n", "é?")}
    facts = outcome.counts["sources"]["a"]
    assert facts["dropped"] == {"empty user turn": 1, "keywords: 'ChatGPT'": 2}
    assert facts["changed"] == {"control_characters": 2, "unicode": 1}
    columns = ("row", "reason", "messages")
    was = [tuple(row[key] for key in columns) for row in pq.read_table(tmp_path / "out" / CHANGED).to_pylist()]
    assert [each[:2] for each in was] == [(2, "unicode, control_characters"), (5, "control_characters")]
    assert was[0][2] == [{"role": "user", "content": "e\u0301?"}, {"role": "assistant", "content": "e\u0301\r\n"}]
    gone = pq.read_table(tmp_path / "out" / DROPPED).to_pylist()
    assert [(row["row"], row["messages"] is None) for row in gone] == [(3, False), (4, False), (5, False)]
    assert [turn["content"] for turn in gone[1]["messages"]] == ["\x00", "empty now"]
    assert gone[0]["messages"][1] == {"role": "assistant", "content": "ChatGPT"}
    card = (tmp_path / "out" / CARD).read_text()
    assert "| keywords: 'ChatGPT' | 2 |" in card and "| control_characters | 2 |" in card


def test_without_rules_text_stays_as_it_is(tmp_path: Path) -> None:
    outcome = curate(tmp_path, [("e\u0301\r\n", "\x00")])
    assert [row.messages for row in MIXTURE.read(tmp_path / "out")] == [chat("\x00", "e\u0301\r\n")]
    assert "changed" not in outcome.counts["sources"]["a"]
    assert not (tmp_path / "out" / CHANGED).exists()


def test_a_sources_own_rules_take_the_place_of_the_stages(tmp_path: Path) -> None:
    source = {"file": "a.jsonl", "rules": {"max_words": 100}}
    outcome = curate(tmp_path, [("who?", "ChatGPT")], sources=[source], rules={"keywords": ["ChatGPT"]})
    assert outcome.counts["rows"] == 1


def test_a_digest_tells_what_a_source_held_before_rules(tmp_path: Path) -> None:
    digests: list[str] = []
    for name, rows, rules in (
        ("one", [("a", "b\r\n")], {}),
        ("same", [("a", "b\r\n")], {"control_characters": True}),
        ("other", [("a", "b\n")], {}),
        ("two", [("a", "b"), ("c", "\x00")], {}),
        ("emptied", [("a", "b"), ("c", "\x00")], {"control_characters": True}),
        ("fewer", [("a", "b")], {}),
    ):
        (tmp_path / name).mkdir()
        digests.append(curate(tmp_path / name, rows, rules=rules).counts["sources"]["a"]["digest"])
    assert digests[0] == digests[1] != digests[2]
    assert digests[3] == digests[4] != digests[5]


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"languages": ["english"]}, "unknown language 'english'; known: af, ar"),
        ({"keywords": [" "]}, "a keyword is empty"),
        ({"min_words": 9, "max_words": 3}, "min_words = 9 and max_words = 3 leave no row"),
    ],
)
def test_rules_that_make_no_sense_are_refused(rules: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        CurateConfig.parse({"sources": [{"file": "a"}], "rules": rules}, "curate")
