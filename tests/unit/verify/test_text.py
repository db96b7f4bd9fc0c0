"""Answers as text: equal, contained, overlapping, or extracted from a chain of thought."""

import itertools
import random
import time

import pytest

from cameleer.core.errors import UserError
from cameleer.verify import Outcome
from cameleer.verify.text import _best_sum, verify_text


def score(response: str, rule: str, *answers: object, **options: object) -> float | None:
    return verify_text(response, {"rule": rule, "answers": list(answers), **options}).score


def extracted(response: str, form: str, answer: str) -> tuple[str, str | None]:
    verdict = verify_text(response, {"rule": "bbh", "answers": [answer], "form": form})
    return verdict.outcome.value, verdict.detail.get("answer")


def test_exact_is_exact_but_for_surrounding_space() -> None:
    assert score(" Paris\n", "exact", "Rome", "Paris") == 1.0
    assert score("paris", "exact", "Paris") == 0.0
    assert score("The  paris!", "exact", "Paris", normalised=True) == 1.0
    assert score("7.0 apples", "exact", "7 apples", normalised=True) == 1.0


@pytest.mark.parametrize("response", ["It is McCoy, I think.", "mccoy", "Mccoy"])
def test_an_alias_may_stand_as_written_in_lower_case_or_capitalised(response: str) -> None:
    assert score(response, "alias_substring", "unknown", "McCoy") == 1.0


@pytest.mark.parametrize("response", ["MCCOY", "mcCoy", "Mc Coy", ""])
def test_no_other_spelling_of_an_alias_counts(response: str) -> None:
    assert score(response, "alias_substring", "McCoy") == 0.0


# DROP's F1. The expected numbers are 2 · common / (size + size) over the sets of normalised tokens.


@pytest.mark.parametrize(
    ("response", "answer", "expected"),
    [
        ("the red fox", ["red fox"], 1.0),
        ("Red-Fox!", ["red fox"], 1.0),
        ("red", ["red fox"], 2 / 3),
        ("red red red", ["red fox"], 2 / 3),
        ("a blue dog", ["red fox"], 0.0),
        ("1,200 men", ["1200 men"], 1.0),
        ("12.0", ["12"], 1.0),
        ("$5", ["5"], 1.0),
        ("13 men", ["12 men"], 0.0),
        ("12 men", ["12 brave men"], 0.8),
        ("men", ["12 men"], 0.0),
        ("12 men and 3 boys", ["12"], 2 / 6),
        ("3 March 1990", ["March 3 1990"], 1.0),
        ("red\nfox", ["red fox"], 1.0),
        ("nan", ["nan"], 1.0),
        ("", ["red"], 0.0),
    ],
)
def test_f1_of_one_span(response: str, answer: list[str], expected: float) -> None:
    assert score(response, "f1", answer) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("red fox, blue dog", 1.0),
        ("blue dog and red fox", 1.0),
        ("blue dog\nred fox", 1.0),
        ("red fox", 1 / 2),
        ("red fox, red fox", 1 / 2),
        ("red fox, blue dog, green cat", 2 / 3),
        ("red, blue dog", (2 / 3 + 1) / 2),
        ("red fox blue dog", 1 / 2 * (2 * 2 / (4 + 2))),
        (", ;\n", 0.0),
    ],
)
def test_f1_of_several_spans_pairs_them_one_to_one(response: str, expected: float) -> None:
    assert score(response, "f1", ["red fox", "blue dog"]) == pytest.approx(expected)


def test_the_best_answer_counts_and_only_a_full_score_is_correct() -> None:
    target = {"rule": "f1", "answers": [["cat"], ["red fox"]]}
    assert verify_text("red fox", target).outcome is Outcome.CORRECT
    assert verify_text("fox", target).outcome is Outcome.WRONG
    assert verify_text("fox", target).score == pytest.approx(2 / 3)


def test_lines_are_taken_as_they_are_whatever_marks_they_hold() -> None:
    assert score("salt, pepper\nbread and butter", "f1", ["bread and butter", "salt, pepper"]) == 1.0


def test_pairing_is_the_best_of_all() -> None:
    """Against all pairings of up to five rows and six columns."""
    rng = random.Random(0)
    for _ in range(200):
        num_rows, num_columns = rng.randint(1, 5), rng.randint(5, 6)
        values = [[rng.choice((0.0, 0.25, rng.random())) for _ in range(num_columns)] for _ in range(num_rows)]
        best = max(
            sum(values[row][column] for row, column in enumerate(columns))
            for columns in itertools.permutations(range(num_columns), num_rows)
        )
        assert _best_sum(values) == pytest.approx(best)


# Chains of thought.


