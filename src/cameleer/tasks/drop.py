"""DROP (Dua et al. 2019): questions about a passage that take counting, comparing or arithmetic, 3-shot.

The settings are OLMES' `drop::llama3`: three examples of the train split and the question, each as blocks `Passage: …⏎
Question: …⏎Answer: …`, as plain text without a chat template; greedy, 50 tokens, stop at `Passage:`, `Question:` or a
blank line. The score is the F1 of `verify.text`. Items of one passage are a cluster.

The dataset is EleutherAI/drop, which OLMES reads: ucinlp/drop flattens its answers, so that several spans of one answer
cannot be told from several answers. Answers are the question's own and those of the validators, each once.

Departure: the paper draws its three examples at random, once. Here they are the train rows whose query ids hash lowest.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from cameleer.core.types import Problem
from cameleer.tasks.benchmark import Row, first_by_hash, rows
from cameleer.tasks.generate import dialogue
from cameleer.tasks.mirror import DatasetSplit
from cameleer.tasks.task import Decoding, Prompting, Split, Task, TaskRole

VALIDATION = DatasetSplit("EleutherAI/drop", "default", "validation")
TRAIN = DatasetSplit("EleutherAI/drop", "default", "train")

COLUMNS = ("section_id", "query_id", "passage", "question", "answer", "validated_answers")
NUM_SHOTS = 3

Answer = tuple[str, ...]
"""The spans of an answer; a number or a date is one span."""


def _answers(row: Row) -> list[Answer]:
    """The distinct answers of a row, its own first. Validators' answers that are empty are not counted."""
    own, others = row.fields["answer"], row.fields["validated_answers"]
    try:
        validated = [dict(zip(others, values, strict=True)) for values in zip(*others.values(), strict=True)]
        found = [_spans(answer) for answer in (own, *validated)]
    except (TypeError, KeyError, AttributeError, ValueError):
        raise row.fault("answer", "number, date and spans, with lists of them in 'validated_answers'") from None
    if not any(found):
        raise row.fault("answer", "a number, a date or spans")
    return list(dict.fromkeys(filter(None, found)))


def _spans(answer: dict[str, Any]) -> Answer:
    """The number, else the spans, else the date of an answer."""
    if number := answer["number"].strip():
        return (number,)
    if spans := tuple(span for span in answer["spans"] if span.strip()):
        return spans
    date = answer["date"]
    written = " ".join(part for part in (date["day"], date["month"], date["year"]) if part.strip())
    return (written,) if written else ()


def _kind(row: Row) -> str:
    answer = row.fields["answer"]
    return "number" if answer["number"].strip() else "spans" if answer["spans"] else "date"


def _problem(row: Row, examples: Sequence[str]) -> Problem:
    answers = _answers(row)
    messages = dialogue(["\n\n".join([*examples, _asked(row)])])
    target = {"rule": "f1", "answers": [list(answer) for answer in answers]}
    id, gold = f"drop/{row.text('query_id')}", " " + "\n".join(answers[0])
    own_texts, cluster = (row.text("passage"), row.text("question")), row.text("section_id")
    return Problem(id, "drop", _kind(row), messages, "text", target, gold, cluster=cluster, own_texts=own_texts)


def _asked(row: Row) -> str:
    return f"Passage: {row.text('passage')}\nQuestion: {row.text('question')}\nAnswer:"


def _written(answer: Answer) -> str:
    return ", ".join(answer)


def problems(seed: int) -> Iterator[Problem]:
    """The questions of the validation split, in order."""
    drawn = first_by_hash(list(rows(TRAIN, COLUMNS)), "query_id", NUM_SHOTS)
    examples = [f"{_asked(row)} {_written(_answers(row)[0])}" for row in drawn]
    return (_problem(row, examples) for row in rows(VALIDATION, COLUMNS))


def wrong_answer(problem: Problem) -> str:
    """A word that no answer has."""
    return " zzyzx"


TASKS = (
    Task(
        name="drop",
        version=1,
        role=TaskRole.DEV,
        split=Split.DEV,
        decoding=Decoding(50, stop=("Passage:", "Question:", "\n\n")),
        description="Questions about a passage that take discrete reasoning, 3-shot, without a chat template.",
        source=problems,
        wrong=wrong_answer,
        datasets=(VALIDATION, TRAIN),
        prompting=Prompting.PLAIN,
        metric="f1",
    ),
)
