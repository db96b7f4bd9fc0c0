"""Whether a response follows precise instructions: the constraints of IFEval-OOD (Tülu 3) and of IFBench.

A target is a public row, `{"prompt": ..., "instruction_id_list": [...], "kwargs": [{...}, ...]}`; further keys are not
looked at, and an argument that is null is absent. `INSTRUCTIONS` at the end of this file holds the 62 ids: 48 that both
sets have, 10 of IFBench alone, 4 of the Tülu 3 report alone (count:countries, count:levenshtein, count:words_french,
format:camel_case). The check of an id stands in `ood_GROUP`, under its name there.

The rules are those of the public `ifbench` package (github.com/allenai/IFBench, 0.2.0), loopholes included, so that a
score means what the published one means. The four ids that it lacks follow the report's descriptions.

Strict and loose are as in `cameleer.verify.instructions.ifeval`: loosely, an instruction is followed if the response
follows it, or the response without its first line, its last line or both, each also without asterisks. A blank text
follows nothing. The outcome is the loose verdict on the whole prompt, which is what both reports publish.

Intended departures: an argument that is absent is a UserError, where the package draws one at random, and so are a
negative count and a position below 1; a response that makes the package fail does not follow the instruction. The time
is linear in the length of the response, but for count:levenshtein, whose reference text bounds it.
"""

from typing import Any

from cameleer.core.errors import UserError, did_you_mean
from cameleer.verify.constraints import Constraint, Kind
from cameleer.verify.instructions import ood_count as count
from cameleer.verify.instructions import ood_custom as custom
from cameleer.verify.instructions import ood_format as form
from cameleer.verify.instructions import ood_words as words
from cameleer.verify.instructions.ifeval import Instruction, checked_arguments, judge_instructions
from cameleer.verify.verdict import Verdict


def verify_ifeval_ood(response: str, target: dict[str, Any]) -> Verdict:
    """`correct` if every instruction of the row is followed by the response or a variant of it (prompt-level loose).

    The detail: the ids as `instructions`, whether each is followed as the lists `strict` and `loose`, and whether all
    are as `prompt_strict` and `prompt_loose`. A malformed target, an unknown id and unfit arguments are UserErrors.
    """
    return judge_instructions(response, listed_instructions(target), INSTRUCTIONS)


def listed_instructions(target: Any) -> list[Instruction]:
    """The instructions of a row; a UserError unless every id is known and its arguments are complete and fit."""
    row = target if isinstance(target, dict) else {}
    names, kwargs = row.get("instruction_id_list"), row.get("kwargs")
    if not isinstance(names, list) or not names or not isinstance(kwargs, list) or len(names) != len(kwargs):
        raise UserError(
            "The target of the verifier 'ifeval_ood' must hold 'instruction_id_list' and 'kwargs', lists of one length"
            f" with at least one entry, but is {target!r}."
        )
    return [_checked(name, given) for name, given in zip(names, kwargs, strict=True)]


def _checked(name: Any, given: Any) -> Instruction:
    if not isinstance(name, str) or name not in INSTRUCTIONS:
        raise UserError(f"Unknown IFEval-OOD instruction {name!r}.{did_you_mean(str(name), INSTRUCTIONS)}")
    kwargs = checked_arguments(f"IFEval-OOD instruction '{name}'", INSTRUCTIONS[name], given)
    return name, {argument: _whole_as_integer(value) for argument, value in kwargs.items()}


