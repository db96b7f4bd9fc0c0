"""MMLU (Hendrycks et al. 2021): multiple-choice questions in 57 subjects, zero-shot with summarised reasoning.

The settings are OLMES' `mmlu:cot::summarize`, which the Tülu 3 report uses: the instruction of its Table 44 and the
question in one user turn, greedy, 512 tokens, stop at `Question:`, mean over the subjects. (The published suite
`tulu_3_dev` names the 5-shot `mmlu:mc::tulu` instead; the paper's tables do not.)
"""

from collections.abc import Iterator

from cameleer.core.types import Problem
from cameleer.tasks.benchmark import LETTERS, Row, rows, wrong_letter
from cameleer.tasks.generate import dialogue
from cameleer.tasks.mirror import DatasetSplit
from cameleer.tasks.task import Average, Decoding, Split, Task, TaskRole

TEST = DatasetSplit("cais/mmlu", "all", "test")

NUM_CHOICES = 4
INSTRUCTION = (
    "The following are multiple choice questions about {subject}. Summarize your reasoning concisely, then conclude "
    "with 'Therefore, the answer is: X' where X is one of A, B, C, or D.\n\n"
)


def _problem(row: Row) -> Problem:
    choices, answer, subject = row.texts("choices"), row.integer("answer"), row.text("subject")
    if len(choices) != NUM_CHOICES:
        raise row.fault("choices", f"{NUM_CHOICES} texts")
    if answer not in range(NUM_CHOICES):
        raise row.fault("answer", f"a number from 0 to {NUM_CHOICES - 1}")
    listed = "".join(f" {letter}. {choice}\n" for letter, choice in zip(LETTERS, choices, strict=False))
    prompt = INSTRUCTION.format(subject=subject.replace("_", " ")) + f"Question: {row.text('question')}\n{listed}"
    target = {"answer": LETTERS[answer], "num_choices": NUM_CHOICES, "ladder": "mmlu"}
    gold = conclusion(LETTERS[answer])
    own_texts = (row.text("question"),)
    return Problem(
        f"mmlu/{row.index}", "mmlu", subject, dialogue([prompt]), "choice", target, gold, own_texts=own_texts
    )


def conclusion(letter: str) -> str:
    """The sentence that the instruction asks for."""
    return f"Therefore, the answer is: {letter}"


def problems(seed: int) -> Iterator[Problem]:
    """The questions of the test split, in order."""
    return map(_problem, rows(TEST, ["question", "subject", "choices", "answer"]))


def wrong_answer(problem: Problem) -> str:
    """The sentence with another letter."""
    return conclusion(wrong_letter(problem.target["answer"], NUM_CHOICES))


TASKS = (
    Task(
        name="mmlu",
        version=1,
        role=TaskRole.DEV,
        split=Split.DEV,
        decoding=Decoding(512, stop=("Question:",)),
        description="Multiple-choice questions in 57 subjects, zero-shot with summarised reasoning.",
        source=problems,
        wrong=wrong_answer,
        datasets=(TEST,),
        metric="exact match",
        average=Average.FAMILIES,
    ),
)
