"""The families of precise instructions: how each is asked for, which step obeys it and what breaks it.

The stages order the steps of one answer; a combination takes at most one family of each:

    words (marks on single words) → layout → edge (before, after, around) → letters (case) → content (read off the end)
"""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from itertools import combinations

from cameleer.tasks import precise_if_steps as steps
from cameleer.tasks.generate import Count, enumerated
from cameleer.tasks.precise_if_steps import Kwargs, Step


class Stage(IntEnum):
    """When a family acts upon the draft."""

    WORDS = 0
    LAYOUT = 1
    EDGE = 2
    LETTERS = 3
    CONTENT = 4


@dataclass(frozen=True, slots=True)
class InstructionFamily:
    """One kind of instruction.

    `constraint` names a check of `cameleer.verify.constraints`. `step` makes a draft obey and gives the arguments of
    the check. `spoil` breaks this constraint in an answer that obeys. `phrasings` are format strings over the
    arguments. `num_sentences` are the draft lengths that suit, `without` is text that its sentences must not hold.
    """

    name: str
    constraint: str
    stage: Stage
    step: Step
    spoil: Callable[[str, Kwargs], str]
    phrasings: tuple[str, ...]
    num_sentences: tuple[int, ...] = (1, 2, 3)
    without: str | None = None

    def asked(self, rng: random.Random, kwargs: Kwargs) -> str:
        """One wording of the instruction."""
        fields = {name: Count(value) if isinstance(value, int) else value for name, value in kwargs.items()}
        for plural in {"words", "keys"} & set(kwargs):
            fields[plural] = enumerated(plural.removesuffix("s"), kwargs[plural])
        return rng.choice(self.phrasings).format_map(fields)


def _emphasized(word: str) -> str:
    return f"*{word}*"


def _without_words(text: str, kwargs: Kwargs) -> str:
    return re.sub(re.escape(kwargs["words"][0]), "thing", text, flags=re.IGNORECASE)


def _without_letter(text: str, kwargs: Kwargs) -> str:
    return re.sub(kwargs["letter"], "", text, flags=re.IGNORECASE)


F = InstructionFamily

