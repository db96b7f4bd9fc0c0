"""Checks: a majority of what was asked for, tests that idling does not pass, instructions to the letter."""

from collections.abc import Generator

import pytest
from synth_support import endpoint, synth_config

from cameleer.core.types import Message
from cameleer.model.pool import CUT_OFF, Answer
from cameleer.synth.checks import Check, Checked, check_answers
from cameleer.synth.items import Item
from cameleer.tasks.ifeval_draw import Asked
from cameleer.verify import Outcome, verify
from cameleer.verify.pool import VerifierPool


@pytest.fixture(scope="module")
def pool() -> Generator[VerifierPool]:
    with VerifierPool(num_workers=1, deadline_seconds=30) as pool:
        yield pool


def item_of(kind: str, request: str = "x", asked: tuple[Asked, ...] = ()) -> Item:
    config = synth_config(prompts=[{"kind": kind, "count": 1}], models=endpoint("http://x/v1"))
    return Item(0, "0", config.prompts[0], asked=asked, request=(Message("user", request),))


def boxed(*results: str) -> list[Answer]:
    return [Answer(f"So it is $\\boxed{{{result}}}$." if result else "I do not know.", "stop") for result in results]


def vote(pool: VerifierPool, answers: list[Answer], kind: str = "math_hard") -> Checked:
    return check_answers(item_of(kind), answers, None, pool)


def test_more_than_half_of_all_answers_decide_and_the_first_of_them_is_kept(pool: VerifierPool) -> None:
    found = vote(pool, boxed("7", "\\frac{1}{2}", "0.5", "", "1/2"))
    assert (found.check, found.share, found.verifier) == (Check.VERIFIED, 0.6, "math")
    assert found.text == "So it is $\\boxed{\\frac{1}{2}}$."
    assert verify(str(found.text), found.verifier, found.target).outcome is Outcome.CORRECT


@pytest.mark.parametrize(
    "results", [["1", "1", "2", "2"], ["1", "1", "", "", ""], ["1", "2", "3"], ["", "", ""]],
)  # fmt: skip
def test_half_is_no_majority_and_silence_counts_against_it(pool: VerifierPool, results: list[str]) -> None:
    found = vote(pool, boxed(*results))
    assert (found.check, found.share, found.verifier) == (Check.UNDECIDED, None, "")


def test_answers_that_are_cut_off_or_missing_have_no_vote_and_are_not_kept(pool: VerifierPool) -> None:
    cut, gone = Answer("It is $\\boxed{1}$ and", CUT_OFF), Answer(None, failure="timeout: x")
    assert vote(pool, [cut, *boxed("1", "1"), gone, gone]).check is Check.UNDECIDED
    found = vote(pool, [cut, *boxed("1", "1", "1"), gone])
    assert (found.check, found.share, found.text) == (Check.VERIFIED, 0.6, "So it is $\\boxed{1}$.")
    assert vote(pool, [cut, gone, cut]).text is None


def test_grade_school_is_decided_by_the_last_number(pool: VerifierPool) -> None:
    texts = ["3 + 4 = 7 apples", "She has 7.0 left", "It is 8", "So 7", "none"]
    found = vote(pool, [Answer(text, "stop") for text in texts], "math_grade_school")
    assert (found.check, found.share, found.verifier, found.target) == (Check.VERIFIED, 0.6, "number", "7")


TESTS = "```python\nassert twice(1) == 2\nassert twice(0) == 0\nassert twice(-2) == -4\n```"
RIGHT = Answer("```python\ndef twice(n):\n    return 2 * n\n```", "stop")
WRONG = Answer("```python\ndef twice(n):\n    return n + 1\n```", "stop")


def execute(pool: VerifierPool, answers: list[Answer], tests: str | None) -> Checked:
    reply = None if tests is None else Answer(tests, "stop")
    return check_answers(item_of("code", "Write `twice(n)`, please."), answers, reply, pool)


def test_the_first_program_that_passes_is_kept(pool: VerifierPool) -> None:
    found = execute(pool, [WRONG, RIGHT], TESTS)
    assert (found.check, found.share, found.text, found.verifier) == (Check.VERIFIED, 0.5, RIGHT.text, "code")
    assert found.target["tests"][0] == "assert twice(1) == 2"
    failed = execute(pool, [WRONG], TESTS)
    assert (failed.check, failed.share, failed.verifier) == (Check.FAILED, 0.0, "") and failed.text == WRONG.text


def test_tests_that_a_function_without_effect_passes_prove_nothing(pool: VerifierPool) -> None:
    idle = "```python\nassert not twice(1) == 5\nassert twice(2) is None or True\nassert twice(3) != 1\n```"
    found = execute(pool, [RIGHT], idle)
    assert found.check is Check.UNDECIDED and "returns nothing passes" in found.detail["reason"]
    assert execute(pool, [RIGHT], None).check is Check.UNDECIDED
    assert execute(pool, [RIGHT], "sorry").detail["reason"] == "no readable tests"


def test_instructions_must_hold_in_the_answer_as_it_is(pool: VerifierPool) -> None:
    """IFEval's loose verdict would accept what follows the instruction but for its first line."""
    asked = (Asked("change_case:english_lowercase", {}, "Lowercase."), Asked("punctuation:no_comma", {}, "No comma."))
    item = item_of("precise_if", asked=asked)
    loose = Answer("Sure!\nall of it is in small letters", "stop")
    strict = Answer("all of it is in small letters", "stop")
    found = check_answers(item, [loose], None, pool)
    assert (found.check, found.share) == (Check.FAILED, 0.0)
    assert found.detail["held"] == {"change_case:english_lowercase": False, "punctuation:no_comma": True}
    assert verify(str(loose.text), "ifeval", found.target).outcome is Outcome.CORRECT
    unanswered = check_answers(item, [Answer("all of", CUT_OFF)], None, pool)
    assert unanswered.text is None and (unanswered.verifier, unanswered.target) == (found.verifier, found.target)
    found = check_answers(item, [loose, strict], None, pool)
    assert (found.check, found.share, found.text) == (Check.VERIFIED, 0.5, strict.text)
