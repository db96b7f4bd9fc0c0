"""GSM8K (Cobbe et al. 2021): grade-school word problems, with Tülu 3's settings, and its training task for RLVR.

`gsm8k` follows OLMES' `gsm8k::tulu`: test split, the eight worked examples of Wei et al. 2022 each as an exchange
`Question: …` and `Answer: …`, the assistant's turn begun with `Answer:`, greedy, 512 tokens; the last number counts.

`gsm8k-train` is the prompt of Tülu 3's RLVR on the train split: the same examples and the question in one user turn.
Verifier and target are the evaluation's.

The examples are read from the prompt of the first row of allenai/RLVR-GSM, which holds them as published. Of the
publisher's solutions, which are the gold responses, the calculator's annotations `<<…>>` are deleted.
"""

import re
from collections.abc import Iterator
from functools import partial

from cameleer.core.types import Conversation, Problem
from cameleer.tasks.benchmark import Row, Shot, examples_in_prompt, rows, with_shots
from cameleer.tasks.generate import dialogue
from cameleer.tasks.mirror import DatasetSplit
from cameleer.tasks.task import Decoding, Split, Task, TaskRole

TEST = DatasetSplit("openai/gsm8k", "main", "test")
TRAIN = DatasetSplit("openai/gsm8k", "main", "train")
EXAMPLES = DatasetSplit("allenai/RLVR-GSM", "default", "train")

NUM_SHOTS = 8
PREFIX = "Answer:"

_ANNOTATION = re.compile(r"<<[^<>]*>>")
_FINAL = re.compile(r"\n#### *(-?[0-9][0-9,]*)\s*\Z")


def _evaluated(shots: tuple[Shot, ...], question: str) -> Conversation:
    spoken = [(f"Question: {asked}", f"{PREFIX} {answer}") for asked, answer in shots]
    return with_shots(spoken, f"Question: {question}")


def _trained(shots: tuple[Shot, ...], question: str) -> Conversation:
    blocks = [f"Question: {asked}\nAnswer:{answer}" for asked, answer in shots]
    return dialogue(["\n\n".join([*blocks, f"Question: {question}"])])


def _problem(row: Row, task: str, shots: tuple[Shot, ...]) -> Problem:
    final = _FINAL.search(row.text("answer"))
    if final is None:
        raise row.fault("answer", "a solution that ends with a line '#### number'")
    solution = _ANNOTATION.sub("", row.text("answer")[: final.start()])
    target, evaluated = final[1].replace(",", ""), task == "gsm8k"
    question = row.text("question")
    messages = (_evaluated if evaluated else _trained)(shots, question)
    gold = f"{' ' if evaluated else ''}{solution}\nSo the answer is {target}."
    id, prefix = f"{task}/{row.index}", PREFIX if evaluated else ""
    return Problem(id, task, "gsm8k", messages, "number", target, gold, prefix=prefix, own_texts=(question,))


def problems(seed: int, task: str, split: DatasetSplit) -> Iterator[Problem]:
    """The problems of a split, in order."""
    shots = examples_in_prompt(EXAMPLES, NUM_SHOTS)
    for row in rows(split, ["question", "answer"]):
        yield _problem(row, task, shots)


def wrong_answer(problem: Problem) -> str:
    """A sentence with the right number and one more digit."""
    return f"So the answer is {problem.target}1."


TASKS = (
    Task(
        name="gsm8k",
        version=1,
        role=TaskRole.DEV,
        split=Split.DEV,
        decoding=Decoding(512, stop=("Question:", "</s>", "<|im_end|>")),
        description="Grade-school word problems, 8-shot with chain of thought.",
        source=partial(problems, task="gsm8k", split=TEST),
        wrong=wrong_answer,
        datasets=(TEST, EXAMPLES),
        metric="exact match",
    ),
    Task(
        name="gsm8k-train",
        version=1,
        role=TaskRole.TRAIN,
        split=Split.TRAIN,
        decoding=Decoding(2048, temperature=1.0),
        description="GSM8K's train split with the prompt of Tülu 3's RLVR.",
        source=partial(problems, task="gsm8k-train", split=TRAIN),
        wrong=wrong_answer,
        datasets=(TRAIN, EXAMPLES),
        metric="exact match",
    ),
)
