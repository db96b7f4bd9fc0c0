"""Drawn instructions of IFEval's types: what is said is what is verified, and one answer can follow all of it."""

import random
from collections import Counter

from cameleer.tasks.ifeval_draw import LANGUAGES, WORDS, Asked, draw_instructions, target_of, with_request
from cameleer.tasks.ifeval_gold import compliant_response
from cameleer.verify import Outcome, verify
from cameleer.verify.instructions.checks import INSTRUCTIONS
from cameleer.verify.instructions.ifeval import listed_instructions

DRAWN = [draw_instructions(random.Random(seed)) for seed in range(600)]
SINGLE = [draw_instructions(random.Random(seed), most=1)[0] for seed in range(600)]


def test_all_types_are_drawn_and_one_to_three_at_a_time() -> None:
    assert {each.id for each in SINGLE} == set(INSTRUCTIONS)
    counts = Counter(map(len, DRAWN))
    # A third each; five standard deviations of 600 draws are 58.
    assert set(counts) == {1, 2, 3} and all(abs(times - 200) < 58 for times in counts.values())


def test_a_text_follows_every_combination_and_a_blank_one_none() -> None:
    for asked in DRAWN:
        target = target_of(asked)
        verdict = verify(compliant_response(listed_instructions(target)), "ifeval", target)
        assert verdict.outcome is Outcome.CORRECT and verdict.detail["prompt_strict"], asked
        assert verify(" ", "ifeval", target).outcome is Outcome.WRONG


def test_no_keyword_is_asked_for_twice() -> None:
    """Keywords are drawn without replacement, which means distinct ones only if the list names each once."""
    assert len(set(WORDS)) == len(WORDS)
    lists = [each.kwargs.get("keywords") or each.kwargs.get("forbidden_words") or [] for each in SINGLE]
    assert any(len(some) > 1 for some in lists) and all(len(set(some)) == len(some) for some in lists)


def test_every_argument_is_said() -> None:
    for each in SINGLE:
        for name, value in each.kwargs.items():
            if name == "prompt_to_repeat":
                continue
            said = [LANGUAGES[value]] if name == "language" else value if isinstance(value, list) else [str(value)]
            assert all(part in each.wording for part in said), each


def test_no_two_contradict_each_other() -> None:
    together = [{each.id for each in asked} for asked in DRAWN]
    cases = {"change_case:english_capital", "change_case:english_lowercase"}
    assert not any(cases <= ids for ids in together)
    assert not any({"language:response_language", "keywords:existence"} <= ids for ids in together)
    assert all(len(ids) == 1 for ids in together if "detectable_format:constrained_response" in ids)
    assert all(len(ids) == len(asked) for ids, asked in zip(together, DRAWN, strict=True))


def test_the_request_to_repeat_is_the_one_that_is_asked() -> None:
    repeated = Asked("combination:repeat_prompt", {"prompt_to_repeat": "x"}, "Repeat it.")
    other = Asked("punctuation:no_comma", {}, "No commas.")
    completed = with_request([repeated, other], "Name a color.")
    assert completed[0].kwargs == {"prompt_to_repeat": "Name a color."} and completed[1] == other
    assert verify("name a color. Blue", "ifeval", target_of(completed)).outcome is Outcome.CORRECT
