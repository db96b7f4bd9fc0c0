"""Whether a response is, holds or overlaps with one of the accepted answers.

A target is `{"rule": ..., "answers": [...]}` with at least one answer, and by its rule:

    exact             the response is an answer, white space around both cut; with "normalised": true both are compared
                      as DROP normalises a span
    alias_substring   an answer stands in the response as written, in lower case, or capitalised (first letter upper,
                      the others lower)                                             PopQA: adaptive-retrieval, OLMES
    f1                an answer is a list of spans; the score is the best F1 over the answers, correct is F1 = 1
                                                             DROP: `drop_eval` of allenai/allennlp-reading-comprehension
    bbh               the answer that the response ends on, extracted as below; "form" says what it looks like
                                                                                   OLMES, `bbh:cot-v1` (`answer_regex`)

**f1.** A span is split at spaces and hyphens; its tokens lose case, articles and, unless they are numbers, punctuation;
numbers become decimals; the rest is a set. The F1 of two spans is that of their sets, and 0 where the answer's has
numbers of which the response's has none. Spans of response and answer are paired one to one so that the sum is largest;
divided by the larger number of spans it is the score. Where this departs from the original:

* A response is text, not a list. It counts as one span or, where an answer has several, as its lines, or the parts of
  its one line between `,`, `;` and `and`, whichever scores higher. (The paper's harness takes it as one span, so a
  complete answer of n spans cannot score more than 1/n there.)
* The F1 is not rounded to two decimals. `nan`, `inf` and `1_000` are words, not numbers.

**bbh.** The last match of the first of these that matches, in any case, ends the search: `So the answer is A`, `answer
is A`, `answer: … A`, `answer … A` (both within a line), `A`; for letters then a lone capital. A is one of the form:

    letter     (A), or a lone capital          yes_no, true_false, valid_invalid     the two words
    integer    digits, perhaps with a sign     brackets  closing brackets            words   letters, spaces, ' and &

Compared are the letters, words without regard to case and white space, integers by value, brackets without white space.
Departures: a word must stand alone (`no` is not in `not`), a list of words may hold `'` and `&`, commas in numbers are
deleted, and the sign of an integer counts, which the original deletes as punctuation.
"""

import math
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import nlargest
from typing import Any

from cameleer.core.errors import UserError
from cameleer.verify.verdict import Outcome, Verdict, graded

MAX_SHOWN_CHARACTERS = 80
"""A verdict's detail quotes no more of an extracted answer than this."""

_UNPARSEABLE = Verdict(Outcome.UNPARSEABLE, 0.0, {"reason": "no answer in the response"})


def verify_text(response: str, target: dict[str, Any]) -> Verdict:
    """The verdict of the target's rule. The time is linear in the response.

    A malformed target raises a UserError.
    """
    rule, answers = _checked(target)
    if rule == "exact":
        normalised = target.get("normalised", False)
        found = _normalised(response) if normalised else response.strip()
        return graded(found in (_normalised(answer) if normalised else answer.strip() for answer in answers))
    if rule == "alias_substring":
        return _alias_substring(response, answers)
    if rule == "f1":
        return _f1(response, answers)
    return _bbh(response, answers, _FORMS[target["form"]])


def _alias_substring(response: str, answers: Sequence[str]) -> Verdict:
    for answer in answers:
        if any(variant in response for variant in (answer, answer.lower(), answer.capitalize())):
            return graded(True, answer=answer)
    return graded(False)


# DROP's F1.