TRAINED_FAMILIES = (
    F("highlights", "highlight_count", Stage.WORDS, steps.marked_words(_emphasized), lambda t, k: t.replace("*", ""), (
        "Highlight at least {count:word} with asterisks, like *this*.",
        "Mark at least {count:word} like *this*.",
        "Put asterisks around at least {count:word}, as in *word*.",
        "Emphasize at least {count:word} *like this*.",
    )),
    F("capital words", "capital_word_count", Stage.WORDS, steps.marked_words(str.upper), lambda t, k: t.lower(), (
        "Write at least {count:word} in all capital letters.",
        "Put at least {count:word} in full capitals.",
        "Use all capital letters for at least {count:word}.",
        "Write at least {count:word} in CAPITALS.",
    )),
    F("paragraphs", "paragraph_count", Stage.LAYOUT, steps.paragraphs, lambda t, k: f"{t}\n\nOne more paragraph.", (
        "Write exactly {count:paragraph} with a blank line between them.",
        "Give exactly {count:paragraph}, separated by blank lines.",
        "Split your answer into {count:paragraph} with a blank line in between.",
        "Use exactly {count:paragraph}, each set off by a blank line.",
    ), num_sentences=(2, 3)),
    F("bullets", "bullet_count", Stage.LAYOUT, steps.bullets, lambda t, k: f"{t}\n- One more.", (
        "Use exactly {count:bullet point}.",
        "Answer with exactly {count:bullet point}, each starting with a dash.",
        "Write your answer as {count:bullet point}.",
        "Give {count:bullet point}, each on a line of its own.",
    ), num_sentences=(2, 3)),
    F("numbered list", "numbered_list", Stage.LAYOUT, steps.numbered, lambda t, k: f"{t}\n9. One more.", (
        "Answer with a numbered list of {count:item}.",
        "Number your points from 1 to {count}.",
        "Write a list of {count:numbered point}.",
        "Give your answer as a list numbered 1 to {count}.",
    ), num_sentences=(2, 3)),
    F("json", "json_object", Stage.LAYOUT, steps.as_json, lambda t, k: f"Here it is: {t}", (
        "Answer with a JSON object that has the {keys}.",
        "Put your whole answer into JSON with the {keys}.",
        "Reply in JSON only, using the {keys}.",
        "Format the answer as JSON with the {keys}.",
    ), num_sentences=(1, 2)),
    F("title", "title", Stage.EDGE, steps.title, lambda t, k: t.replace("<<", "<"), (
        "Begin with a title in double angle brackets, such as <<My Title>>.",
        "Put a title like <<Title>> on the first line.",
        "Start with a title wrapped in << and >>.",
        "Add a title in double angle brackets at the top, as in <<Title>>.",
    )),
    F("opening", "starts_with", Stage.EDGE, steps.opening, lambda t, k: f"Well, {t}", (
        'Begin with the words "{phrase}" and then answer.',
        'Put "{phrase}" at the start of your answer.',
        'Use "{phrase}" as the first words of your answer.',
        'Start with "{phrase}" before anything else.',
    )),
    F("closing", "ends_with", Stage.EDGE, steps.closing, lambda t, k: f"{t} Bye now.", (
        'Put "{phrase}" at the end of your answer.',
        'Use "{phrase}" as the last words of your answer.',
        'Finish with "{phrase}" and nothing after it.',
        'End with the words "{phrase}" and stop there.',
    )),
    F("postscript", "postscript", Stage.EDGE, steps.postscript, lambda t, k: t.replace("P.S.", "Also"), (
        "Add a postscript at the end that starts with {marker}",
        "End with a note that begins with {marker}",
        "After your answer add a postscript starting with {marker}",
        "Finish with a short postscript that begins with {marker}",
    )),
    F("placeholders", "placeholder_count", Stage.EDGE, steps.placeholders, lambda t, k: t.replace("[", "("), (
        "Include at least {count:placeholder} in square brackets, such as [name].",
        "Use at least {count:placeholder} like [date].",
        "Leave at least {count:blank} to fill in, written like [name].",
        "Put at least {count:placeholder} in square brackets, for example [city].",
    )),
    F("quotation", "quoted", Stage.EDGE, steps.quotation, lambda t, k: t[:-1], (
        "Put your whole answer in double quotation marks.",
        "Wrap the entire answer in double quotes.",
        "Start and end your answer with a double quotation mark.",
        "Your whole answer must stand in double quotes.",
    )),
    F("lowercase", "lowercase", Stage.LETTERS, steps.recased(str.lower), lambda t, k: t.upper(), (
        "Write in all lowercase letters.",
        "Use only lowercase letters.",
        "Do not use any capital letters.",
        "Your whole answer must be in lowercase.",
    )),
    F("uppercase", "uppercase", Stage.LETTERS, steps.recased(str.upper), lambda t, k: t.lower(), (
        "Write in all capital letters.",
        "Use only uppercase letters.",
        "Answer entirely in capital letters.",
        "Your whole answer must be in uppercase.",
    )),
    F("no commas", "no_commas", Stage.LETTERS, steps.recased(str), lambda t, k: t.replace(" ", ", ", 1), (
        "Do not use any commas.",
        "Write without commas.",
        "Avoid commas in your answer.",
        "Your answer must not contain a comma.",
    ), without=","),
    F("included words", "include_words", Stage.CONTENT, steps.included, _without_words, (
        "Include the {words}.",
        "Use the {words} in your answer.",
        "Your answer must contain the {words}.",
        "Make sure to mention the {words}.",
    )),
    F("avoided words", "avoid_words", Stage.CONTENT, steps.avoided, lambda t, k: f"{t} {k['words'][0]}", (
        "Do not use the {words}.",
        "Avoid the {words}.",
        "Leave out the {words}.",
        "Your answer must not contain the {words}.",
    )),
    F("frequent letter", "letter_frequency", Stage.CONTENT, steps.frequent_letter, _without_letter, (
        "Use the letter {letter} at least {count:time}.",
        "The letter {letter} must appear at least {count:time}.",
        "Let the letter {letter} occur {count:time} or more.",
        "Write the letter {letter} at least {count:time}.",
    )),
    F("absent letter", "letter_frequency", Stage.CONTENT, steps.absent_letter, lambda t, k: f"{t} {k['letter']}", (
        "Do not use the letter {letter}.",
        "Avoid every word with the letter {letter}.",
        "Write without the letter {letter}.",
        "The letter {letter} must not appear.",
    ), num_sentences=(1, 2)),
    F("at most words", "word_count", Stage.CONTENT, steps.at_most_words, lambda t, k: t + " more" * (k["count"] + 1), (
        "Use at most {count:word}.",
        "Stay within {count:word}.",
        "Write no more than {count:word}.",
        "Keep it to {count:word} or fewer.",
    )),
    F("at least words", "word_count", Stage.CONTENT, steps.at_least_words, lambda t, k: t.split()[0], (
        "Use at least {count:word}.",
        "Write {count:word} or more.",
        "Your answer must have at least {count:word}.",
        "Do not use fewer than {count:word}.",
    )),
    F("sentences", "sentence_count", Stage.CONTENT, steps.sentence_number, lambda t, k: f"{t} This is one more.", (
        "Answer in exactly {count:sentence}.",
        "Write exactly {count:sentence}.",
        "Your answer must have exactly {count:sentence}.",
        "Use {count:sentence}, no more and no fewer.",
    )),
)  # fmt: skip

