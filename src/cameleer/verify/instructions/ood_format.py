"""The checks of IFEval-OOD's group `format`.

Each follows the checker of the same id in the public `ifbench` package, in what it lets pass too; where that is less
than the instruction says, the docstring says so. `camel_case` is not in that package and follows the Tülu 3 report.
"""

import ast
import re
from collections import defaultdict, deque
from itertools import pairwise

from cameleer.verify.instructions.ood_text import bare, sentences, tokens, without_punctuation

MIN_PARENTHESES_DEPTH = 5
MIN_QUOTES_DEPTH = 3
MAX_PROGRAM_CHARACTERS = 1 << 17

_OPENING_OF = {")": "(", "]": "[", "}": "{"}
_LETTERED_OPTIONS = re.compile(r"\W*[aA]\W*[bB]\W*[cC]\W*")
_NOT_A_QUOTE = "0123456789!#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
_FENCED = re.compile(r"```(?:python|py|python3)?[ \t]*\n(.*?)\n?```", re.DOTALL | re.IGNORECASE)
_CAMEL_CASE = re.compile(r"_|_*[a-z][a-zA-Z0-9]*")


def emoji(response: str) -> bool:
    """Every sentence ends in an emoji, or the next one begins with it, as it does where it follows the full stop.

    ASCII punctuation is set aside. The last character may be a modifier: the one before it counts as well.
    """
    ends = [without_punctuation(sentence).strip() for sentence in sentences(response)]
    return all(_ends_in_emoji(text, after) for text, after in zip(ends, [*ends[1:], ""], strict=True))


def _ends_in_emoji(text: str, after: str) -> bool:
    from emoji import is_emoji

    return text != "" and any(is_emoji(character) for character in (*text[-2:], after[:1]))


def line_indent(response: str) -> bool:
    """Each line is indented by more spaces than the one before it.

    Blank lines are set aside as the reference does, which passes over the line after each: of two in a row one stays
    and has to be indented like any other.
    """
    lines = _without_blank_lines(response.split("\n"))
    indents = [len(line) - len(line.lstrip(" ")) for line in lines]
    return all(here < following for here, following in pairwise(indents))


def _without_blank_lines(lines: list[str]) -> list[str]:
    """What is left when a loop over a list removes from this list the first line that equals the blank one it is at.

    Each removal moves the next line to where the loop already was, so that it is never looked at.
    """
    kept: dict[str, deque[int]] = defaultdict(deque)
    removed: set[int] = set()
    passed_over = False
    for index, line in enumerate(lines):
        if line.strip():
            passed_over = False
            continue
        kept[line].append(index)
        if not passed_over:
            removed.add(kept[line].popleft())
        passed_over = not passed_over
    return [line for index, line in enumerate(lines) if index not in removed]


def list_separator(response: str, sep: str) -> bool:
    """The separator occurs at least twice, wherever it stands."""
    return response.count(sep) >= 2


def newline(response: str) -> bool:
    """Once ASCII punctuation is deleted, there are as many lines that are not empty as words."""
    text = without_punctuation(response).strip()
    return sum(line != "" for line in text.split("\n")) == len(text.split())


def no_bullets_bullets(response: str) -> bool:
    """At least two sentences, then at least two lines that begin with `*`, and nothing after or between these.

    The sentences may end in anything. They end with the first blank line: after it only bullets may follow.
    """
    lines = [line.strip() for line in response.split("\n")]
    num_bullets = sum(line.startswith("*") for line in lines)
    before = lines[: len(lines) - num_bullets]
    if num_bullets < 2 or any(line.startswith("*") for line in before) or "" in before[:-1]:
        return False
    return sum(len(sentences(line)) for line in before) >= 2


def options(response: str, options: str) -> bool:
    """The response is one of the options, which `/`, else `or`, else a comma separates.

    Lettered options (`a), b), c)`) must be met exactly, others without regard to case and the punctuation around them.
    """
    separator = next((mark for mark in ("/", "or") if mark in options), ",")
    listed = [option.strip() for option in options.split(separator)]
    if _LETTERED_OPTIONS.match(options):
        return response in listed
    return bare(response).lower() in [bare(option).lower() for option in listed]