_TOKENS = re.compile(r"[^ -]+")
_NUMBER = re.compile(r"\s*[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?\s*")
_PUNCTUATION = str.maketrans("", "", "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
_ARTICLE_WORDS = frozenset(("a", "an", "the"))
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_LIST_MARKS = re.compile(r",(?![0-9])|;|\band\b")


@dataclass(frozen=True, slots=True)
class _Bag:
    """The distinct tokens of a span, and those of them that are numbers."""

    tokens: frozenset[str]
    numbers: frozenset[str]


def _f1(response: str, answers: Sequence[Sequence[str]]) -> Verdict:
    """The best F1 over the answers."""
    whole, parts = [_bag(response)], list[_Bag]()
    if max(map(len, answers)) > 1:
        lines = response.strip().split("\n")
        listed = lines if len(lines) > 1 else _LIST_MARKS.split(response)
        parts = [_bag(part) for part in listed if part.strip()]
    score = 0.0
    for answer in answers:
        spans = [_bag(span) for span in answer]
        score = max(score, _paired_f1(whole, spans), _paired_f1(parts, spans) if len(spans) > 1 else 0.0)
    return Verdict(Outcome.CORRECT if score == 1.0 else Outcome.WRONG, score)


def _bag(span: str) -> _Bag:
    tokens = frozenset(_normalised(span).split())
    return _Bag(tokens, frozenset(filter(_NUMBER.fullmatch, tokens)))


def _normal_token(token: str) -> str:
    """In lower case, without articles and white space; a number as a decimal, anything else without punctuation."""
    if token.isascii() and token.isalpha():  # Most tokens: the rest of this has nothing to do.
        return "" if (word := token.lower()) in _ARTICLE_WORDS else word
    if _NUMBER.fullmatch(token):
        return str(float(token))
    bare = token.lower().translate(_PUNCTUATION)
    if _NUMBER.fullmatch(bare):
        return str(float(bare))
    return " ".join(_ARTICLES.sub(" ", bare).split())


def _normalised(text: str) -> str:
    return " ".join(filter(None, map(_normal_token, _TOKENS.findall(text))))


def _paired_f1(found: Sequence[_Bag], answer: Sequence[_Bag]) -> float:
    """The mean F1 of the best one-to-one pairing; spans without a partner count 0."""
    if not found:
        return 0.0
    values = [[_bag_f1(one, other) for one in found] for other in answer]
    if len(found) < len(answer):
        values = [list(column) for column in zip(*values, strict=True)]
    # A row never needs a column beyond its best, as many as there are rows: the other rows can take one each of them.
    best = {column for row in values for column in nlargest(len(values), range(len(row)), key=row.__getitem__)}
    return _best_sum([[row[column] for column in sorted(best)] for row in values]) / max(len(found), len(answer))


def _bag_f1(found: _Bag, answer: _Bag) -> float:
    if answer.numbers and not answer.numbers & found.numbers:
        return 0.0
    if not found.tokens or not answer.tokens:
        return float(found.tokens == answer.tokens)
    common = len(found.tokens & answer.tokens)
    return 2 * common / (len(found.tokens) + len(answer.tokens))


def _best_sum(values: Sequence[Sequence[float]]) -> float:
    """The largest sum of one value a row, no two from one column; there are at least as many columns as rows.

    The Hungarian method with shortest augmenting paths, in rows² · columns steps. Column 0 is no real one: from it
    starts the path of the row that is added.
    """
    columns = range(1, len(values[0]) + 1)
    holder = [-1] * (len(columns) + 1)
    row_price, column_price = [0.0] * len(values), [0.0] * (len(columns) + 1)
    for added in range(len(values)):
        holder[0], column, visited = added, 0, [0]
        slack, previous = [math.inf] * (len(columns) + 1), [0] * (len(columns) + 1)
        open_columns = set(columns)
        while holder[column] >= 0:
            row = holder[column]
            for j in open_columns:
                cost = -values[row][j - 1] - row_price[row] - column_price[j]
                if cost < slack[j]:
                    slack[j], previous[j] = cost, column
            column = min(open_columns, key=slack.__getitem__)
            step = slack[column]
            for j in visited:
                row_price[holder[j]] += step
                column_price[j] -= step
            for j in open_columns:
                slack[j] -= step
            open_columns.remove(column)
            visited.append(column)
        while column:
            holder[column] = holder[previous[column]]
            column = previous[column]
    return math.fsum(values[holder[j]][j - 1] for j in columns if holder[j] >= 0)


# The answer that a chain of thought ends on.

_CUES = tuple(map(re.compile, (r"(?i)so the answer is ", r"(?i)answer is ")))
_LOOSE_CUES = tuple(map(re.compile, (r"(?i)answer:", r"(?i)answer\b")))
_LONE_CAPITAL = re.compile(r"\b([A-Z])\b")


@dataclass(frozen=True, slots=True)
class _Form:
    """What answers look like, and what of them is compared."""

    pattern: re.Pattern[str]
    normal: Callable[[str], str]


def _words(text: str) -> str:
    return " ".join(text.lower().split())


def _brackets(text: str) -> str:
    return "".join(text.split())


def _integer(text: str) -> str:
    digits = text.lstrip("-").replace(",", "").lstrip("0")
    return f"-{digits}" if digits and text.startswith("-") else digits or "0"


_FORMS: dict[str, _Form] = {
    "letter": _Form(re.compile(r"\([A-Z]\)"), lambda text: text.strip("()")),
    "yes_no": _Form(re.compile(r"(?i)\b(?:yes|no)\b"), _words),
    "true_false": _Form(re.compile(r"(?i)\b(?:true|false)\b"), _words),
    "valid_invalid": _Form(re.compile(r"(?i)\b(?:in)?valid\b"), _words),
    "integer": _Form(re.compile(r"-?[0-9][0-9,]*+"), _integer),
    "brackets": _Form(re.compile(r"[\])}>](?: *+[\])}>])*+"), _brackets),
    "words": _Form(re.compile(r"(?i)[a-z][a-z'& ]*+"), _words),
}


def _bbh(response: str, answers: Sequence[str], form: _Form) -> Verdict:
    found = _extract(response, form)
    if found is None:
        return _UNPARSEABLE
    normal = form.normal(found)
    return graded(normal in [form.normal(answer) for answer in answers], answer=normal[:MAX_SHOWN_CHARACTERS])


def _extract(response: str, form: _Form) -> str | None:
    """The last match of the first pattern of the cascade."""
    for cue in _CUES:
        matches = (form.pattern.match(response, start.end()) for start in cue.finditer(response))
        if found := _last(match[0] for match in matches if match):
            return found
    for cue in _LOOSE_CUES:
        if found := _last(_after(cue, form.pattern, response)):
            return found
    found = _last(match[0] for match in form.pattern.finditer(response))
    if found is None and form is _FORMS["letter"]:
        found = _last(match[0] for match in _LONE_CAPITAL.finditer(response))
    return found


def _after(cue: re.Pattern[str], pattern: re.Pattern[str], text: str) -> Iterator[str]:
    """The first match of the pattern behind each cue in its line, where no earlier such stretch covers the cue.

    Every search goes on from where the last one ended, so that the time stays linear however often the cue occurs.
    """
    place = 0
    while start := cue.search(text, place):
        line_end = text.find("\n", start.end())
        line_end = len(text) if line_end < 0 else line_end
        found = pattern.search(text, start.end(), line_end)
        place = found.end() if found else line_end
        if found:
            yield found[0]


def _last(found: Iterable[str]) -> str | None:
    return next(iter(deque(found, maxlen=1)), None)


# Targets.

_OPTIONS = {"exact": {"normalised"}, "alias_substring": set[str](), "f1": set[str](), "bbh": {"form"}}


def _checked(target: Any) -> tuple[str, Any]:
    """Rule and answers of a target; a UserError unless they fit together."""
    rule = target.get("rule") if isinstance(target, dict) else None
    if rule not in _OPTIONS:
        raise UserError(f"The target of the verifier 'text' needs a rule of {', '.join(_OPTIONS)}, but is {target!r}.")
    answers = target.get("answers")
    accepts = _are_spans if rule == "f1" else _is_text
    if not isinstance(answers, list) or not answers or not all(map(accepts, answers)):
        kind = "lists of spans" if rule == "f1" else "texts"
        raise UserError(f"The 'answers' of the rule '{rule}' must be {kind}, none of them empty, but are {answers!r}.")
    unknown = set(target) - {"rule", "answers"} - _OPTIONS[rule]
    if unknown:
        raise UserError(f"A target with the rule '{rule}' has no '{min(unknown)}'.")
    _check_options(rule, target)
    return rule, answers


def _check_options(rule: str, target: dict[str, Any]) -> None:
    if not isinstance(target.get("normalised", False), bool):
        raise UserError(f"'normalised' is true or false, not {target['normalised']!r}.")
    if rule != "bbh":
        return
    form = target.get("form")
    if form not in _FORMS:
        raise UserError(f"The rule 'bbh' needs a form of {', '.join(_FORMS)}, but has {form!r}.")
    for answer in target["answers"]:
        if not _FORMS[form].pattern.fullmatch(answer):
            raise UserError(f"The answer {answer!r} is not of the form '{form}'.")


def _is_text(answer: Any) -> bool:
    return isinstance(answer, str) and bool(answer.strip())


def _are_spans(answer: Any) -> bool:
    return isinstance(answer, list) and len(answer) > 0 and all(map(_is_text, answer))
