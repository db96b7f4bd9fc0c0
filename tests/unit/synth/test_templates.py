"""What is read out of models' replies: prompts behind their marker, tests that call the function."""

import random

import pytest

from cameleer.synth.config import PromptKind
from cameleer.synth.templates import (
    EXAMPLES,
    MARKERS,
    PROMPT_TEMPLATES,
    ask_for_prompt,
    ask_for_tests,
    function_name,
    read_prompt,
    read_tests,
)

WRITTEN = [kind for kind in PromptKind if kind is not PromptKind.AUGMENTED]


@pytest.mark.parametrize("kind", WRITTEN)
def test_a_persona_its_rules_and_the_marker_are_in_what_is_asked(kind: PromptKind) -> None:
    *example, asked = ask_for_prompt(kind, "A baker by a lake", ["No commas.", "Use a title."], random.Random(0))
    text = asked.content
    assert [turn.role for turn in example] == ["user", "assistant"] and "A baker by a lake" not in example[0].content
    assert "A baker by a lake" in text and f'"{MARKERS[kind]}"' in text and "{" not in text
    assert ("* No commas.\n* Use a title." in text) == (kind is PromptKind.PRECISE_IF)
    assert len(set(PROMPT_TEMPLATES.values())) == len(WRITTEN)


@pytest.mark.parametrize("kind", WRITTEN)
def test_every_example_keeps_to_the_form_that_it_shows(kind: PromptKind) -> None:
    assert len({persona for persona, _ in EXAMPLES[kind]}) == 3
    for _, written in EXAMPLES[kind]:
        assert read_prompt(kind, f"{MARKERS[kind]} {written}") == written


@pytest.mark.parametrize(
    "reply, prompt",
    [
        ("Problem: How many eggs are in two dozen?", "How many eggs are in two dozen?"),
        ("Sure!\n\n**Problem:** How many eggs are in two dozen?\n", "How many eggs are in two dozen?"),
        ("problem: How many eggs\nare in two dozen?\n\nSolution: 24", "How many eggs\nare in two dozen?"),
        ("Problem: How many eggs are in two dozen?\n**Final Answer:** 24", "How many eggs are in two dozen?"),
        ("How many eggs are in two dozen?", None),
        ("Problem: eggs?", None),
        ("Problem: Solution: 24", None),
        ("Problem: " + "very " * 1000 + "long?", None),
        ("", None),
    ],
)
def test_a_prompt_stands_behind_its_marker(reply: str, prompt: str | None) -> None:
    assert read_prompt(PromptKind.MATH_HARD, reply) == prompt


def test_a_question_about_code_names_its_function() -> None:
    question = "Question: Write `mean_of(rows, k=2)` that returns the mean of `k` rows, as in `mean_of([1])`."
    assert read_prompt(PromptKind.CODE, question) is not None and function_name(question) == "mean_of"
    assert function_name("Write a function:\n\ndef total(items):\n") == "total"
    assert read_prompt(PromptKind.CODE, "Question: Write a function that adds two numbers together.") is None
    assert "`mean_of`" in ask_for_tests(question, "mean_of")[0].content


def test_tests_are_the_asserts_that_call_the_function_each_once() -> None:
    reply = """Here they are:
```python
import math
limit = 3
assert f(1) == 1
assert f(1) == 1
assert f(limit) == math.factorial(limit)
assert not f(-1), "negative"
assert True
print(f(4))
```
and that is all."""
    tests = read_tests(reply, "f")
    assert tests is not None and tests.setup == "import math\nlimit = 3"
    assert tests.statements == [
        "assert f(1) == 1", "assert f(limit) == math.factorial(limit)", "assert not f(-1), 'negative'",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "reply",
    ["", "no code", "```python\nassert f(1) == 1\nassert f(2) == 2\n```", "```python\nassert f(1 == 1\n```",
     "```python\nassert g(1) == 1\nassert g(2) == 2\nassert g(3) == 3\n```"],
)  # fmt: skip
def test_fewer_than_three_tests_are_none(reply: str) -> None:
    assert read_tests(reply, "f") is None
