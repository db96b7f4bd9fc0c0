"""PopQA (Mallen et al. 2023): questions about entities of 16 relations, of which a closed book knows the popular ones.

The settings are OLMES' `popqa::tulu`: 15 worked examples, each an exchange `Q: … A:` and answer, and no instruction;
greedy, 15 tokens, stop at a blank line; right if any alias of the answer stands in the response.

Departure: the paper's examples are typed into its harness. Here they are one row of each relation, the one whose id
hashes lowest, in the order of the relations' names; an item sees the 15 of the other relations, as it does in OLMES.
These 16 rows are not evaluated.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from cameleer.core.errors import UserError
from cameleer.core.types import Problem
from cameleer.tasks.benchmark import Row, first_by_hash, rows, with_shots
from cameleer.tasks.mirror import DatasetSplit
from cameleer.tasks.task import Decoding, Split, Task, TaskRole

TEST = DatasetSplit("akariasai/PopQA", "default", "test")

COLUMNS = ("id", "question", "prop", "obj", "possible_answers")
NUM_RELATIONS = 16


def examples(questions: list[Row]) -> dict[str, Row]:
    """The example of each relation, by the relation's name. A UserError if there are not 16 relations."""
    relations: defaultdict[str, list[Row]] = defaultdict(list)
    for row in questions:
        relations[row.text("prop")].append(row)
    if len(relations) != NUM_RELATIONS:
        raise UserError(
            f"{TEST} has questions of {len(relations)} relations, but the benchmark has {NUM_RELATIONS}.",
            "The mirror's file is a part of it: fetch the whole split.",
        )
    return {name: first_by_hash(relations[name], "id", 1)[0] for name in sorted(relations)}


def _answers(row: Row) -> list[str]:
    """The aliases, which the hub keeps as a JSON list in a text."""
    try:
        found: Any = json.loads(row.text("possible_answers"))
    except ValueError:
        found = None
    named = [alias for alias in found if isinstance(alias, str) and alias.strip()] if isinstance(found, list) else []
    if not named:
        raise row.fault("possible_answers", "a JSON list of texts")
    return named


def _problem(row: Row, shown: Mapping[str, Row]) -> Problem:
    relation, answers = row.text("prop"), _answers(row)
    shots = [(_asked(shot), shot.text("obj")) for name, shot in shown.items() if name != relation]
    target = {"rule": "alias_substring", "answers": answers}
    messages = with_shots(shots, _asked(row))
    id, own_texts = f"popqa/{row.integer('id')}", (row.text("question"),)
    return Problem(id, "popqa", relation, messages, "text", target, answers[0], own_texts=own_texts)


def _asked(row: Row) -> str:
    return f"Q: {row.text('question')} A:"


def problems(seed: int) -> Iterator[Problem]:
    """The questions of the test split but for the examples, in order."""
    questions = list(rows(TEST, COLUMNS))
    shown = examples(questions)
    taken = {row.number for row in shown.values()}
    return (_problem(row, shown) for row in questions if row.number not in taken)


def wrong_answer(problem: Problem) -> str:
    """What no alias stands in: nothing."""
    return ""


TASKS = (
    Task(
        name="popqa",
        version=1,
        role=TaskRole.DEV,
        split=Split.DEV,
        decoding=Decoding(15, stop=("\n\n",)),
        description="Questions about entities, 15-shot, without a book.",
        source=problems,
        wrong=wrong_answer,
        datasets=(TEST,),
        metric="exact match",
    ),
)
