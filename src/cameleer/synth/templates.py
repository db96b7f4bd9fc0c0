"""What models are asked, in our own words, and how what they write is read.

A prompt is what stands behind its marker up to where its author goes on with a solution of their own. A reply without
the marker, with nothing behind it or that was cut off makes no prompt. The aims are those of the Tülu 3 report (figures
30 to 36); tests, which it does not ask for, are written by a model that sees the question and no solution. Each request
for a prompt follows one that was answered, of three written by hand for its kind, as the report has it for precise
instructions: without it small models seldom keep to the form.
"""

import ast
import random
import re
from collections.abc import Sequence
from typing import NamedTuple

from cameleer.core.types import Conversation, Message
from cameleer.synth.config import PromptKind

MAX_PROMPT_CHARACTERS = 4_000
MIN_PROMPT_WORDS = 5
MIN_TESTS, MAX_TESTS = 3, 20

_PERSONA = "Here is a person:\n\n{persona}\n\n"
_WRITTEN = 'Write nothing but the {noun}, and begin with the words "{marker}"'

MARKERS = {
    PromptKind.PRECISE_IF: "Instruction:",
    PromptKind.MATH_HARD: "Problem:",
    PromptKind.MATH_GRADE_SCHOOL: "Problem:",
    PromptKind.MATH_ALGEBRA: "Problem:",
    PromptKind.CODE: "Question:",
}

PROMPT_TEMPLATES = {
    PromptKind.PRECISE_IF: (
        "Write one instruction that this person could give to an assistant. It asks for a text, is specific to the "
        "person's life or work, and can be answered from general knowledge. Rules about the form of the answer will be "
        "added to it, so that it must make sense together with these:\n\n{rules}\n\nDo not state these rules yourself. "
    ),
    PromptKind.MATH_HARD: (
        "Write one problem of mathematics that could arise in this person's life or work. It is hard: only somebody "
        "with a great gift for mathematics can solve it. It is complete, has one answer that can be written as a "
        "number or formula, and no more than two parts. "
    ),
    PromptKind.MATH_GRADE_SCHOOL: (
        "Write one word problem for grade school that could arise in this person's life or work. It takes a few steps "
        "of adding, subtracting, multiplying and dividing, states all numbers that are needed, and asks for one number "
        "at the end. "
    ),
    PromptKind.MATH_ALGEBRA: (
        "Write one problem of intermediate algebra that could arise in this person's life or work: polynomials, linear "
        "or quadratic equations, inequalities, rational expressions or radicals. It is complete and has one answer "
        "that can be written as a number or formula. "
    ),
    PromptKind.CODE: (
        "Write one question about Python that this person could ask on a site for programmers. It asks for one "
        "function, names it with its arguments as in `total_price(items, rate)`, and says what it is given and what it "
        "must return, with an example. A programmer of some experience can write it with the standard library alone, "
        "without files, network, chance or the time of day. "
    ),
}
EXAMPLES: dict[PromptKind, tuple[tuple[str, str], ...]] = {
    PromptKind.PRECISE_IF: (
        ("A night nurse in a port", "Write a message to the day shift about a quiet night on the ward."),
        ("A beekeeper on the plains", "Explain to a new neighbor why the hives are fed with sugar water in autumn."),
        ("A retired pilot by a lake", "Suggest a weekend program for two grandchildren who have never seen a glider."),
    ),
    PromptKind.MATH_HARD: (
        (
            "A watchmaker who restores tower clocks",
            "Two hands of a tower clock turn about one axis, the first once in 12 hours, the second once in 13 hours. "
            "They point up together at noon. What is the smallest number of hours after which they do so again?",
        ),
        (
            "A choir conductor with 20 singers",
            "A conductor lines up 20 singers of different heights so that nobody but the singers at the two ends is "
            "taller than both neighbors. In how many ways can this be done?",
        ),
        (
            "A surveyor in the mountains",
            "A surveyor marks points with whole coordinates in the plane until the midpoint of some two of them has "
            "whole coordinates, too. After how many points is this certain to have happened?",
        ),
    ),
    PromptKind.MATH_GRADE_SCHOOL: (
        (
            "A baker in a market town",
            "A baker sells 48 rolls in the morning at 2 dollars each. In the afternoon she sells half as many at 1 "
            "dollar each. How many dollars does she take in that day?",
        ),
        (
            "A bus driver who keeps hens",
            "A bus driver has 6 hens, and each lays 5 eggs a week. His family eats 12 eggs a week and he gives the "
            "rest away in boxes of 6. How many boxes does he give away each week?",
        ),
        (
            "A librarian with twins",
            "A library has 240 picture books. A third of them is lent out, and 15 of the others are being repaired. "
            "How many picture books stand on the shelves?",
        ),
    ),
    PromptKind.MATH_ALGEBRA: (
        (
            "A gardener in a suburb",
            "A rectangular bed is 3 meters longer than it is wide, and its area is 40 square meters. How many meters "
            "wide is it?",
        ),
        (
            "A mechanic who runs a workshop",
            "One mechanic can overhaul an engine in 6 hours, another one in 4 hours. How many hours do they take "
            "together?",
        ),
        (
            "A florist who sells at a fair",
            "The profit from x bouquets is -x^2 + 24x - 80 dollars. What is the largest number of bouquets with which "
            "there is no loss?",
        ),
    ),
    PromptKind.CODE: (
        (
            "A ferry captain who keeps a log",
            "I write down the minutes by which each trip is late. How do I write `longest_delay(minutes)`, which gets "
            "a list of whole numbers and must return the largest one, or 0 for an empty list? For example, "
            "`longest_delay([3, 12, 5])` is 12.",
        ),
        (
            "A translator who counts lines",
            "I charge for every 55 characters of a text, and a part of a line counts as a line. How do I write "
            "`billed_lines(text)`, which must return the number of lines that I bill? For example, "
            "`billed_lines('a' * 56)` is 2.",
        ),
        (
            "A shopkeeper with a card index",
            "My customers' cities are in a list, some of them several times. How do I write `most_common(cities)`, "
            "which must return the city that comes most often, the first of them where several do? For example, "
            "`most_common(['Rome', 'Bern', 'Rome'])` is 'Rome'.",
        ),
    ),
}
"""For each kind personas and prompts written by hand."""
EXAMPLE_RULES = ("Write at least 3 sentences.",)

