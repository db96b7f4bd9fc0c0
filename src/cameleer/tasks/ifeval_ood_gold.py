"""Responses that follow the instructions of an IFEval-OOD row, and do nothing else.

Each of the 62 instructions has a maker, `maker(text, **arguments)`: it changes or extends a text so that it follows the
instruction, or makes one of nothing. A row's response is what its makers leave, one after the other in the order of
`MAKERS`. The text that most begin with, `NEUTRAL`, follows at once all instructions that forbid more than they ask for.
So every instruction alone has a response, and so has every combination that IFBench's 300 prompts hold; another
combination may be beyond these makers.

What a maker writes is the least that the instruction's checker takes, which is often less than a person would expect
(`cameleer.verify.instructions.ood`): it proves that the verifier can be satisfied, not that the task is well done.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import islice, product
from string import ascii_lowercase
from typing import Any

from cameleer.verify.instructions.ifeval import Instruction
from cameleer.verify.instructions.ood_count import CONJUNCTIONS, KEYWORD_COUNTS, PERSON_NAMES
from cameleer.verify.instructions.ood_custom import CAPITALS_FROM_NORTH, MIN_AFRICAN_LINES, REPEATED_SENTENCE

NEUTRAL = "Grand Lantern. Fresh Chimney? Black Dolphin!"
"""Three sentences of one length and three kinds. Every word has a prime length, two consonants in a row and another
initial than its neighbours; words of one and two syllables alternate; none is a stop word, a name or a number."""

COUNTRIES = """
Albania Algeria Angola Argentina Armenia Australia Austria Bangladesh Belgium Bolivia Brazil Bulgaria Canada Chile China
Colombia Croatia Cuba Denmark Ecuador Egypt Estonia Finland France Germany Greece Hungary Iceland India Ireland Italy
""".split()

_TWO_CONSONANTS = re.compile(r"[b-df-hj-np-tv-z]{2}", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.?!](?=\s|$)")
_BETWEEN_SENTENCES = re.compile(r"(?<=[.?!])\s+")


def compliant_response(instructions: Sequence[Instruction]) -> str:
    """A response that follows the instructions (id, arguments) of a row, whole numbers as integers."""
    text = ""
    for name, kwargs in sorted(instructions, key=lambda each: _ORDER[each[0]]):
        text = MAKERS[name](text, **kwargs)
    return text


def _always(response: str) -> Callable[[str], str]:
    """A maker for prompts that ask for one thing only."""
    return lambda text: response


def _neutral(text: str, **limits: Any) -> str:
    """For instructions that the neutral text follows, whatever their limits, and that earlier makers do not break."""
    return text or NEUTRAL


def _distinct_words() -> Iterator[str]:
    """Words without end, in letters."""
    return ("".join(letters) for letters in product("bdfgklmnprst", "aeiou", "bdfgklmnprst"))


def _more(text: str, *words: str) -> str:
    """The words behind the text."""
    return " ".join([*text.split(" "), *words] if text else words)


# count


def _conjunctions(text: str, small_n: int) -> str:
    return _more(text, *sorted(CONJUNCTIONS)[:small_n])


def _keywords_multiple(text: str, **keywords: str) -> str:
    each = [keywords[f"keyword{number}"] for number in range(1, 6)]
    return _more(text, *(word for word, count in zip(each, KEYWORD_COUNTS, strict=True) for _ in range(count)))


def _word_count_range(text: str, min_words: int, max_words: int) -> str:
    lacking = min_words - len(re.findall(r"\w+", text))
    return _more(text, *islice(_distinct_words(), max(lacking, 0)))


def _every_nth(word: str) -> Callable[..., str]:
    def maker(text: str, N: int) -> str:
        return _more(text, *["stone"] * (N - 1), word)

    return maker


def _names_of(names: Sequence[str]) -> Callable[..., str]:
    def maker(text: str, N: int) -> str:
        return _more(text, *names[:N])

    return maker


def _unchanged(text: str, reference_text: str, N: int) -> str:
    return reference_text


def _pronouns(text: str, N: int) -> str:
    return _more(text, *["she"] * N)


def _numbers(text: str, N: int) -> str:
    return _more(text or "Lanterns", *map(str, range(1, N + 1)))


def _unique_words(text: str, N: int) -> str:
    return _more(text, *islice(_distinct_words(), N))


# custom


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], separator: str = ",") -> str:
    return "\n".join(separator.join(row) for row in (header, *rows))


_CITIES = _table(
    ["ID", "Country", "City", "Year", "Count"], [[str(n), "Peru", "Lima", "1999", "4"] for n in range(1, 8)]
)
_STUDENTS = _table(
    [f'"{name}"' for name in ("StudentID", "Subject", "Grade", "Semester", "Score")],
    [[f'"{n}"', '"Music"', '"B"', '"Spring"', '"80"'] for n in range(1, 4)],
    "\t",
)
_PRODUCTS = _table(
    ["ProductID", "Category", "Brand", "Price", "Stock"],
    [[str(n), "Tools", '"Grand & Black"', "12", "3"] for n in range(1, 15)],
)
_EXAM = "\n".join(
    f"Question {n}.{' Why' * n}?\n" + "\n".join(f"{letter}) reason" for letter in "ABCDE") for n in range(1, 5)
)
_COUNTRIES = "\n".join(["Zimbabwe", *(f"Land {n}" for n in reversed(range(10, 9 + MIN_AFRICAN_LINES)))])
_ALPHABET = " ".join(f"{letter.upper()}stone fell." for letter in ascii_lowercase)


# format


def _emoji(text: str) -> str:
    return _SENTENCE_END.sub(lambda end: f" 😀{end[0]}", _neutral(text))


def _line_indent(text: str) -> str:
    lines = _BETWEEN_SENTENCES.split(_neutral(text))
    return "\n".join(" " * number + line for number, line in enumerate(lines))


def _list(text: str, sep: str) -> str:
    return f"{_more(text, 'Grand')} {sep} lantern {sep} chimney"


def _newline(text: str) -> str:
    """A word a line. An option may have several words: it stands whole behind a line that is judged without it."""
    return f"Lantern\n{text}" if text else "\n".join(NEUTRAL.split())


def _first_option(text: str, options: str) -> str:
    separator = next((mark for mark in ("/", "or") if mark in options), ",")
    return options.split(separator)[0].strip()


def _thesis(text: str) -> str:
    """The first word in italics, which neither adds words nor sentences to what is there."""
    first, _, rest = _neutral(text).partition(" ")
    return f"<i>{first}</i> {rest}"


def _parentheses(text: str) -> str:
    return f"([{{([{text or 'lantern'}])}}])"


# ratio

_FOREIGN = [chr(code) for code in range(0x4E00, 0x9F00)]
"""Characters that no reference text has: each that is added adds one run of three characters."""


def _overlap(text: str, reference_text: str, percentage: float) -> str:
    """Behind the text a few long words of the reference, or all of it, diluted to the percentage.

    The words are some with two consonants in a row, for the row that asks for these as well.
    """
    words = sorted(filter(_TWO_CONSONANTS.search, reference_text.split()), key=len, reverse=True)
    told = [_more(text, *words[:count]) for count in range(1, 7)] + [_more(text, reference_text)]
    diluted = [_diluted(each, _trigrams(reference_text), percentage) for each in told]
    return next((response for response, error in diluted if error <= 1), min(diluted, key=lambda each: each[1])[0])


def _diluted(text: str, known: set[str], percentage: float) -> tuple[str, float]:
    """The text with as many foreign characters as bring the share of what is known down; how far off it then is."""
    count, total = len(_trigrams(text) & known), len(_trigrams(text))
    foreign = max(round(100 * count / max(percentage, 1)) - total, 0)
    return text + "".join(_FOREIGN[:foreign]), abs(100 * count / max(total + foreign, 1) - percentage)


def _trigrams(text: str) -> set[str]:
    return {text[i : i + 3] for i in range(len(text) - 2)}


# repeat, sentence and words


def _repeat_change(text: str, prompt_to_repeat: str) -> str:
    return " ".join(["Lantern", *prompt_to_repeat.split()[1:]])


def _repeat_span(text: str, prompt_to_repeat: str, n_start: int, n_end: int) -> str:
    return prompt_to_repeat[n_start : n_end + 1]


def _vowel(text: str) -> str:
    return text or "she swam"


def _words_position(text: str, keyword: str) -> str:
    return f"The {keyword} is {keyword} indeed."


def _increment(text: str, small_n: int) -> str:
    return f"Grand lantern. Black {'dolphin ' * small_n}swam."


def _keyword(text: str, word: str, N: int) -> str:
    return _more(text, *["Grand."] * (N - 1), f"{word}.")


def _specific_position(text: str, keyword: str, n: int, m: int) -> str:
    sentence = " ".join(["stone"] * (m - 1) + [keyword])
    return _more(text, *["Grand lantern."] * (n - 1), f"{sentence[0].upper()}{sentence[1:]}.")


MAKERS: dict[str, Callable[..., str]] = {
    # What stands alone.
    "custom:character_reverse": _always("elgae dlab"),
    "custom:csv_city": _always(_CITIES),
    "custom:csv_quotes": _always(_STUDENTS),
    "custom:csv_special_character": _always(_PRODUCTS),
    "custom:date_format_list": _always("1800-01-01, 1815-06-18"),
    "custom:european_capitals_sort": _always(", ".join(CAPITALS_FROM_NORTH)),
    "custom:mcq_count_length": _always(_EXAM),
    "custom:multiples": _always("14, 21, 28, 35, 42, 49"),
    "custom:reverse_newline": _always(_COUNTRIES),
    "custom:sentence_alphabet": _always(_ALPHABET),
    "custom:word_reverse": _always("eagle bald"),
    "count:keywords_multiple": _keywords_multiple,
    "count:levenshtein": _unchanged,
    "count:words_french": _every_nth("maison"),
    "count:words_japanese": _every_nth("日本"),
    "format:camel_case": _always("grandLantern = 1"),
    "format:output_template": _always("My Answer: one\n\nMy Conclusion: two\n\nFuture Outlook: three"),
    "format:no_bullets_bullets": _always("Grand lanterns glow. Black dolphins swim.\n* fresh\n* chimney"),
    "format:no_whitespace": _always("lantern"),
    "format:title_case": _neutral,
    "format:quote_unquote": _neutral,
    "ratio:sentence_type": _always("Lanterns glow. Dolphins swim. Why?"),
    "repeat:repeat_change": _repeat_change,
    "repeat:repeat_simple": _always(REPEATED_SENTENCE),
    "repeat:repeat_span": _repeat_span,
    "sentence:alliteration_increment": _always("Grand lantern. Grand grey lantern. Grand grey green lantern."),
    "words:keywords_specific_position": _specific_position,
    "words:last_first": _always("Grand lantern. Lantern glows."),
    "words:palindrome": _always(" ".join(["level"] * 10)),
    "words:paragraph_last_first": _always("Lanterns glow like lanterns"),
    "words:prime_lengths": _neutral,
    "words:repeats": _neutral,
    "words:words_position": _words_position,
    # What others extend.
    "words:alphabet": _always("apples bring cold drinks"),
    "words:start_verb": _always("replace"),
    "sentence:increment": _increment,
    "count:pronouns": _pronouns,
    "count:numbers": _numbers,
    "format:list": _list,
    "format:options": _first_option,
    "format:quotes": _always('"Grand \'lantern "fresh" chimney\' black" dolphin.'),
    "format:sub-bullets": _always("* Grand lantern\n  - fresh chimney"),
    "words:no_consecutive": _neutral,
    "words:odd_even_syllables": _neutral,
    "ratio:sentence_balance": _neutral,
    "ratio:sentence_words": _neutral,
    "sentence:keyword": _keyword,
    # What extends others.
    "count:conjunctions": _conjunctions,
    "count:countries": _names_of(COUNTRIES),
    "count:person_names": _names_of(sorted(PERSON_NAMES)),
    "count:punctuation": _always("Well, what?! Lanterns glow; dolphins swim: why? Stop!."),
    "count:unique_word_count": _unique_words,
    "format:thesis": _thesis,
    "ratio:overlap": _overlap,
    "words:consonants": _neutral,
    "count:word_count_range": _word_count_range,
    "ratio:stop_words": _neutral,
    "words:vowel": _vowel,
    "format:emoji": _emoji,
    "format:line_indent": _line_indent,
    "format:newline": _newline,
    "format:parentheses": _parentheses,
}
"""The makers by instruction, in the order in which they work."""
_ORDER = {name: number for number, name in enumerate(MAKERS)}
