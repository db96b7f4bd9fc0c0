"""Tables and fences that no text of the data's own can break."""

import pytest

from cameleer.core.markdown import fenced, table


def test_a_bar_in_a_cell_or_a_head_is_no_new_column() -> None:
    assert table(["a|b", "n"], [["x | y", 3], ["z", None]], right=[1]) == (
        "| a\\|b | n |\n| --- | --: |\n| x \\| y | 3 |\n| z | None |"
    )


@pytest.mark.parametrize(("text", "fence"), [("plain", "```"), ("`a` ``b``", "```"), ("```\n````py", "`````")])
def test_a_fence_is_longer_than_any_in_the_text(text: str, fence: str) -> None:
    assert fenced(text) == f"{fence}text\n{text}\n{fence}"
