"""Rows about the model itself: names are filled in, and no row is left with a gap."""

from pathlib import Path

import pytest

from cameleer.core.errors import UserError
from cameleer.synth.identity import identity_rows

ALL = ("model", "developer", "base", "recipe", "license", "cutoff", "context")


def test_with_all_names_there_are_24_rows_as_in_the_paper() -> None:
    rows, left_out = identity_rows({name: f"<{name}>" for name in ALL}, None)
    text = " ".join(turn.content for row in rows for turn in row)
    assert len(rows) == 24 and left_out == 0 and "{" not in text and all(f"<{name}>" in text for name in ALL)
    assert [turn.role for turn in rows[0]] == ["user", "assistant"]
    assert len({row[0].content for row in rows}) == 24


def test_rows_that_need_other_names_are_left_out() -> None:
    rows, left_out = identity_rows({"model": "Camel", "developer": "Caravan"}, None)
    assert len(rows) + left_out == 24 and left_out == 10
    assert "{" not in "".join(turn.content for row in rows for turn in row)


@pytest.mark.parametrize(
    "template, names, message",
    [
        ("Who?\nI am {model}.", {"modle": "C"}, "does not use the name 'modle'. Did you mean 'model'?"),
        ("Who?\nI am {model} of {home}.", {"model": "C"}, "no row does with these names alone"),
        ("Who are you?", {"model": "C"}, "no answer to 'Who are you\\?'"),
    ],
)
def test_a_template_that_gives_nothing_is_refused(
    tmp_path: Path, template: str, names: dict[str, str], message: str
) -> None:
    (tmp_path / "t.txt").write_text(template)
    with pytest.raises(UserError, match=message):
        identity_rows(names, tmp_path / "t.txt")


def test_a_template_of_ones_own_has_answers_of_several_lines(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("Who?\nI am\n{model}.\n\n \nWhat?\nA model.\n")
    rows, _ = identity_rows({"model": "C"}, tmp_path / "t.txt")
    assert [row[1].content for row in rows] == ["I am\nC.", "A model."]
