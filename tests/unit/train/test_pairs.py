"""Preference pairs as trees: what each segment holds, and which pairs are left out."""

from pathlib import Path

import pytest

from cameleer.core.artifact import Manifest, write_json
from cameleer.core.errors import UserError
from cameleer.core.pairs import PAIRS, PreferencePair
from cameleer.core.render import Renderer
from cameleer.core.training import Overlong
from cameleer.core.types import Message
from cameleer.model.tiny import CHATML_TEMPLATE, tiny_tokenizer
from cameleer.train.pairs import PairRows, load_pairs

PROMPT = (Message("user", "Name a colour."),)


def load(folder: Path, *answers: tuple[str, str], template: str = CHATML_TEMPLATE, **changes: object) -> PairRows:
    PAIRS.write(folder, [PreferencePair(str(i), "s", PROMPT, *each) for i, each in enumerate(answers)])
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    settings = {"max_tokens": 100, "overlong": Overlong.ERROR, **changes}
    return load_pairs(folder, Renderer(tokenizer), **settings)


def test_a_pair_is_the_prompt_once_and_two_answers_with_their_end_tokens(tmp_path: Path) -> None:
    ((prompt, chosen, rejected),) = load(tmp_path, ("Red.", "No.")).trees
    decode = tiny_tokenizer().decode
    assert decode(prompt.ids) == "<|im_start|>user\nName a colour.<|im_end|>\n<|im_start|>assistant\n"
    assert (decode(chosen.ids), decode(rejected.ids)) == ("Red.<|im_end|>", "No.<|im_end|>")
    assert (prompt.parent, chosen.parent, rejected.parent) == (-1, 0, 0)
    assert not prompt.weights.any() and chosen.weights.all() and rejected.weights.all()


def test_answers_that_are_equal_as_tokens_are_identical(tmp_path: Path) -> None:
    """A template that trims contents makes these two one."""
    trimming = CHATML_TEMPLATE.replace("message['content']", "message['content'] | trim")
    assert trimming != CHATML_TEMPLATE
    rows = load(tmp_path, ("Red.", "Red. "), ("Red.", "No."), template=trimming)
    assert (rows.num_identical, len(rows.trees)) == (1, 1)
    assert load(tmp_path, ("Red.", "Red. ")).num_identical == 0


def test_what_says_nothing_is_left_out_by_its_reason(tmp_path: Path) -> None:
    long = "so " * 100
    rows = load(
        tmp_path,
        *[("Red.", "Red."), ("Red.", " \n"), ("", "Red."), (long + "yes", long + "no"), (long, "No."), ("Red.", "No.")],
        overlong=Overlong.TRUNCATE,
    )
    assert rows.counts == {
        "pairs": 2,
        "truncated": 1,
        "dropped_overlong": 1,
        "dropped_identical": 1,
        "dropped_empty": 2,
    }
    assert [pair.id for pair in rows.pairs] == ["4", "5"]


def test_pairs_made_under_another_template_are_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "manifest.json", vars(Manifest("prefs", "p", "k", {}, {}, "", 0, "0" * 64)))
    with pytest.raises(UserError, match="another chat template"):
        load(tmp_path, ("Red.", "No."))
