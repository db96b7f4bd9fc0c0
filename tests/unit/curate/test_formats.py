import re
from typing import Any

import pytest

from cameleer.core.errors import UserError
from cameleer.core.types import Conversation, Message
from cameleer.curate.formats import FORMATS, Format, RowError, confirm, convert, own_id, recognise


def user(content: str) -> Message:
    return Message("user", content)


def assistant(content: str) -> Message:
    return Message("assistant", content)


def system(content: str) -> Message:
    return Message("system", content)


def converted(row: dict[str, Any]) -> Conversation:
    return convert(row, recognise([row], "here"))


TURNS = [{"role": "user", "content": " hi\n"}, {"role": "assistant", "content": "ho "}]

CONVERSIONS: list[tuple[dict[str, Any], Conversation]] = [
    ({"messages": TURNS}, (user(" hi\n"), assistant("ho "))),
    ({"conversation": TURNS}, (user(" hi\n"), assistant("ho "))),
    (
        {"messages": [{"role": "system", "content": ""}, *TURNS, *TURNS]},
        (system(""), user(" hi\n"), assistant("ho "), user(" hi\n"), assistant("ho ")),
    ),
    ({"messages": [*TURNS, {"role": "user", "content": "and?"}]}, (user(" hi\n"), assistant("ho "), user("and?"))),
    (
        {
            "conversations": [
                {"from": "system", "value": "s"},
                {"from": "human", "value": "h"},
                {"from": "gpt", "value": "g"},
            ]
        },
        (system("s"), user("h"), assistant("g")),
    ),
    ({"conversations": TURNS, "system": "s"}, (system("s"), user(" hi\n"), assistant("ho "))),
    # Parquet gives every turn all keys that any turn has.
    (
        {
            "messages": [
                {"role": None, "content": None, "from": "Human", "value": "h"},
                {"role": "Assistant", "content": "a"},
            ]
        },
        (user("h"), assistant("a")),
    ),
    ({"instruction": "i", "input": "x ", "output": "o"}, (user("i\n\nx "), assistant("o"))),
    ({"instruction": "i", "input": "", "output": "o"}, (user("i"), assistant("o"))),
    ({"instruction": "i", "output": "o", "text": "i o"}, (user("i"), assistant("o"))),
    ({"instruction": "i", "input": None, "response": "o"}, (user("i"), assistant("o"))),
    ({"instruction": "i", "context": "c", "response": "r", "category": "qa"}, (user("i\n\nc"), assistant("r"))),
    ({"instruction": "i", "completion": "c"}, (user("i"), assistant("c"))),
    ({"prompt": " p", "completion": " c"}, (user(" p"), assistant(" c"))),
    ({"prompt": "p", "response": "r"}, (user("p"), assistant("r"))),
    ({"prompt": "p", "answer": "a"}, (user("p"), assistant("a"))),
    ({"prompt": TURNS[:1], "completion": TURNS[1:]}, (user(" hi\n"), assistant("ho "))),
    ({"question": "q", "answer": "a"}, (user("q"), assistant("a"))),
    ({"context": "c", "question": "q", "answer": "a"}, (user("q\n\nc"), assistant("a"))),
    ({"system_prompt": "s", "question": "q", "response": "r"}, (system("s"), user("q"), assistant("r"))),
    ({"system_prompt": "", "question": "q", "response": "r"}, (user("q"), assistant("r"))),
    ({"problem": "p", "level": "5", "solution": "s", "answer": "a"}, (user("p"), assistant("s"))),
    ({"query": "q", "response": "r"}, (user("q"), assistant("r"))),
]


@pytest.mark.parametrize(("row", "conversation"), CONVERSIONS)
def test_a_common_format_is_recognised_and_converted(row: dict[str, Any], conversation: Conversation) -> None:
    assert converted(row) == conversation


def test_every_format_is_covered_above() -> None:
    assert {recognise([row], "here") for row, _ in CONVERSIONS} == set(FORMATS)


@pytest.mark.parametrize("name", ["user", "human", "prompter", "User", "HUMAN"])
def test_names_of_the_user(name: str) -> None:
    assert converted({"messages": [{"role": name, "content": "u"}, *TURNS[1:]]})[0] == user("u")


@pytest.mark.parametrize("name", ["assistant", "gpt", "chatgpt", "model", "bot", "ai", "GPT"])
def test_names_of_the_assistant(name: str) -> None:
    assert converted({"messages": [*TURNS[:1], {"role": name, "content": "a"}]})[1] == assistant("a")


