"""Each constraint by hand-written cases; malformed targets; hostile responses."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cameleer.core.errors import UserError
from cameleer.verify.constraints import CONSTRAINTS, verify_constraints
from cameleer.verify.verdict import Outcome

CASES = [json.loads(line) for line in (Path(__file__).parents[2] / "cases/constraints.jsonl").read_text().splitlines()]
ARGUMENTS: dict[str, Any] = {
    "relation": "at most",
    "count": 3,
    "words": ["ab", "cd"],
    "word": "ab",
    "letter": "a",
    "keys": ["a"],
    "phrase": "ab",
    "marker": "P.S.",
    "label": "Section",
    "separator": "***",
    "left": "(",
    "right": ")",
}
HOSTILE_LENGTH = 20_000


def target_of(name: str, **changes: Any) -> dict[str, Any]:
    kwargs = {argument: ARGUMENTS[argument] for argument in CONSTRAINTS[name].kwargs} | changes
    return {"constraints": [{"id": name, "kwargs": kwargs}]}


def test_every_constraint_has_an_accepted_and_a_rejected_case() -> None:
    assert len(CASES) >= 80
    singles = [case for case in CASES if len(case["target"]["constraints"]) == 1]
    judged = {(case["target"]["constraints"][0]["id"], case["outcome"]) for case in singles}
    assert judged == {(name, outcome) for name in CONSTRAINTS for outcome in ("correct", "wrong")}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['target']['constraints'][0]['id']}: {case['why']}")
def test_case(case: dict[str, Any]) -> None:
    assert verify_constraints(case["response"], case["target"]).outcome == case["outcome"]


def test_the_detail_says_which_constraint_failed() -> None:
    target = {"constraints": [{"id": "lowercase"}, {"id": "no_commas", "kwargs": {}}]}
    verdict = verify_constraints("rain, snow", target)
    assert [(result["id"], result["holds"]) for result in verdict.detail["constraints"]] == [
        ("lowercase", True),
        ("no_commas", False),
    ]
    assert verdict.score == 0.0


@pytest.mark.parametrize("name", CONSTRAINTS)
@pytest.mark.parametrize("response", ["", " \n", "?!", "\u200b"])
def test_a_response_that_says_nothing_obeys_nothing(name: str, response: str) -> None:
    assert verify_constraints(response, target_of(name)).outcome is Outcome.WRONG


def test_an_unknown_constraint_is_the_users_mistake() -> None:
    with pytest.raises(UserError, match=r"Unknown constraint 'no_comas'\. Did you mean 'no_commas'\?"):
        verify_constraints("rain", {"constraints": [{"id": "no_comas", "kwargs": {}}]})


@pytest.mark.parametrize(
    "target",
    [
        None,
        "no_commas",
        [],
        {},
        {"constraints": []},
        {"constraints": {"id": "no_commas"}},
        {"constraints": ["no_commas"]},
        {"constraints": [{"kwargs": {}}]},
        {"constraints": [{"id": "no_commas", "kwargs": {}, "weight": 2}]},
        {"constraints": [{"id": "no_commas", "kwargs": {}}], "mode": "any"},
        {"constraints": [{"id": "no_commas", "kwargs": None}]},
        {"constraints": [{"id": "no_commas", "kwargs": {"count": 1}}]},
        {"constraints": [{"id": "title"}, {"id": "word_count", "kwargs": {"count": 3}}]},
        target_of("word_count", count="3"),
        target_of("word_count", count=3.0),
        target_of("word_count", count=True),
        target_of("word_count", count=-1),
        target_of("word_count", relation="less than"),
        target_of("include_words", words=[]),
        target_of("include_words", words="rain"),
        target_of("include_words", words=[""]),
        target_of("letter_frequency", letter="ab"),
        target_of("letter_frequency", letter="1"),
        target_of("starts_with", phrase=""),
        target_of("ends_with", phrase="the end. "),
        target_of("parts", separator=" "),
    ],
)
def test_a_malformed_target_is_the_users_mistake(target: Any) -> None:
    for response in ("Rain falls.", ""):
        with pytest.raises(UserError, match="constraint"):
            verify_constraints(response, target)


@given(st.text())
def test_any_text_is_judged_by_every_constraint(text: str) -> None:
    for name in CONSTRAINTS:
        assert verify_constraints(text, target_of(name)).outcome in (Outcome.CORRECT, Outcome.WRONG)


@given(st.text(alphabet="ab. \n", min_size=1))
def test_the_relations_agree_with_each_other(text: str) -> None:
    for name in ("word_count", "sentence_count", "paragraph_count", "bullet_count"):
        holds = {
            (relation, count): CONSTRAINTS[name].check(text, relation=relation, count=count)
            for relation in ("at least", "at most", "exactly")
            for count in range(len(text) + 2)
        }
        exact = [count for count in range(len(text) + 2) if holds["exactly", count]]
        assert len(exact) == 1
        for count in range(len(text) + 2):
            assert holds["at least", count] == (exact[0] >= count)
            assert holds["at most", count] == (exact[0] <= count)


HOSTILE = [
    "." * HOSTILE_LENGTH + "x",
    "<<" + "a" * HOSTILE_LENGTH,
    "*" * HOSTILE_LENGTH + "a",
    "*a" * (HOSTILE_LENGTH // 2),
    "[a" * (HOSTILE_LENGTH // 2),
    "a" * HOSTILE_LENGTH,
    "\n " * (HOSTILE_LENGTH // 2) + "a",
    "#" * HOSTILE_LENGTH + "a",
    "```\n" + "\n`" * (HOSTILE_LENGTH // 2) + "a",
    "a\nP.S. " * (HOSTILE_LENGTH // 7),
    "Section 1\n" * (HOSTILE_LENGTH // 10),
    "1. a\n" * (HOSTILE_LENGTH // 5),
    '."' * (HOSTILE_LENGTH // 2) + "a",
    "'-" * (HOSTILE_LENGTH // 2) + "a",
    "a'" * (HOSTILE_LENGTH // 2),
    '{"a":' * (HOSTILE_LENGTH // 5),
    "[" * HOSTILE_LENGTH + "1",
    "ab" * (HOSTILE_LENGTH // 2),
    "a" + " " * HOSTILE_LENGTH + "b",
    "9" * HOSTILE_LENGTH,
]


@pytest.mark.parametrize("response", HOSTILE, ids=lambda response: repr(response[:6]))
def test_hostile_responses_take_linear_time(response: str) -> None:
    for name in CONSTRAINTS:
        start = time.process_time()
        verify_constraints(response, target_of(name))
        assert time.process_time() - start < 0.5, name


def test_a_megabyte_is_judged_within_seconds() -> None:
    start = time.process_time()
    target = {"constraints": [target_of(name)["constraints"][0] for name in CONSTRAINTS]}
    verify_constraints("It rains, *here* and there. " * 40_000, target)
    assert time.process_time() - start < 5