@pytest.mark.parametrize(
    ("response", "form", "answer"),
    [
        ("It rains. So the answer is (B).", "letter", "(B)"),
        ("So the answer is (A). Wait. So the answer is (B).", "letter", "(B)"),
        ("The answer is (B), not (C)", "letter", "(B)"),
        ("So the answer is (B). The answer is (C).", "letter", "(B)"),
        ("Answer: after all that, (B) and (A)", "letter", "(B)"),
        ("(A) or rather (B)", "letter", "(B)"),
        ("The answer is **(B)**", "letter", "(B)"),
        ("I choose B", "letter", "(B)"),
        ("so the answer is NO.", "yes_no", "No"),
        ("No, wait: yes", "yes_no", "Yes"),
        ("the answer is True", "true_false", "True"),
        ("The argument is invalid.", "valid_invalid", "invalid"),
        ("So the answer is -1,250.", "integer", "-1250"),
        ("answer is 007", "integer", "7"),
        ("-0", "integer", "0"),
        ("So the answer is ] ) }.", "brackets", "])}"),
        ("] ) } and then ])}", "brackets", "] ) }"),
        ("So the answer is Ant Bee  it&t o'cat.", "words", "ant bee it&t o'cat"),
    ],
)
def test_the_answer_of_a_chain_of_thought_is_found(response: str, form: str, answer: str) -> None:
    assert extracted(response, form, answer)[0] == "correct"


@pytest.mark.parametrize(
    ("response", "form", "answer", "found"),
    [
        ("So the answer is (C).", "letter", "(B)", "C"),
        ("So the answer is 50.", "integer", "-50", "50"),
        ("The answer is not known, but yes.", "yes_no", "No", "yes"),
        ("The answer is valid.", "valid_invalid", "invalid", "valid"),
        ("So the answer is ] ).", "brackets", "] ) }", "])"),
        ("answer: (A)\n(B)", "letter", "(B)", "A"),
    ],
)
def test_another_answer_is_wrong(response: str, form: str, answer: str, found: str) -> None:
    assert extracted(response, form, answer) == ("wrong", found)


@pytest.mark.parametrize(
    ("response", "form", "answer"),
    [("", "letter", "(B)"), ("who knows", "yes_no", "No"), ("(((", "brackets", ")"), ("b", "letter", "(B)")],
)
def test_no_answer_is_unparseable(response: str, form: str, answer: str) -> None:
    assert extracted(response, form, answer)[0] == "unparseable"


# Cost and targets.


@pytest.mark.parametrize(
    ("piece", "target"),
    [
        ("answer: ", {"rule": "bbh", "answers": ["(B)"], "form": "letter"}),
        ("answer is ( ", {"rule": "bbh", "answers": ["yes"], "form": "yes_no"}),
        ("so the answer is ) ", {"rule": "bbh", "answers": [")"], "form": "brackets"}),
        ("] ", {"rule": "bbh", "answers": [")"], "form": "brackets"}),
        ("9,", {"rule": "bbh", "answers": ["1"], "form": "integer"}),
        ("ab, ", {"rule": "f1", "answers": [["ab", "cd", "ef"]]}),
        ("1-", {"rule": "f1", "answers": [["12"]]}),
        ("aaab", {"rule": "alias_substring", "answers": ["aaaaaaab"]}),
    ],
)
def test_a_long_response_is_judged_at_once(piece: str, target: dict[str, object]) -> None:
    """Linear rules take about a second for 200,000 characters; a quadratic one would take a minute."""
    start = time.perf_counter()
    verify_text(piece * (200_000 // len(piece)), target)
    assert time.perf_counter() - start < 15


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("Paris", "needs a rule"),
        ({"rule": "fuzzy", "answers": ["a"]}, "needs a rule of exact, alias_substring, f1, bbh"),
        ({"rule": "exact", "answers": []}, "must be texts"),
        ({"rule": "exact", "answers": "Paris"}, "must be texts"),
        ({"rule": "exact", "answers": [" "]}, "none of them empty"),
        ({"rule": "f1", "answers": ["Paris"]}, "must be lists of spans"),
        ({"rule": "f1", "answers": [[]]}, "must be lists of spans"),
        ({"rule": "exact", "answers": ["a"], "form": "letter"}, "has no 'form'"),
        ({"rule": "exact", "answers": ["a"], "normalised": 1}, "true or false"),
        ({"rule": "bbh", "answers": ["(A)"]}, "needs a form"),
        ({"rule": "bbh", "answers": ["A"], "form": "letter"}, "'A' is not of the form 'letter'"),
    ],
)
def test_a_malformed_target_is_the_users_error(target: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        verify_text("a", target)
