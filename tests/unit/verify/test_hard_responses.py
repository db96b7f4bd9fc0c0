"""Every verifier on responses that no one wants: empty, of 1 MB, full of control characters. Each has its verdict."""

import time
from typing import Any

import pytest

from cameleer.verify import VERIFIERS, Outcome, verify
from cameleer.verify.instructions.language_data import NLTK_RESOURCES, local_resource
from cameleer.verify.verdict import Verdict

MEGABYTE = 1 << 20
SECONDS = 20.0
"""Processor time for one response of 1 MB, ten times what the slowest takes; a quadratic check would take hours."""
ENGLISH = all(map(local_resource, NLTK_RESOURCES))

TARGETS: dict[str, Any] = {
    "number": "18",
    "math": "\\frac{3}{4}",
    "deepmind_math": "-2*w**2 + 3*w",
    "choice": {"answer": "B", "num_choices": 4, "ladder": "unseen"},
    "choice mmlu": {"answer": "B", "num_choices": 4, "ladder": "mmlu"},
    "text": {"rule": "exact", "answers": ["Paris"]},
    "text alias": {"rule": "alias_substring", "answers": ["Paris"]},
    "text f1": {"rule": "f1", "answers": [["Paris"]]},
    "text bbh": {"rule": "bbh", "answers": ["(A)"], "form": "letter"},
    "constraints": {"constraints": [{"id": "include_words", "kwargs": {"words": ["river", "mill"]}}]},
    "ifeval_function": {"func_name": "validate_response_language", "language": "de"},
    "ifeval": {
        "instruction_id_list": [
            "length_constraints:number_sentences",
            "change_case:capital_word_frequency",
            "language:response_language",
            "detectable_format:json_format",
        ],
        "kwargs": [
            {"relation": "less than", "num_sentences": 1},
            {"capital_relation": "less than", "capital_frequency": 1},
            {"language": "de"},
            {},
        ],
    },
    "ifeval_ood": {
        "instruction_id_list": ["count:pronouns", "words:start_verb", "ratio:overlap", "format:camel_case"],
        "kwargs": [{"N": 7}, {}, {"reference_text": "rain and snow", "percentage": 50}, {}],
    },
    "code": {"kind": "function", "prompt": "", "tests": "assert one() == 1", "entry_point": "one"},
    "code stdin": {"kind": "stdin", "cases": [{"input": "1", "output": "2"}]},
}
"""By verifier, and what of it is meant where it has several ways."""
HUGE = {
    "words": "the rain in Spain 12 falls. ",
    "one word": "a",
    "digits": "7",
    "white space": " ",
    "line breaks": "x\n",
    "brackets": "([{",
    "boxes": "\\boxed{",
    "quotes": "\"'",
    "phrases": "Therefore, the final answer is (",
    "control characters": "\0\x01\x1b[31m\r\x85\x7f",
    "emoji": "😀",
}


def judged(name: str, response: str) -> Verdict:
    return verify(response, name.partition(" ")[0], TARGETS[name])


def cases(responses: dict[str, str]) -> list[Any]:
    return [
        pytest.param(name, text, id=f"{name}, {kind}")
        for name in TARGETS
        for kind, text in responses.items()
        if ENGLISH or not name.startswith("ifeval")
    ]


def test_there_is_a_target_for_every_verifier() -> None:
    assert {name.partition(" ")[0] for name in TARGETS} == set(VERIFIERS)


@pytest.mark.parametrize(("name", "response"), cases({"empty": "", "blank": " \n\t\x0b", "nul": "\0"}))
def test_an_empty_response_is_never_right_and_never_an_error(name: str, response: str) -> None:
    verdict = judged(name, response)
    assert verdict.outcome in (Outcome.WRONG, Outcome.UNPARSEABLE) and verdict.score == 0, verdict


@pytest.mark.parametrize(
    ("name", "response"), cases({kind: part * (MEGABYTE // len(part.encode())) for kind, part in HUGE.items()})
)
def test_a_megabyte_has_its_verdict_in_time(name: str, response: str) -> None:
    started = time.process_time()
    verdict = judged(name, response)
    assert time.process_time() - started < SECONDS
    assert verdict.outcome in (Outcome.WRONG, Outcome.UNPARSEABLE) and verdict.score == 0, verdict.outcome


@pytest.mark.parametrize("mark", ["\0", "\x01", "\x1b", "\x7f", "\ufeff"])
@pytest.mark.parametrize("name", [name for name in TARGETS if not name.startswith(("ifeval", "code"))])
def test_control_characters_behind_an_answer_end_nothing(name: str, mark: str) -> None:
    verdict = judged(name, f"The answer is 18.{mark}{mark}")
    assert verdict.outcome is not Outcome.ERROR
    assert verdict.outcome is Outcome.CORRECT or name != "number"