def turns(*spoken: str) -> dict[str, Any]:
    """`u hi` is a user's turn `hi`; the others are `s`, `a` and, for an unknown role, `t`."""
    roles = {"s": "system", "u": "user", "a": "assistant", "t": "tool"}
    return {"messages": [{"role": roles[each[0]], "content": each[2:]} for each in spoken]}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"messages": []}, "no assistant turn"),
        (turns("s be", "u hi"), "no assistant turn"),
        (turns("u hi", "a "), "empty assistant turn"),
        (turns("u hi", "a \n\t "), "empty assistant turn"),
        (turns("u hi", "a x", "u z", "a "), "empty assistant turn"),
        (turns("u  ", "a x"), "empty user turn"),
        (turns("u hi", "t 3", "a x"), "unknown role 'tool'"),
        ({"messages": [{"role": "x" * 99, "content": ""}]}, f"unknown role '{'x' * 40}'"),
        ({"messages": [{"content": "hi"}]}, "a turn without a role"),
        ({"messages": [{"role": 3, "content": "hi"}]}, "a turn without a role"),
        ({"messages": ["hi"]}, "a turn is not an object"),
        ({"messages": [None]}, "a turn is not an object"),
        ({"messages": [{"role": "user"}]}, "content is not text"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]}, "content is not text"),
        ({"messages": "hi"}, "'messages' is not a list of turns"),
        ({"messages": None}, "missing column 'messages'"),
        ({"prompt": "p"}, "missing column 'messages'"),
        (turns("u hi", "u ho", "a x"), "roles do not alternate"),
        (turns("u hi", "a x", "a y"), "roles do not alternate"),
        (turns("a x", "u hi", "a y"), "first turn is not a user's"),
        (turns("u hi", "s be", "a x"), "system turn not first"),
        (turns("s be", "s be", "u hi", "a x"), "system turn not first"),
        ({"system": "be", **turns("s be", "u hi", "a x")}, "system turn not first"),
        ({"system": 3, **turns("u hi", "a x")}, "content is not text"),
    ],
)
def test_a_row_of_turns_that_does_not_fit_says_why(row: dict[str, Any], reason: str) -> None:
    format = recognise([turns("u hi", "a x")], "here")
    with pytest.raises(RowError) as error:
        convert(row, format)
    assert error.value.reason == reason


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"instruction": "i"}, "missing column 'output'"),
        ({"instruction": "i", "output": None}, "missing column 'output'"),
        ({"output": "o"}, "missing column 'instruction'"),
        ({"instruction": "i", "output": " "}, "empty assistant turn"),
        ({"instruction": "", "output": "o"}, "empty user turn"),
        ({"instruction": "i", "output": 3}, "content is not text"),
        ({"instruction": "i", "input": ["x"], "output": "o"}, "content is not text"),
        ({"instruction": TURNS[:1], "input": "x", "output": "o"}, "content is not text"),
    ],
)
def test_a_row_of_a_pair_that_does_not_fit_says_why(row: dict[str, Any], reason: str) -> None:
    format = recognise([{"instruction": "i", "input": "", "output": "o"}], "here")
    with pytest.raises(RowError) as error:
        convert(row, format)
    assert error.value.reason == reason


def test_most_of_the_first_rows_decide() -> None:
    pair, chat = {"prompt": "p", "completion": "c"}, {"messages": TURNS}
    assert recognise([pair, chat, chat], "here").name == "messages"
    assert recognise([pair, pair, chat], "here").name == "prompt + completion"
    assert recognise([{"note": "?"}, pair], "here").name == "prompt + completion"


def test_turns_are_preferred_to_a_prompt_beside_them() -> None:
    assert recognise([{"id": "1", "prompt": "p", "response": "r", "messages": TURNS}], "here").name == "messages"
    assert recognise([{"prompt": "p", "response": "r", "messages": None}], "here").name == "prompt + response"


def test_an_unrecognised_source_lists_columns_and_formats() -> None:
    with pytest.raises(UserError) as error:
        recognise([{"text": "a", "label": 3}, {"url": "b"}], "source 'x' (x.jsonl)")
    assert error.value.what == "source 'x' (x.jsonl): no known chat format. Columns: text, label, url."
    assert error.value.hint is not None
    for format in FORMATS:
        assert format.name in error.value.hint
    assert "fields = { prompt = " in error.value.hint


@pytest.mark.parametrize(
    ("row", "fix"),
    [
        ({"prompt": "p", "chosen": "c", "rejected": "r"}, "fields = { prompt = 'prompt', completion = 'chosen' }"),
        ({"prompt": "p", "chosen": TURNS, "rejected": TURNS}, "fields = { messages = 'chosen' }"),
        ({"chosen": TURNS, "rejected": TURNS, "messages": TURNS}, "fields = { messages = 'chosen' }"),
        ({"prompt": "p", "completion": "c", "label": False}, "Keep the rows whose label is true"),
    ],
)
def test_preferences_are_refused(row: dict[str, Any], fix: str) -> None:
    with pytest.raises(UserError, match=r"^here: .* not conversations to train on") as error:
        recognise([row], "here")
    assert fix in str(error.value.hint)


def test_named_columns_are_the_only_ones_read() -> None:
    format = Format(prompt="q", completion="a", inputs=("facts",), systems=("persona",))
    row = {"q": "?", "a": "!", "facts": "f", "persona": "p", "system": "no", "input": "no", "messages": TURNS}
    assert convert(row, format) == (system("p"), user("?\n\nf"), assistant("!"))


def test_a_named_column_that_is_not_there_is_an_error() -> None:
    format = Format(prompt="questoin", completion="answer")
    with pytest.raises(UserError, match=re.escape("'questoin', which is not there. Did you mean 'question'?")):
        confirm(format, [{"question": "q"}, {"answer": "a"}], "here")
    confirm(Format(prompt="question", completion="answer"), [{"question": "q"}, {"answer": "a"}], "here")


@pytest.mark.parametrize(
    ("value", "id"),
    [
        ("a/7", "a/7"),
        (7, "7"),
        (0, "0"),
        ("", None),
        (None, None),
        (True, None),
        (1.5, None),
        ("a\nb", None),
        ("\ud800", None),
    ],
)
def test_a_rows_own_id(value: object, id: str | None) -> None:
    assert own_id({"id": value}, Format(messages="messages")) == id
    assert own_id({"key": value}, Format(messages="messages", id="key")) == id
    assert own_id({}, Format(messages="messages")) is None
