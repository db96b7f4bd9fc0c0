"""The last number of a response, compared exactly."""

import json
import math
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cameleer.core.errors import UserError
from cameleer.verify.numbers import MAX_SHOWN_CHARACTERS, verify_number
from cameleer.verify.verdict import Outcome

CASES = [json.loads(line) for line in (Path(__file__).parents[2] / "cases/numbers.jsonl").read_text().splitlines()]
HOSTILE_LENGTH = 20_000


def test_there_are_cases_of_each_outcome() -> None:
    assert len(CASES) >= 60
    assert {case["outcome"] for case in CASES} == {"correct", "wrong", "unparseable"}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["why"])
def test_case(case: dict[str, Any]) -> None:
    assert verify_number(case["response"], case["target"]).outcome == case["outcome"]


@given(st.text(), st.integers())
def test_the_last_number_is_found_after_any_text(text: str, number: int) -> None:
    assert verify_number(f"{text} {number:,}", number).outcome is Outcome.CORRECT


@given(st.integers(), st.integers(min_value=0, max_value=30), st.integers(min_value=0, max_value=10))
def test_decimals_are_compared_by_value(digits: int, places: int, zeros: int) -> None:
    number = Decimal(digits).scaleb(-places)
    written = f"{number:f}"
    padded = written + ("" if "." in written else ".") + "0" * zeros
    assert verify_number(f"It is {padded}.", written).outcome is Outcome.CORRECT
    assert verify_number(f"It is {written}1.", f"{written}2").outcome is Outcome.WRONG


@given(st.text())
def test_any_text_is_judged(text: str) -> None:
    has_digit = any(digit in text for digit in "0123456789")
    assert (verify_number(text, 1).outcome is Outcome.UNPARSEABLE) == (not has_digit)


@pytest.mark.parametrize(
    "target", ["", " ", "eighteen", "1 2", "1e3", "NaN", "18 apples", True, None, [18], math.nan, math.inf, {"a": 1}]
)
def test_a_malformed_target_is_the_users_mistake(target: Any) -> None:
    with pytest.raises(UserError, match="verifier 'number'"):
        verify_number("18", target)


@pytest.mark.parametrize("piece", ["9", "1,", "-", ". ", "1.", ".1", "-$", "\x00", "1 ", "+-", ",", "1.1.", "−5"])
def test_hostile_responses_take_linear_time(piece: str) -> None:
    response = piece * (HOSTILE_LENGTH // len(piece))
    start = time.process_time()
    verdict = verify_number(response, 5)
    assert time.process_time() - start < 0.5
    assert len(str(verdict.detail.get("answer", ""))) <= MAX_SHOWN_CHARACTERS


def test_a_megabyte_is_judged_within_seconds() -> None:
    start = time.process_time()
    assert verify_number("12 apples, " * 100_000 + "18", 18).outcome is Outcome.CORRECT
    assert time.process_time() - start < 5