_NOUNS = {PromptKind.PRECISE_IF: "instruction", PromptKind.CODE: "question"}

MATH_REQUEST = (
    "{problem}\n\nSolve it step by step, and end with this sentence, the answer in place of the dots: "
    "Final Answer: The final answer is $...$. I hope it is correct."
)
CODE_REQUEST = "{question}\n\nAnswer with one Python code block that holds the function and what it needs."
TESTS_REQUEST = (
    "A programmer is asked this:\n\n{question}\n\nWrite tests for the function `{name}`, not the function itself: one "
    "Python code block of at least five lines, each of the form `assert {name}(...) == ...`. Work out every expected "
    "value from the question with care, and cover ordinary and unusual arguments."
)

_SOLUTION = re.compile(r"^\W*(?:solution|answer|final answer|explanation|response)\b\W*:", re.IGNORECASE | re.MULTILINE)
_FENCE = re.compile(r"^[ \t]*```[^\n`]*\n(.*?)^[ \t]*```", re.MULTILINE | re.DOTALL)
_NAMED = re.compile(r"`\s*(?:def\s+)?([A-Za-z_]\w*)\s*\([^`]*\)?:?\s*`|\bdef\s+([A-Za-z_]\w*)\s*\(")


class Tests(NamedTuple):
    """What a program must do: statements that must not raise, and imports and values that they need."""

    statements: list[str]
    setup: str


def ask_for_prompt(kind: PromptKind, persona: str, rules: Sequence[str], rng: random.Random) -> Conversation:
    """What the writer of prompts is asked, after an example; `rules` are the instructions that will be added."""
    example, written = rng.choice(EXAMPLES[kind])
    return (
        Message("user", _asked(kind, example, EXAMPLE_RULES)),
        Message("assistant", f"{MARKERS[kind]} {written}"),
        Message("user", _asked(kind, persona, rules)),
    )


def _asked(kind: PromptKind, persona: str, rules: Sequence[str]) -> str:
    asked = PROMPT_TEMPLATES[kind].format(rules="\n".join(f"* {rule}" for rule in rules))
    ending = _WRITTEN.format(noun=_NOUNS.get(kind, "problem"), marker=MARKERS[kind])
    return _PERSONA.format(persona=persona) + asked + ending


def ask_for_answer(kind: PromptKind, prompt: str) -> str:
    """The user's turn that is answered, and that the row holds."""
    if kind.is_math:
        return MATH_REQUEST.format(problem=prompt)
    return CODE_REQUEST.format(question=prompt) if kind is PromptKind.CODE else prompt


def ask_for_tests(question: str, name: str) -> Conversation:
    """What the writer of tests is asked."""
    return (Message("user", TESTS_REQUEST.format(question=question, name=name)),)


def read_prompt(kind: PromptKind, reply: str) -> str | None:
    """The prompt that a reply holds; None where it keeps not to the form."""
    found = re.search(rf"^\W*{re.escape(MARKERS[kind])}\**", reply, re.IGNORECASE | re.MULTILINE)
    if found is None:
        return None
    rest = reply[found.end() :]
    solution = _SOLUTION.search(rest)
    prompt = rest[: solution.start() if solution else len(rest)].strip().strip('"').strip()
    is_sound = len(prompt) <= MAX_PROMPT_CHARACTERS and len(prompt.split()) >= MIN_PROMPT_WORDS
    if not is_sound or (kind is PromptKind.CODE and function_name(prompt) is None):
        return None
    return prompt


def function_name(question: str) -> str | None:
    """The function that a question about code asks for: the first that it names with its arguments."""
    found = _NAMED.search(question)
    return None if found is None else found[1] or found[2]


def read_tests(reply: str, name: str) -> Tests | None:
    """The asserts of a reply's code that call the function; None for fewer than `MIN_TESTS`, or code that is none."""
    blocks = _FENCE.findall(reply)
    try:
        tree = ast.parse("\n".join(blocks) if blocks else reply)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    asserts = [ast.unparse(node) for node in tree.body if isinstance(node, ast.Assert) and _calls(node, name)]
    distinct = list(dict.fromkeys(asserts))[:MAX_TESTS]
    needed = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom | ast.Assign)]
    setup = "\n".join(ast.unparse(node) for node in needed if not _calls(node, name))
    return Tests(distinct, setup) if len(distinct) >= MIN_TESTS else None


def _calls(tree: ast.AST, name: str) -> bool:
    return any(
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name
        for node in ast.walk(tree)
    )