def parentheses(response: str) -> bool:
    """A bracket closes properly after brackets have been nested five deep; an improper one starts the count anew."""
    opened: list[str] = []
    depth = 0
    for character in response:
        if character in "([{":
            opened.append(character)
            depth = max(depth, len(opened))
        elif character in _OPENING_OF:
            if not opened or opened.pop() != _OPENING_OF[character]:
                opened, depth = [], 0
            elif depth >= MIN_PARENTHESES_DEPTH:
                return True
    return False


def quotes(response: str) -> bool:
    """Three levels that `"` and `'` opened have been closed from the greatest depth; an apostrophe is a mark too."""
    opened: list[str] = []
    depth = 0
    for mark in response:
        if opened and mark == opened[-1]:
            opened.pop()
            if depth - len(opened) >= MIN_QUOTES_DEPTH:
                return True
        elif mark in "\"'":
            opened.append(mark)
            depth = max(depth, len(opened))
    return False


def quote_unquote(response: str) -> bool:
    """No two double quotes stand next to each other, white space aside, and the text does not end in one.

    Digits and other punctuation may follow the last quote. `'"'` speaks of the mark and is set aside. No quote need
    occur.
    """
    text = "".join(response.replace("'\"'", "").split())
    return '""' not in text and not text.strip(_NOT_A_QUOTE).endswith('"')


def sub_bullets(response: str) -> bool:
    """A `-` stands behind each `*`, before the next one, on any line.

    A response without `*` passes, and so loosely does every response that has more than asterisks.
    """
    return all("-" in part for part in response.split("*")[1:])


def thesis(response: str) -> bool:
    """The first `<i>` (or else `<em>`) element is not blank and text follows it.

    As in the reference a closing `</i>` is looked for first, and after `</em>` its own `>` counts as text.
    """
    start = _first(response, "<i>", "<em>")
    if start < 0:
        return False
    text = response[start:]
    end = _first(text, "</i>", "</em>")
    return end >= 0 and text[3:end].strip() != "" and text[end + 4 :].strip() != ""


def _first(text: str, mark: str, other: str) -> int:
    place = text.find(mark)
    return place if place >= 0 else text.find(other)


def title_case(response: str) -> bool:
    """No token of letters begins in lower case: neither a single letter, nor `word`, nor `wORD`.

    A token of both cases that begins in lower case (`iPhone`) passes, and so does one in capitals.
    """
    return not any(token[0].islower() and _one_case(token[1:]) for token in tokens(response) if token[0].isalpha())


def _one_case(rest: str) -> bool:
    return rest == "" or rest.islower() or rest.isupper()


def output_template(response: str) -> bool:
    """The three labels of the template occur, in any order."""
    return all(label in response for label in ("My Answer:", "My Conclusion:", "Future Outlook:"))


def no_whitespace(response: str) -> bool:
    """No character is white space."""
    return not any(map(str.isspace, response))


# Not in the package.


def camel_case(response: str) -> bool:
    """The response is a Python program and nothing else, and all variables that it binds are in camelCase.

    The report asks for Python code alone, with all variables in camelCase and no explanation; its checker is not
    published. Here the whole response, or the whole of one code fence around it, must parse, and every name that it
    assigns (parameters, loop and `with` targets, attributes and the like included; not functions, classes and modules)
    begins with a small letter and holds no underscore after leading ones. At least one name is assigned. Comments and
    docstrings are code. A response of more than MAX_PROGRAM_CHARACTERS does not follow: parsing takes a hundred times
    its memory.
    """
    if len(response) > MAX_PROGRAM_CHARACTERS:
        return False
    fenced = _FENCED.fullmatch(response.strip())
    try:
        program = ast.parse(fenced[1] if fenced else response)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    names = [_bound_name(node) for node in ast.walk(program) if isinstance(node, _BINDING)]
    found = [name for name in names if name is not None]
    return bool(found) and all(_CAMEL_CASE.fullmatch(name) for name in found)


_BINDING = (ast.Name, ast.Attribute, ast.arg, ast.ExceptHandler, ast.MatchAs, ast.MatchStar, ast.MatchMapping)


def _bound_name(node: ast.AST) -> str | None:
    """The name that a node of a program itself binds to a value."""
    match node:
        case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()) | ast.arg(arg=name):
            return name
        case ast.ExceptHandler(name=name) | ast.MatchAs(name=name) | ast.MatchStar(name=name):
            return name
        case ast.MatchMapping(rest=name):
            return name
        case _:
            return None