HELD_OUT_FAMILIES = (
    F("sections", "sections", Stage.LAYOUT, steps.sections, lambda t, k: t.replace(k["label"], "Heading"), (
        "Divide your answer into parts with the headings {label} 1 to {label} {count}.",
        "Use {count:heading}, from {label} 1 to {label} {count}.",
        "Put the lines {label} 1 to {label} {count} above the parts of your answer.",
        "Structure the answer as {label} 1 to {label} {count}, with each heading on its own line.",
    ), num_sentences=(2, 3)),
    F("parts", "parts", Stage.LAYOUT, steps.parts, lambda t, k: t.replace(k["separator"], ""), (
        "Give {count:different part} and put {separator} between them.",
        "Put {separator} between the {count:part} of your answer.",
        "Write {count:part} with a line of {separator} between them.",
        "Use {separator} to divide your answer into {count:part}.",
    ), num_sentences=(2, 3)),
    F("wrapping", "wrapped", Stage.EDGE, steps.wrapping, lambda t, k: t[:-1], (
        "Put {left} at the very start and {right} at the very end of your answer.",
        "Use {left} and {right} to enclose your whole answer.",
        "Begin with {left} and end with {right}, with the whole answer between them.",
        "Wrap the whole answer so that {left} opens it and {right} closes it.",
    )),
    F("hashtags", "hashtag_count", Stage.EDGE, steps.hashtags, lambda t, k: f"{t} #More", (
        "Add exactly {count:hashtag} at the end.",
        "Finish with exactly {count:hashtag}.",
        "Use exactly {count:hashtag} in your answer.",
        "Your answer must have exactly {count:hashtag}.",
    )),
    F("capitalized", "capitalized_words", Stage.LETTERS, steps.recased(steps.capitalized), lambda t, k: t.lower(), (
        "Capitalize the first letter of every word.",
        "Every word must begin with a capital letter.",
        "Write In Title Case, Like This.",
        "Start each word with a capital letter.",
    )),
)  # fmt: skip

_LIMITED = {
    "json": {
        "capital words", "included words", "avoided words", "frequent letter", "absent letter",
    },
    "sentences": {"highlights", "capital words", "quotation", "lowercase", "uppercase", "no commas"},
}  # fmt: skip
"""Families that combine with these only: what else they would meet blurs what a sentence or the whole answer is."""

_CLASHES = {
    "paragraphs": {"title", "postscript"},
    "bullets": {"quotation"},
    "numbered list": {"quotation", "at most words", "at least words"},
    "lowercase": {"capital words", "opening", "closing", "postscript"},
    "uppercase": {"capital words", "opening", "closing", "postscript"},
    "no commas": {"postscript"},
    "sections": {"wrapping"},
}
"""Pairs that contradict each other, or whose joint meaning a reader could dispute."""


def compatible(first: InstructionFamily, second: InstructionFamily) -> bool:
    """Whether one answer can be asked to obey both without contradiction or doubt."""
    if first.stage == second.stage or not set(first.num_sentences) & set(second.num_sentences):
        return False
    pairs = ((first.name, second.name), (second.name, first.name))
    return not any(b in _CLASHES.get(a, ()) or (a in _LIMITED and b not in _LIMITED[a]) for a, b in pairs)


Combination = tuple[InstructionFamily, ...]


def compatible_pairs(families: tuple[InstructionFamily, ...]) -> tuple[Combination, ...]:
    """All pairs that can be asked for together, each in the order of its steps."""
    ordered = sorted(families, key=lambda family: family.stage)
    return tuple(pair for pair in combinations(ordered, 2) if compatible(*pair))
