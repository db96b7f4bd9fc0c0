"""Whether a response obeys precise instructions: Cameleer's own training constraints, in the spirit of IFEval.

A target is `{"constraints": [{"id": "word_count", "kwargs": {"relation": "at most", "count": 20}}, ...]}`. The response
is correct when every constraint holds. The ids and their arguments are the table `CONSTRAINTS` at the end of this file;
an id that it does not hold, or arguments that do not fit, raise a UserError and never pass in silence.

What the checks mean by their terms, in all constraints alike:

* A response without a letter or digit, above all an empty one, obeys nothing.
* A word is a run of letters and digits; apostrophes and hyphens inside it belong to it (`don't`, `well-known`).
* A phrase occurs where its characters stand, in any case, without a letter or digit touching either end.
* A sentence ends at `.`, `!` or `?` (and closing quotes or brackets) before white space or the end of the text; what
  is left at the end counts as one. A line break alone ends no sentence, and abbreviations are not understood.
* A paragraph is a run of lines that are not blank.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cameleer.core.errors import UserError, did_you_mean
from cameleer.verify.verdict import Verdict, graded

RELATIONS = ("at least", "at most", "exactly")

# Every pattern takes linear time: what may repeat is possessive or ends at a character that it cannot hold.
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_SENTENCE_END = re.compile(r"(?<![.!?])[.!?]++[\"'”’)\]}*]*+(?=\s|$)")
_BULLET = re.compile(r"[ \t]*[-*•][ \t]+\S")
_NUMBERED = re.compile(r"[ \t]*([0-9]{1,9})[.)][ \t]+\S")
_TITLE = re.compile(r"<<([^<>]+)>>")
_HIGHLIGHT = re.compile(r"(?<!\*)(\*{1,2})(?=[^\s*])[^*\n]++(?<=[^\s*])\1(?!\*)")
_PLACEHOLDER = re.compile(r"\[[^\[\]\n]+\]")
_HASHTAG = re.compile(r"(?<!\S)#\w+")
_FENCED = re.compile(r"```(?:json)?[ \t]*\n(.*)\n```", re.DOTALL)


# The parts of a text that constraints count.


def words(text: str) -> list[str]:
    """The words of a text, in order."""
    return _WORD.findall(text)


def sentences(text: str) -> list[str]:
    """The sentences of a text that hold a word."""
    return [part for part in _SENTENCE_END.split(text) if _WORD.search(part)]


def paragraphs(text: str) -> list[str]:
    """The paragraphs of a text."""
    found: list[list[str]] = [[]]
    for line in text.split("\n"):
        if line.strip():
            found[-1].append(line)
        elif found[-1]:
            found.append([])
    return ["\n".join(lines) for lines in found if lines]


def phrase_count(text: str, phrase: str) -> int:
    """How often a phrase occurs in a text."""
    return sum(1 for _ in _phrase_starts(text.casefold(), phrase.casefold()))


def _phrase_starts(text: str, phrase: str) -> Iterator[int]:
    start = text.find(phrase)
    while start >= 0:
        end = start + len(phrase)
        touched = _joins(text[start - 1 : start], phrase[:1]) or _joins(phrase[-1:], text[end : end + 1])
        if not touched:
            yield start
        start = text.find(phrase, start + 1 if touched else end)


def _joins(left: str, right: str) -> bool:
    """Whether two neighbouring characters belong to one word, so that no word ends between them."""
    return left.isalnum() and right.isalnum()


def _related(number: int, relation: str, count: int) -> bool:
    if relation == "at least":
        return number >= count
    return number <= count if relation == "at most" else number == count


# The checks.


def includes_words(response: str, words: list[str]) -> bool:
    """Every word occurs."""
    return all(phrase_count(response, word) for word in words)


def avoids_words(response: str, words: list[str]) -> bool:
    """None of the words occurs."""
    return not any(phrase_count(response, word) for word in words)


def word_frequency(response: str, word: str, relation: str, count: int) -> bool:
    """A word occurs so many times."""
    return _related(phrase_count(response, word), relation, count)


def letter_frequency(response: str, letter: str, relation: str, count: int) -> bool:
    """A letter, in either case, occurs so many times."""
    return _related(response.casefold().count(letter.casefold()), relation, count)


def word_count(response: str, relation: str, count: int) -> bool:
    """The response has so many words."""
    return _related(len(words(response)), relation, count)


def sentence_count(response: str, relation: str, count: int) -> bool:
    """The response has so many sentences."""
    return _related(len(sentences(response)), relation, count)


def paragraph_count(response: str, relation: str, count: int) -> bool:
    """The response has so many paragraphs."""
    return _related(len(paragraphs(response)), relation, count)


def bullet_count(response: str, relation: str, count: int) -> bool:
    """So many lines are bullet points: a `-`, `*` or `•`, white space, text."""
    return _related(sum(1 for line in response.split("\n") if _BULLET.match(line)), relation, count)


def numbered_list(response: str, count: int) -> bool:
    """The numbered lines (`1. text` or `1) text`) are numbered 1, 2, ... up to `count`, in this order."""
    found = [int(match[1]) for line in response.split("\n") if (match := _NUMBERED.match(line))]
    return found == list(range(1, count + 1))


def json_object(response: str, keys: list[str]) -> bool:
    """The whole response, or the whole of one code fence around it, is a JSON object that has these keys."""
    text = response.strip()
    fenced = _FENCED.fullmatch(text)
    try:
        value = json.loads(fenced[1] if fenced else text, parse_int=str, parse_float=str, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and all(key in value for key in keys)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def title(response: str) -> bool:
    """The first line that is not blank is a title in double angle brackets, `<<A Title>>`, and nothing else."""
    found = _TITLE.fullmatch(response.strip().split("\n", 1)[0].strip())
    return found is not None and _WORD.search(found[1]) is not None


def highlight_count(response: str, relation: str, count: int) -> bool:
    """So many spans within a line stand between single or double asterisks."""
    return _related(sum(1 for _ in _HIGHLIGHT.finditer(response)), relation, count)


def placeholder_count(response: str, relation: str, count: int) -> bool:
    """So many placeholders in square brackets, such as `[name]`."""
    return _related(sum(1 for match in _PLACEHOLDER.findall(response) if match[1:-1].strip()), relation, count)


def starts_with(response: str, phrase: str) -> bool:
    """The response begins with a phrase, in any case."""
    text, phrase = response.strip().casefold(), phrase.casefold()
    return text.startswith(phrase) and not _joins(phrase[-1:], text[len(phrase) : len(phrase) + 1])


def ends_with(response: str, phrase: str) -> bool:
    """The response ends with a phrase, in any case, and nothing after it."""
    text, phrase = response.strip().casefold(), phrase.casefold()
    rest = text.removesuffix(phrase)
    return rest != text and not _joins(rest[-1:], phrase[:1])


def quoted(response: str) -> bool:
    """The whole response stands in one pair of double quotation marks, straight or curly, with none inside."""
    text = response.strip()
    inner = text[1:-1]
    in_pair = text[:1] + text[-1:] in ('""', "“”") and _WORD.search(inner) is not None
    return in_pair and not any(mark in inner for mark in '"“”')


def wrapped(response: str, left: str, right: str) -> bool:
    """The response begins with one mark, ends with the other, and has a word between them."""
    text = response.strip()
    inner = text.removeprefix(left).removesuffix(right)
    return len(inner) == len(text) - len(left) - len(right) and _WORD.search(inner) is not None


def no_commas(response: str) -> bool:
    """No comma occurs, not even a full-width one."""
    return not any(comma in response for comma in ",，")


def lowercase(response: str) -> bool:
    """Every letter that has cases is lower case, and there is one."""
    return response.islower()


def uppercase(response: str) -> bool:
    """Every letter that has cases is upper case, and there is one."""
    return response.isupper()


def capital_word_count(response: str, relation: str, count: int) -> bool:
    """So many words of at least two letters are in capitals throughout."""
    capitals = [word for word in words(response) if word.isupper() and sum(map(str.isalpha, word)) > 1]
    return _related(len(capitals), relation, count)


def capitalized_words(response: str) -> bool:
    """No word begins with a lower-case letter."""
    return not any(word[0].islower() for word in words(response))


def postscript(response: str, marker: str) -> bool:
    """After other text, a line begins with the marker (`P.S.`), with a word behind it; no line after it does again."""
    before, found, after = f"\n{response.strip()}".rpartition(f"\n{marker}")
    return bool(found) and _WORD.search(before) is not None and _WORD.search(after) is not None


def sections(response: str, label: str, count: int) -> bool:
    """The lines that begin with the label and a number are `Section 1`, `Section 2`, ... up to `count`, in order."""
    heading = re.compile(rf"[ \t#*]*{re.escape(label)} ([0-9]{{1,9}})\b")
    found = [int(match[1]) for line in response.split("\n") if (match := heading.match(line))]
    return found == list(range(1, count + 1))


def parts(response: str, separator: str, count: int) -> bool:
    """The separator divides the response into exactly so many parts, no two alike, each with a word."""
    found = [part.strip() for part in response.split(separator)]
    return len(found) == count == len(set(found)) and all(_WORD.search(part) for part in found)


def hashtag_count(response: str, relation: str, count: int) -> bool:
    """So many hashtags, each after white space or at the start."""
    return _related(len(_HASHTAG.findall(response)), relation, count)


# The table and the verifier.


@dataclass(frozen=True, slots=True)
class Kind:
    """What an argument of a constraint must be."""

    description: str
    accepts: Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class Constraint:
    """A check and the arguments that it takes besides the response, all of them required."""

    check: Callable[..., bool]
    kwargs: Mapping[str, Kind]


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value == value.strip() != ""


def _is_texts(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) > 0 and all(map(_is_text, value))


RELATION = Kind(f"one of {', '.join(map(repr, RELATIONS))}", lambda value: value in RELATIONS)
COUNT = Kind("a whole number of at least 0", lambda value: type(value) is int and value >= 0)
LETTER = Kind("one letter", lambda value: _is_text(value) and len(value) == 1 and value.isalpha())
TEXT = Kind("a text that is not empty and has no white space around it", _is_text)
TEXTS = Kind("a list of at least one text, none of them empty or with white space around it", _is_texts)

_COUNTED = {"relation": RELATION, "count": COUNT}

CONSTRAINTS: dict[str, Constraint] = {
    "avoid_words": Constraint(avoids_words, {"words": TEXTS}),
    "bullet_count": Constraint(bullet_count, _COUNTED),
    "capital_word_count": Constraint(capital_word_count, _COUNTED),
    "capitalized_words": Constraint(capitalized_words, {}),
    "ends_with": Constraint(ends_with, {"phrase": TEXT}),
    "hashtag_count": Constraint(hashtag_count, _COUNTED),
    "highlight_count": Constraint(highlight_count, _COUNTED),
    "include_words": Constraint(includes_words, {"words": TEXTS}),
    "json_object": Constraint(json_object, {"keys": TEXTS}),
    "letter_frequency": Constraint(letter_frequency, {"letter": LETTER, **_COUNTED}),
    "lowercase": Constraint(lowercase, {}),
    "no_commas": Constraint(no_commas, {}),
    "numbered_list": Constraint(numbered_list, {"count": COUNT}),
    "paragraph_count": Constraint(paragraph_count, _COUNTED),
    "parts": Constraint(parts, {"separator": TEXT, "count": COUNT}),
    "placeholder_count": Constraint(placeholder_count, _COUNTED),
    "postscript": Constraint(postscript, {"marker": TEXT}),
    "quoted": Constraint(quoted, {}),
    "sections": Constraint(sections, {"label": TEXT, "count": COUNT}),
    "sentence_count": Constraint(sentence_count, _COUNTED),
    "starts_with": Constraint(starts_with, {"phrase": TEXT}),
    "title": Constraint(title, {}),
    "uppercase": Constraint(uppercase, {}),
    "word_count": Constraint(word_count, _COUNTED),
    "word_frequency": Constraint(word_frequency, {"word": TEXT, **_COUNTED}),
    "wrapped": Constraint(wrapped, {"left": TEXT, "right": TEXT}),
}


def verify_constraints(response: str, target: dict[str, Any]) -> Verdict:
    """`correct` if the response obeys every constraint of the target; the detail says of each whether it holds."""
    says_something = _WORD.search(response) is not None
    results = [
        {"id": name, "kwargs": kwargs, "holds": says_something and CONSTRAINTS[name].check(response, **kwargs)}
        for name, kwargs in _listed(target)
    ]
    return graded(all(result["holds"] for result in results), constraints=results)


def _listed(target: Any) -> list[tuple[str, dict[str, Any]]]:
    """The constraints of a target as (id, kwargs); a UserError unless every one is known and complete."""
    entries = target.get("constraints") if isinstance(target, dict) and len(target) == 1 else None
    if not isinstance(entries, list) or not entries:
        raise UserError(
            f"The target of the verifier 'constraints' must be {{'constraints': [...]}} with at least one constraint,"
            f" but is {target!r}."
        )
    return [_checked(entry) for entry in entries]


def _checked(entry: Any) -> tuple[str, dict[str, Any]]:
    if not isinstance(entry, dict) or set(entry) - {"id", "kwargs"} or not isinstance(entry.get("id"), str):
        raise UserError(f"A constraint must be {{'id': ..., 'kwargs': {{...}}}}, but is {entry!r}.")
    name, kwargs = entry["id"], entry.get("kwargs", {})
    if name not in CONSTRAINTS:
        raise UserError(f"Unknown constraint '{name}'.{did_you_mean(name, CONSTRAINTS)}")
    wanted = CONSTRAINTS[name].kwargs
    if not isinstance(kwargs, dict) or set(kwargs) != set(wanted):
        raise UserError(f"The constraint '{name}' takes the arguments {sorted(wanted)}, but was given {kwargs!r}.")
    for argument, kind in wanted.items():
        if not kind.accepts(kwargs[argument]):
            raise UserError(
                f"The argument '{argument}' of the constraint '{name}' must be {kind.description},"
                f" but is {kwargs[argument]!r}."
            )
    return name, kwargs
