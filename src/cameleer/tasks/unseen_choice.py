"""The multiple-choice questions of Tülu 3's unseen suite: one prompt and one way of answering for all of them.

The prompt is that of the report's Figure 44, word for word, as OLMES renders it: instruction, question, one line for
each choice, reminder. It is zero-shot and answered greedily with up to 2,048 tokens; the answer is read by the ladder
`unseen` of `cameleer.verify.choice`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from cameleer.core.types import Problem
from cameleer.tasks.benchmark import LETTERS, hashed
from cameleer.tasks.generate import dialogue
from cameleer.tasks.task import Decoding

DECODING = Decoding(2048)
METRIC = "exact match"
ANY_LETTERS = "(A), (B), (C), (D), (E), etc."

_PROMPT = """\
Answer the following multiple-choice question by giving the correct answer letter in parentheses. Provide CONCISE \
reasoning for the answer, and make sure to finish the response with "Therefore, the answer is (ANSWER_LETTER)" where \
(ANSWER_LETTER) is one of {letters}

{question}
{choices}

Answer the above question and REMEMBER to finish your response with the exact phrase "Therefore, the answer is \
(ANSWER_LETTER)" where (ANSWER_LETTER) is one of {letters}"""


@dataclass(frozen=True, slots=True)
class Question:
    """A question with its choices in order; `answer` is the index of the right one."""

    text: str
    choices: Sequence[str]
    answer: int
    passage: str = ""


def choice_problem(id: str, family: str, question: Question, letters: str = ANY_LETTERS) -> Problem:
    """The problem of a question; `letters` is how the prompt lists them.

    The task's name is what stands before the first slash of `id`. A passage stands above the question, and the
    questions on it are a cluster.
    """
    assert 0 <= question.answer < len(question.choices) <= len(LETTERS), id
    choices = "\n".join(f" ({letter}) {text}" for letter, text in zip(LETTERS, question.choices, strict=False))
    text = f"{question.passage}\n\n" * bool(question.passage) + f"Question: {question.text}"
    answer = LETTERS[question.answer]
    return Problem(
        id=id,
        task=id.partition("/")[0],
        family=family,
        messages=dialogue([_PROMPT.format(letters=letters, question=text, choices=choices)]),
        verifier="choice",
        target={"answer": answer, "num_choices": len(question.choices), "ladder": "unseen"},
        gold=conclusion(answer),
        cluster=question.passage and f"{family}/{hashed(question.passage).hex()}",
        own_texts=tuple(filter(None, (question.passage, question.text))),
    )


def conclusion(letter: str) -> str:
    """The sentence that the prompt asks for."""
    return f"Therefore, the answer is ({letter})"


def wrong_answer(problem: Problem) -> str:
    """The sentence with another letter, which is no choice's where there is only one choice."""
    return conclusion("B" if problem.target["answer"] == "A" else "A")