def _whole_as_integer(value: Any) -> Any:
    """The public rows write most whole numbers as 3.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


# The arguments.

MAX_NUMBER = 10**9
"""More than any argument means anything with, and few enough to compute with."""


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= MAX_NUMBER


def _is_whole(value: Any) -> bool:
    return _is_number(value) and value == int(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value.strip() != ""


COUNT = Kind("a whole number of at least 0", _is_whole)
POSITION = Kind("a whole number of at least 1", lambda value: _is_whole(value) and value >= 1)
PERCENTAGE = Kind("a number from 0 to 100", lambda value: _is_number(value) and value <= 100)
TEXT = Kind("a text that is not blank", _is_text)


INSTRUCTIONS: dict[str, Constraint] = {
    "count:conjunctions": Constraint(count.conjunctions, {"small_n": COUNT}),
    "count:countries": Constraint(count.countries, {"N": COUNT}),
    "count:keywords_multiple": Constraint(
        count.keywords_multiple, {f"keyword{number}": TEXT for number in range(1, 6)}
    ),
    "count:levenshtein": Constraint(count.levenshtein, {"reference_text": TEXT, "N": COUNT}),
    "count:numbers": Constraint(count.numbers, {"N": COUNT}),
    "count:person_names": Constraint(count.person_names, {"N": COUNT}),
    "count:pronouns": Constraint(count.pronouns, {"N": COUNT}),
    "count:punctuation": Constraint(count.punctuation, {}),
    "count:unique_word_count": Constraint(count.unique_word_count, {"N": COUNT}),
    "count:word_count_range": Constraint(count.word_count_range, {"min_words": COUNT, "max_words": COUNT}),
    "count:words_french": Constraint(count.words_french, {"N": POSITION}),
    "count:words_japanese": Constraint(count.words_japanese, {"N": POSITION}),
    "custom:character_reverse": Constraint(custom.character_reverse, {}),
    "custom:csv_city": Constraint(custom.csv_city, {}),
    "custom:csv_quotes": Constraint(custom.csv_quotes, {}),
    "custom:csv_special_character": Constraint(custom.csv_special_character, {}),
    "custom:date_format_list": Constraint(custom.date_format_list, {}),
    "custom:european_capitals_sort": Constraint(custom.european_capitals_sort, {}),
    "custom:mcq_count_length": Constraint(custom.mcq_count_length, {}),
    "custom:multiples": Constraint(custom.multiples, {}),
    "custom:reverse_newline": Constraint(custom.reverse_newline, {}),
    "custom:sentence_alphabet": Constraint(custom.sentence_alphabet, {}),
    "custom:word_reverse": Constraint(custom.word_reverse, {}),
    "format:camel_case": Constraint(form.camel_case, {}),
    "format:emoji": Constraint(form.emoji, {}),
    "format:line_indent": Constraint(form.line_indent, {}),
    "format:list": Constraint(form.list_separator, {"sep": TEXT}),
    "format:newline": Constraint(form.newline, {}),
    "format:no_bullets_bullets": Constraint(form.no_bullets_bullets, {}),
    "format:no_whitespace": Constraint(form.no_whitespace, {}),
    "format:options": Constraint(form.options, {"options": TEXT}),
    "format:output_template": Constraint(form.output_template, {}),
    "format:parentheses": Constraint(form.parentheses, {}),
    "format:quote_unquote": Constraint(form.quote_unquote, {}),
    "format:quotes": Constraint(form.quotes, {}),
    "format:sub-bullets": Constraint(form.sub_bullets, {}),
    "format:thesis": Constraint(form.thesis, {}),
    "format:title_case": Constraint(form.title_case, {}),
    "ratio:overlap": Constraint(words.overlap, {"reference_text": TEXT, "percentage": PERCENTAGE}),
    "ratio:sentence_balance": Constraint(words.sentence_balance, {}),
    "ratio:sentence_type": Constraint(words.sentence_type, {}),
    "ratio:sentence_words": Constraint(words.sentence_words, {}),
    "ratio:stop_words": Constraint(words.stop_words, {"percentage": PERCENTAGE}),
    "repeat:repeat_change": Constraint(custom.repeat_change, {"prompt_to_repeat": TEXT}),
    "repeat:repeat_simple": Constraint(custom.repeat_simple, {}),
    "repeat:repeat_span": Constraint(custom.repeat_span, {"prompt_to_repeat": TEXT, "n_start": COUNT, "n_end": COUNT}),
    "sentence:alliteration_increment": Constraint(words.alliteration_increment, {}),
    "sentence:increment": Constraint(words.increment, {"small_n": COUNT}),
    "sentence:keyword": Constraint(words.keyword, {"word": TEXT, "N": POSITION}),
    "words:alphabet": Constraint(words.alphabet, {}),
    "words:consonants": Constraint(words.consonants, {}),
    "words:keywords_specific_position": Constraint(
        words.keywords_specific_position, {"keyword": TEXT, "n": POSITION, "m": POSITION}
    ),
    "words:last_first": Constraint(words.last_first, {}),
    "words:no_consecutive": Constraint(words.no_consecutive, {}),
    "words:odd_even_syllables": Constraint(words.odd_even_syllables, {}),
    "words:palindrome": Constraint(words.palindrome, {}),
    "words:paragraph_last_first": Constraint(words.paragraph_last_first, {}),
    "words:prime_lengths": Constraint(words.prime_lengths, {}),
    "words:repeats": Constraint(words.repeats, {"small_n": COUNT}),
    "words:start_verb": Constraint(words.start_verb, {}),
    "words:vowel": Constraint(words.vowel, {}),
    "words:words_position": Constraint(words.words_position, {"keyword": TEXT}),
}
