"""Made-up responses follow the instructions that they are made for, alone and together."""

from typing import Any

import pytest

from cameleer.tasks.ifeval_ood_gold import MAKERS, NEUTRAL, compliant_response
from cameleer.verify.instructions.language_data import local_resource
from cameleer.verify.instructions.ood import INSTRUCTIONS, verify_ifeval_ood

REFERENCE = "Explain the construction of medieval drawbridges, and of the counterweights that lift them."
ARGUMENTS: dict[str, Any] = {
    "small_n": 3,
    "N": 5,
    "n": 4,
    "m": 6,
    "min_words": 20,
    "max_words": 22,
    "sep": "SEPARATOR",
    "options": "yes/no/maybe",
    "percentage": 60,
    "reference_text": REFERENCE,
    "prompt_to_repeat": "Write a poem about kites.",
    "n_start": 3,
    "n_end": 9,
    "word": "giraffe",
    "keyword": "vibrant",
    **{f"keyword{number}": word for number, word in enumerate(["fern", "moss", "pine", "oak", "elm"], start=1)},
}
TOGETHER = (
    ("count:numbers", "count:conjunctions"),
    ("count:numbers", "count:unique_word_count"),
    ("count:word_count_range", "format:list"),
    ("format:emoji", "sentence:keyword"),
    ("format:line_indent", "ratio:sentence_words"),
    ("format:list", "words:no_consecutive"),
    ("format:options", "format:newline"),
    ("format:quotes", "format:emoji"),
    ("format:sub-bullets", "ratio:stop_words"),
    ("format:thesis", "count:word_count_range"),
    ("ratio:overlap", "sentence:keyword"),
    ("ratio:sentence_balance", "words:consonants"),
    ("sentence:increment", "format:thesis"),
    ("sentence:keyword", "count:word_count_range"),
    ("words:alphabet", "format:parentheses"),
    ("words:consonants", "ratio:overlap"),
    ("words:consonants", "words:odd_even_syllables"),
    ("words:start_verb", "count:person_names"),
    ("words:vowel", "count:pronouns"),
)
"""All combinations of IFBench's 300 prompts."""
RESOURCES = ("punkt_tab", "stopwords", "averaged_perceptron_tagger_eng")
pytestmark = [] if all(map(local_resource, RESOURCES)) else [pytest.mark.network]


def verdict(*names: str, **changes: Any) -> dict[str, Any]:
    arguments = ARGUMENTS | changes
    kwargs = [{argument: arguments[argument] for argument in INSTRUCTIONS[name].kwargs} for name in names]
    response = compliant_response(list(zip(names, kwargs, strict=True)))
    return verify_ifeval_ood(response, {"instruction_id_list": [*names], "kwargs": kwargs}).detail


def test_there_is_a_maker_for_every_instruction() -> None:
    assert set(MAKERS) == set(INSTRUCTIONS)


@pytest.mark.parametrize("name", MAKERS)
def test_an_instruction_alone_is_followed_strictly(name: str) -> None:
    assert verdict(name)["prompt_strict"]


@pytest.mark.parametrize("names", TOGETHER, ids=" ".join)
def test_every_combination_of_the_benchmark_is_followed(names: tuple[str, str]) -> None:
    assert verdict(*names)["prompt_loose"] and verdict(*reversed(names))["prompt_loose"]


def test_an_option_of_several_words_is_met_loosely_where_each_word_needs_a_line() -> None:
    found = verdict("format:options", "format:newline", options="I know or I don't know")
    assert found["prompt_loose"] and not found["prompt_strict"]


@pytest.mark.parametrize("percentage", range(30, 91, 5))
def test_any_overlap_is_met(percentage: int) -> None:
    assert verdict("ratio:overlap", percentage=percentage)["prompt_strict"]


def test_the_neutral_text_follows_what_it_says() -> None:
    names = [
        *("ratio:sentence_balance", "ratio:sentence_words", "ratio:stop_words", "format:title_case"),
        *("words:consonants", "words:no_consecutive", "words:odd_even_syllables", "words:prime_lengths"),
    ]
    kwargs = [{"percentage": 0} if name == "ratio:stop_words" else {} for name in names]
    assert verify_ifeval_ood(NEUTRAL, {"instruction_id_list": names, "kwargs": kwargs}).detail["prompt_strict"]
