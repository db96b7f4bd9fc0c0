"""Items: drawn by the seed, without duplicates, with instructions that the prompt states and the target holds."""

from pathlib import Path
from typing import Any

import pytest
from prefs_support import write_mixture, write_problems
from synth_support import SEED, endpoint, synth_config

from cameleer.core.errors import UserError
from cameleer.core.types import Message
from cameleer.synth.config import PromptKind, SynthConfig
from cameleer.synth.items import Item, add_instructions, draw_items, drop_duplicates, prompt_call, take_prompt
from cameleer.synth.templates import EXAMPLES

COUNT = 60


def config_of(*tables: dict[str, Any], **keys: Any) -> SynthConfig:
    return synth_config(prompts=list(tables), models=endpoint("http://x/v1"), **keys)


def test_an_item_follows_from_the_seed_its_table_and_its_number() -> None:
    few = {"kind": "precise_if", "count": COUNT}
    one, same = (draw_items(config_of(few), {}, SEED) for _ in range(2))
    other = draw_items(config_of(few), {}, SEED + 1)
    longer = draw_items(config_of({"kind": "code", "count": 5}, {**few, "count": COUNT + 9}), {}, SEED)
    drawn = [[(item.persona, item.asked) for item in items] for items in (one, same, other, longer[5:][:COUNT])]
    assert drawn[0] == drawn[1] == drawn[3] and drawn[0] != drawn[2]
    assert len({prompt_call(item, config_of(few), SEED).key for item in one}) == COUNT


def test_the_author_is_told_the_instructions_and_the_prompt_states_them() -> None:
    config = config_of({"kind": "precise_if", "count": COUNT})
    for item in draw_items(config, {}, SEED):
        asked = prompt_call(item, config, SEED).messages[-1].content
        assert item.persona in asked and all(each.wording in asked for each in item.asked)
        take_prompt(item, "Instruction: Write a short note to your neighbors.", SEED)
        text = item.messages[0].content
        assert text.startswith("Write a short note to your neighbors.")
        assert all(each.wording in text for each in item.asked) and not item.lost


def test_a_relaxed_prompt_lacks_exactly_one_of_several_instructions() -> None:
    items = draw_items(config_of({"kind": "precise_if", "count": COUNT}), {}, SEED)
    several = 0
    for item in items:
        item.request = (Message("system", "s"), Message("user", "Say it."))
        add_instructions(item, SEED)
        if item.relaxed is None:
            assert len(item.asked) == 1
            continue
        several += 1
        kept = [each for each in item.asked if each.wording in item.relaxed[-1].content]
        assert len(kept) == len(item.asked) - 1 and item.relaxed[0] == item.messages[0]
    assert several > COUNT / 2


def test_augmented_prompts_are_those_that_are_there(tmp_path: Path) -> None:
    inputs = {"prompts m": write_mixture(tmp_path / "m", 30), "prompts p": write_problems(tmp_path / "p", 12)}
    tables = [
        {"kind": "augmented", "name": "m", "mixture": "curate", "count": 20},
        {"kind": "augmented", "name": "p", "problems": "curate", "count": 9, "sources": ["precise-if"]},
    ]
    items = draw_items(config_of(*tables), inputs, SEED)
    assert len({item.request for item in items}) == 29
    for item in items:
        before, after = item.request[-1].content, item.messages[-1].content
        assert after.startswith(before) and item.messages[:-1] == item.request[:-1]
        assert all(each.wording in after for each in item.asked)
    with pytest.raises(UserError, match="has 12 prompts, but 13 were asked for"):
        draw_items(config_of({**tables[1], "count": 13}), inputs, SEED)


def test_an_example_that_is_said_again_is_no_new_prompt(tmp_path: Path) -> None:
    _, example = EXAMPLES[PromptKind.MATH_HARD][0]
    items = [item_of(0, "Something else that is long enough to be told apart."), item_of(1, example.upper())]
    items.append(item_of(2, f"Now then: {example}"))
    drop_duplicates(items, 0.8, tmp_path)
    assert [item.lost[:28] for item in items] == ["", "equal to an example", "near-duplicate of an example"]


def item_of(index: int, text: str) -> Item:
    table = config_of({"kind": "math_hard", "count": 9}).prompts[0]
    return Item(index, str(index), table, request=(Message("user", text),))


def test_the_first_of_equal_and_of_near_prompts_stays(tmp_path: Path) -> None:
    base = " ".join(f"word{n}" for n in range(60))
    texts = [base, base.upper() + "!", base + " and more", "A rather different prompt, this one.", base + ", and MORE."]
    items = [item_of(index, text) for index, text in enumerate(texts)]
    drop_duplicates(items, 0.8, tmp_path)
    assert [bool(item.lost) for item in items] == [False, True, True, False, True]
    assert items[1].lost == "equal to math_hard/0" and items[2].lost.startswith("near-duplicate of math_hard/0 (0.9")
    # 56 shingles of 5 words and 2 more of the longer text: 56 / 58.
    assert items[2].lost.endswith("(0.97)") and items[4].lost == "equal to math_hard/2"
    items = [item_of(index, text) for index, text in enumerate(texts)]
    drop_duplicates(items, 1.0, tmp_path)
    assert [bool(item.lost) for item in items] == [False, True, False, False, True]
