"""Rows about the model itself: questions and answers of a template, with names filled in.

Tülu 3 has 24 such prompts with hand-written answers, each ten times in its mixture (technical report, §4.1.1); how
often is for the curation to say (`count` with `upsample`). A template has a block for each row, parted by empty lines:
the question in the first line, the answer in the others.
"""

import re
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path

from cameleer.core.errors import UserError, did_you_mean
from cameleer.core.types import Conversation, Message

_NAME = re.compile(r"\{(\w+)\}")


def identity_rows(names: Mapping[str, str], path: Path | None) -> tuple[list[Conversation], int]:
    """The rows whose names are all given, and how many others there are.

    Raises UserError for a template that has no rows, or none for these names, and for a name that it does not use.
    """
    where = f"identity template ({path or 'identity.txt'})"
    template = path or files("cameleer.synth").joinpath("identity.txt")
    rows = list(_rows(template.read_text("utf-8"), where))
    used = {name for question, answer in rows for name in _NAME.findall(question + answer)}
    for name in names:
        if name not in used:
            raise UserError(
                f"{where}: it does not use the name '{name}'.{did_you_mean(name, used)}",
                f"It uses: {', '.join(sorted(used))}.",
            )
    complete = [row for row in rows if set(_NAME.findall("".join(row))) <= set(names)]
    if not complete:
        raise UserError(f"{where}: no row does with these names alone: {', '.join(names)}.", "Give more of them.")
    return [
        (Message("user", _filled(question, names)), Message("assistant", _filled(answer, names)))
        for question, answer in complete
    ], len(rows) - len(complete)


def _rows(text: str, where: str) -> Iterator[tuple[str, str]]:
    for block in re.split(r"\n[ \t]*\n", text.strip()):
        question, _, answer = block.strip().partition("\n")
        if not answer.strip():
            raise UserError(
                f"{where}: no answer to '{question}'.", "The answer stands in the lines below its question."
            )
        yield question.strip(), answer.strip()


def _filled(text: str, names: Mapping[str, str]) -> str:
    return _NAME.sub(lambda match: names[match[1]], text)
