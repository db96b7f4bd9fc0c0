"""What models are asked, in our own words, and how what they write is read.

A prompt is what stands behind its marker up to where its author goes on with a solution of their own. A reply without
the marker, with nothing behind it or that was cut off makes no prompt. The aims are those of the Tülu 3 report (figures
30 to 36); tests, which it does not ask for, are written by a model that sees the question and no solution.
"""

import ast
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


def ask_for_prompt(kind: PromptKind, persona: str, rules: Sequence[str]) -> Conversation:
    """What the writer of prompts is asked; `rules` are the instructions that will be added."""
    asked = PROMPT_TEMPLATES[kind].format(rules="\n".join(f"* {rule}" for rule in rules))
    ending = _WRITTEN.format(noun=_NOUNS.get(kind, "problem"), marker=MARKERS[kind])
    return (Message("user", _PERSONA.format(persona=persona) + asked + ending),)


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
