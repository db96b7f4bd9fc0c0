"""Instructions of IFEval's 25 types, drawn with arguments, said in words of our own and sure to be verifiable.

One to three types are drawn for a request, as Tülu 3 does for its persona prompts (technical report, §3.1.2). What is
said and what is verified come from one draw, so no instruction is asked for that the target lacks, and none is in the
target that the prompt does not ask for. `_CLASHES` bars what contradicts or makes no sense together; beyond that a
combination stands only if a text that follows all of it can be made (`ifeval_gold`) and is accepted.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cameleer.tasks.generate import Count, enumerated
from cameleer.tasks.ifeval_gold import compliant_response
from cameleer.verify.instructions.checks import INSTRUCTIONS, OPTIONS
from cameleer.verify.instructions.ifeval import Instruction, judge_instructions

MAX_INSTRUCTIONS = 3

WORDS = (
    "balance bridge careful change choice clear common detail early effort energy example familiar focus forward "
    "future garden gentle goal ground habit history honest idea journey kitchen learn light local market measure "
    "memory method morning music nature neighbor notice open patience plan practice question quiet reason result river "
    "road routine season share simple steady story strong table teacher travel useful value village weather window "
    "winter"
).split()
"""Keywords: plain words that fit most subjects."""

LANGUAGES = {
    "de": "German", "fi": "Finnish", "hi": "Hindi", "it": "Italian", "ko": "Korean", "pt": "Portuguese",
    "ru": "Russian", "sw": "Swahili", "th": "Thai", "vi": "Vietnamese",
}  # fmt: skip
SECTION_NAMES = ("SECTION", "Part", "Chapter", "Step", "Day")
MARKERS = ("P.S.", "P.P.S")
ENDINGS = (
    "That is all there is to it.",
    "Is there anything else I can do?",
    "Thank you for reading to the end.",
    "Let me know how it goes.",
    "And so the work begins.",
)

Draw = Callable[[random.Random], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Asked:
    """An instruction as it is verified and as it is said."""

    id: str
    kwargs: dict[str, Any]
    wording: str


@dataclass(frozen=True, slots=True)
class _Type:
    """A type of instruction: how its arguments are drawn, and format strings over them."""

    id: str
    draw: Draw
    phrasings: tuple[str, ...]


def _count(name: str, low: int, high: int, step: int = 1) -> Draw:
    return lambda rng: {name: rng.randrange(low, high + 1, step)}


def _related(count: str, relation: str, at_least: tuple[int, int], less_than: tuple[int, int], step: int = 1) -> Draw:
    """A count with its relation; each relation has a range of its own."""

    def draw(rng: random.Random) -> dict[str, Any]:
        chosen = rng.choice(("at least", "less than"))
        low, high = at_least if chosen == "at least" else less_than
        return {count: rng.randrange(low, high + 1, step), relation: chosen}

    return draw


def _keyword_frequency(rng: random.Random) -> dict[str, Any]:
    count = _related("frequency", "relation", (2, 4), (2, 4))
    return {"keyword": rng.choice(WORDS), **count(rng)}


def _letter_frequency(rng: random.Random) -> dict[str, Any]:
    if rng.random() < 0.5:
        return {"letter": rng.choice("aeiorstn"), "let_frequency": rng.randrange(5, 31, 5), "let_relation": "at least"}
    return {"letter": rng.choice("bfjkpqvwxyz"), "let_frequency": rng.randint(2, 8), "let_relation": "less than"}


def _nth_paragraph(rng: random.Random) -> dict[str, Any]:
    total = rng.randint(2, 5)
    return {"num_paragraphs": total, "nth_paragraph": rng.randint(1, total), "first_word": rng.choice(WORDS)}


def _sections(rng: random.Random) -> dict[str, Any]:
    return {"section_spliter": rng.choice(SECTION_NAMES), "num_sections": rng.randint(2, 5)}


def _nothing(rng: random.Random) -> dict[str, Any]:
    return {}


_TYPES = (
    _Type("keywords:existence", lambda rng: {"keywords": rng.sample(WORDS, rng.randint(1, 3))}, (
        "Use the {keywords}.", "Work the {keywords} into your answer.", "Your answer must contain the {keywords}.",
    )),
    _Type("keywords:frequency", _keyword_frequency, (
        'The word "{keyword}" should occur {relation} {frequency:time}.',
        'Use the word "{keyword}" {relation} {frequency:time}.',
    )),
    _Type("keywords:forbidden_words", lambda rng: {"forbidden_words": rng.sample(WORDS, rng.randint(1, 3))}, (
        "Do without the {forbidden_words}.", "Avoid the {forbidden_words} altogether.",
    )),
    _Type("keywords:letter_frequency", _letter_frequency, (
        "The letter {letter} should occur {let_relation} {let_frequency:time}, in either case.",
        "Let the letter {letter} appear {let_relation} {let_frequency:time}, small and capital ones together.",
    )),
    _Type("language:response_language", lambda rng: {"language": rng.choice(sorted(LANGUAGES))}, (
        "Answer in {language} only.", "Write the whole answer in {language} and in no other language.",
    )),
    _Type("length_constraints:number_sentences",
          _related("num_sentences", "relation", (3, 10), (4, 12)), (
        "Write {relation} {num_sentences:sentence}.", "Your answer should have {relation} {num_sentences:sentence}.",
    )),
    _Type("length_constraints:number_paragraphs", _count("num_paragraphs", 2, 5), (
        "Write {num_paragraphs:paragraph} and put the divider *** between them.",
        "Split the answer into exactly {num_paragraphs:paragraph}, each parted from the next by three asterisks: ***",
    )),
    _Type("length_constraints:number_words", _related("num_words", "relation", (50, 300), (60, 300), step=10), (
        "Write {relation} {num_words:word}.", "Keep your answer at {relation} {num_words:word}.",
    )),
    _Type("length_constraints:nth_paragraph_first_word", _nth_paragraph, (
        'Write exactly {num_paragraphs:paragraph} with an empty line between them; the first word of paragraph number '
        '{nth_paragraph} must be "{first_word}".',
        'There should be exactly {num_paragraphs:paragraph}, parted by empty lines and nothing else, and paragraph '
        '{nth_paragraph} must begin with the word "{first_word}".',
    )),
    _Type("detectable_content:number_placeholders", _count("num_placeholders", 1, 5), (
        "Include at least {num_placeholders:placeholder} in square brackets, such as [address].",
        "Leave at least {num_placeholders:blank} to be filled in, written in square brackets like [name].",
    )),
    _Type("detectable_content:postscript", lambda rng: {"postscript_marker": rng.choice(MARKERS)}, (
        "Add a postscript at the end that starts with {postscript_marker}",
        "Close with a postscript, introduced by {postscript_marker}",
    )),
    _Type("detectable_format:number_bullet_lists", _count("num_bullets", 2, 7), (
        "Use exactly {num_bullets:bullet point}, each written as a line that begins with an asterisk: * Like this.",
        "Your answer should hold exactly {num_bullets:bullet point} in Markdown (* a point).",
    )),
    _Type("detectable_format:constrained_response", _nothing, (
        "Answer with one of these, to the letter: " + ", ".join(f"'{option}'" for option in OPTIONS),
        "Choose your answer from these and write it exactly so: " + " / ".join(OPTIONS),
    )),
    _Type("detectable_format:number_highlighted_sections", _count("num_highlights", 1, 4), (
        "Highlight at least {num_highlights:passage} with asterisks, *like this*.",
        "Put at least {num_highlights:passage} of your answer between asterisks, as in *a highlighted passage*.",
    )),
    _Type("detectable_format:multiple_sections", _sections, (
        "Divide the answer into {num_sections:section}. Head each with {section_spliter} and its number, as in "
        "{section_spliter} 1.",
        "Structure your answer as {num_sections:section}, marked {section_spliter} 1, {section_spliter} 2 and so on.",
    )),
    _Type("detectable_format:json_format", _nothing, (
        "Put the whole answer into JSON.", "Reply with nothing but valid JSON.",
    )),
    _Type("detectable_format:title", _nothing, (
        "Give it a title in double angle brackets, such as <<A Good Day>>.",
        "Your answer needs a title, written like <<this>>.",
    )),
    _Type("combination:two_responses", _nothing, (
        "Give two different answers, with six asterisks between them: ******",
        "Write two answers that differ, and part them by ****** and nothing else.",
    )),
    _Type("combination:repeat_prompt", lambda rng: {"prompt_to_repeat": SAMPLE_REQUEST}, (
        "Before you answer, repeat the request above word for word, without this sentence; then answer it.",
        "First say the request above again without changing a word (leave out this sentence), then give your answer.",
    )),
    _Type("startend:end_checker", lambda rng: {"end_phrase": rng.choice(ENDINGS)}, (
        'End with exactly these words and nothing after them: "{end_phrase}"',
        'The very last words of your answer must be "{end_phrase}"',
    )),
    _Type("startend:quotation", _nothing, (
        "Put your whole answer in double quotation marks.", 'Begin and end the answer with a double quote: "',
    )),
    _Type("change_case:capital_word_frequency",
          _related("capital_frequency", "capital_relation", (2, 6), (3, 10)), (
        "Words in ALL CAPITALS should occur {capital_relation} {capital_frequency:time}.",
        "Use {capital_relation} {capital_frequency:word} written wholly in capital letters.",
    )),
    _Type("change_case:english_capital", _nothing, (
        "Write in English and in capital letters only.", "Your whole answer must be in English, all in capitals.",
    )),
    _Type("change_case:english_lowercase", _nothing, (
        "Write in English and in lowercase letters only.", "Your whole answer must be in English, without any capital.",
    )),
    _Type("punctuation:no_comma", _nothing, (
        "Do not use a single comma.", "Leave out all commas.",
    )),
)  # fmt: skip

SAMPLE_REQUEST = "Say something about your day."
"""Stands for a request that is not written yet."""

_ALONE = {"detectable_format:constrained_response", "combination:repeat_prompt"}
"""Types that leave room for no other, or leave it open what they are about beside another."""

_KEYWORDS = {"keywords:existence", "keywords:frequency", "keywords:forbidden_words"}
_CASES = {"change_case:english_capital", "change_case:english_lowercase"}
_LAID_OUT = {
    "length_constraints:number_paragraphs", "length_constraints:nth_paragraph_first_word",
    "detectable_format:number_bullet_lists", "detectable_format:multiple_sections", "combination:two_responses",
}  # fmt: skip
_ENGLISH = {
    *_KEYWORDS, *_CASES, "keywords:letter_frequency", "length_constraints:number_sentences", "startend:end_checker",
    "length_constraints:nth_paragraph_first_word", "change_case:capital_word_frequency",
    "detectable_format:multiple_sections", "detectable_content:postscript",
}  # fmt: skip
_CLASHES: tuple[tuple[set[str], set[str]], ...] = (
    (_CASES, {*_CASES, "change_case:capital_word_frequency", "detectable_format:multiple_sections"}),
    ({"language:response_language"}, _ENGLISH),
    (_KEYWORDS, _KEYWORDS),
    (_LAID_OUT, _LAID_OUT),
    ({"detectable_format:json_format"}, {
        *_LAID_OUT, *_CASES, "detectable_format:title", "detectable_content:postscript", "startend:end_checker",
        "startend:quotation", "detectable_format:number_highlighted_sections", "punctuation:no_comma",
        "language:response_language", "length_constraints:number_sentences",
    }),
    ({"combination:two_responses", "length_constraints:number_paragraphs"}, {
        "detectable_format:number_highlighted_sections", "startend:quotation", "detectable_format:title",
    }),
    ({"length_constraints:nth_paragraph_first_word"}, {"detectable_format:title", "detectable_content:postscript"}),
    ({"length_constraints:number_words"}, {"length_constraints:number_sentences"}),
    ({"detectable_content:postscript"}, {"startend:end_checker"}),
)  # fmt: skip


def draw_instructions(rng: random.Random, most: int = MAX_INSTRUCTIONS) -> tuple[Asked, ...]:
    """One to `most` instructions that one answer can follow. `with_request` completes them for a request."""
    count = rng.randint(1, most)
    while True:
        types = rng.sample(_TYPES, count)
        if not _clash([each.id for each in types]):
            asked = tuple(_asked(rng, each) for each in types)
            if _can_be_followed(asked):
                return asked


def with_request(asked: Sequence[Asked], request: str) -> tuple[Asked, ...]:
    """The instructions for a request: one of them may ask for it to be repeated."""
    return tuple(
        replace(each, kwargs={"prompt_to_repeat": request}) if "prompt_to_repeat" in each.kwargs else each
        for each in asked
    )


def target_of(asked: Sequence[Asked]) -> dict[str, Any]:
    """The target of the verifier `ifeval`."""
    return {"instruction_id_list": [each.id for each in asked], "kwargs": [each.kwargs for each in asked]}


def _clash(ids: Sequence[str]) -> bool:
    if len(ids) > 1 and _ALONE.intersection(ids):
        return True
    pairs = [(one, other) for one in ids for other in ids if one != other]
    return any(one in some and other in others for some, others in _CLASHES for one, other in pairs)


def _asked(rng: random.Random, type: _Type) -> Asked:
    kwargs = type.draw(rng)
    fields: dict[str, Any] = {name: Count(value) if isinstance(value, int) else value for name, value in kwargs.items()}
    for name in {"keywords", "forbidden_words"} & set(kwargs):
        fields[name] = enumerated("word", kwargs[name])
    if "language" in kwargs:
        fields["language"] = LANGUAGES[kwargs["language"]]
    return Asked(type.id, kwargs, rng.choice(type.phrasings).format_map(fields))


def _can_be_followed(asked: Sequence[Asked]) -> bool:
    instructions: list[Instruction] = [(each.id, each.kwargs) for each in asked]
    verdict = judge_instructions(compliant_response(instructions), instructions, INSTRUCTIONS)
    return verdict.detail["prompt_strict"]
