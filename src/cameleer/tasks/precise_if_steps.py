"""How an answer is built so that it obeys an instruction: steps that turn one draft into the next.

An answer begins as a draft, some sentences about a topic. A step returns the draft that obeys its instruction together
with the arguments of the constraint that holds it to that, or raises `Unsuitable` where this draft cannot be made to
obey; the generator then draws another one.
"""

import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cameleer.tasks.precise_if_topics import Topic
from cameleer.verify.constraints import sentences, words

Kwargs = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Draft:
    """An answer in the making: the topic's sentences that it uses, as they are marked up, and the text so far."""

    topic: Topic
    used: tuple[str, ...]
    sentences: tuple[str, ...]
    text: str


Step = Callable[[random.Random, Draft], tuple[Draft, Kwargs]]


class Unsuitable(Exception):
    """This draft cannot be made to obey the instruction."""


def drafted(topic: Topic, used: Sequence[str]) -> Draft:
    """The first draft of some of a topic's sentences."""
    return Draft(topic, tuple(used), tuple(used), " ".join(used))


_COMMON = frozenset(
    "about after again almost along among another around because become before being below between beyond comes could "
    "during either enough every first found gives going great helps instead keeps large later little makes might "
    "mostly never often other people perhaps quite rather seems several should since slowly small sometimes still "
    "takes their them there these thing things those through times today together under until using usually where "
    "which while whole within without would years".split()
)
_CONTENT_WORD = re.compile(r"[A-Za-z]{5,}")


def content_words(text: str) -> list[str]:
    """The distinct words of a text, in lower case, that say what it is about."""
    found = dict.fromkeys(word.lower() for word in _CONTENT_WORD.findall(text))
    return [word for word in found if word not in _COMMON]


def _sample(rng: random.Random, items: Sequence[str], most: int) -> list[str]:
    """One to `most` of the items."""
    if len(items) < most:
        raise Unsuitable
    return rng.sample(items, rng.randint(1, most))


# Steps that mark words of the sentences.


def marked_words(mark: Callable[[str], str]) -> Step:
    """Mark one to three content words."""

    def step(rng: random.Random, draft: Draft) -> tuple[Draft, Kwargs]:
        body = "\n".join(draft.sentences)
        chosen = _sample(rng, content_words(body), 3)
        for word in chosen:
            body = re.sub(rf"\b{word}\b", lambda match: mark(match[0]), body, count=1, flags=re.IGNORECASE)
        kwargs = {"relation": "at least", "count": len(chosen)}
        return replace(draft, sentences=tuple(body.split("\n")), text=body.replace("\n", " ")), kwargs

    return step


# Steps that lay the sentences out.


def paragraphs(rng: random.Random, draft: Draft) -> tuple[Draft, Kwargs]:
    """One paragraph per sentence."""
    return replace(draft, text="\n\n".join(draft.sentences)), _exactly(draft)


def bullets(rng: random.Random, draft: Draft) -> tuple[Draft, Kwargs]:
    """One bullet point per sentence."""
    return replace(draft, text="\n".join(f"- {sentence}" for sentence in draft.sentences)), _exactly(draft)


def _exactly(draft: Draft) -> Kwargs:
    return {"relation": "exactly", "count": len(draft.sentences)}


def numbered(rng: random.Random, draft: Draft) -> tuple[Draft, Kwargs]:
    """One numbered line per sentence."""
    lines = (f"{number}. {sentence}" for number, sentence in enumerate(draft.sentences, 1))
    return replace(draft, text="\n".join(lines)), {"count": len(draft.sentences)}


JSON_KEYS = (("title", "text"), ("topic", "answer"), ("title", "summary"), ("subject", "note"), ("name", "description"))


def as_json(rng: random.Random, draft: Draft) -> tuple[Draft, Kwargs]:
    """An object with a title and the text."""
    keys = rng.choice(JSON_KEYS)
    text = json.dumps({keys[0]: draft.topic.title, keys[1]: " ".join(draft.sentences)})
    return replace(draft, text=text), {"keys": list(keys)}


def sections(rng: random.Random, draft: Draft) -> tuple[Draft, Kwargs]:
    """One section per sentence, each under its heading."""
    label = rng.choice(("Section", "Part", "Chapter", "Step"))
    blocks = (f"{label} {number}\n{sentence}" for number, sentence in enumerate(draft.sentences, 1))
    return replace(draft, text="\n\n".join(blocks)), {"label": label, "count": len(draft.sentences)}


def parts(rng: random.Random, draft: Draft) -> tuple[Draft, Kwargs]:
    """One part per sentence, with a separator between them."""
    separator = rng.choice(("******", "-----", "=====", "~~~~", "+++++"))
    text = f"\n{separator}\n".join(draft.sentences)
    return replace(draft, text=text), {"separator": separator, "count": len(draft.sentences)}


# Steps that put something before, after or around the text.


def title(rng: random.Random, draft: Draft) -> tuple[Draft, Kwargs]:
    """A title above the text."""
    return replace(draft, text=f"<<{draft.topic.title}>>\n\n{draft.text}"), {}


OPENINGS = (
    "Here is a short answer:", "Sure thing!", "Good question!", "In short:", "Let me explain.", "Of course!",
    "Happy to help!", "Here we go:", "My answer is this:", "Thanks for asking!", "This is what I know:", "Certainly!",
)  # fmt: skip
CLOSINGS = (
    "I hope this helps!", "That is all.", "Have a nice day!", "Thanks for reading.", "Any other questions?",
    "Feel free to ask for more.", "This is my answer.", "Let me know if you need more.", "The end.", "Enjoy!",
    "Is there anything else?", "Take care!",
)  # fmt: skip


def opening(rng: random.Random, draft: Draft) -> tuple[Draft, Kwargs]:
    """A set phrase before the text."""
    phrase = rng.choice(OPENINGS)
    return replace(draft, text=f"{phrase}{_gap(draft)}{draft.text}"), {"phrase": phrase}


def closing(rng: random.Random, draft: Draft) -> tuple[Draft, Kwargs]:
    """A set phrase after the text."""
    phrase = rng.choice(CLOSINGS)
    return replace(draft, text=f"{draft.text}{_gap(draft)}{phrase}"), {"phrase": phrase}


def _gap(draft: Draft) -> str:
    """What stands between the text and a sentence beside it: a line break where the text is laid out in lines."""
    return "\n" if "\n" in draft.text else " "


def postscript(rng: random.Random, draft: Draft) -> tuple[Draft, Kwargs]:
    """A further sentence as a postscript."""
    extra = rng.choice(_unused_sentences(draft))
    return replace(draft, text=f"{draft.text}\n\nP.S. {extra}"), {"marker": "P.S."}


def _unused_sentences(draft: Draft) -> list[str]:
    return [sentence for sentence in draft.topic.sentences if sentence not in draft.used]


SIGNATURES = (
    ("Written by [name].", "Ask [contact] for more."),
    ("Written by [name] on [date].", "Sent from [city] on [date]."),
    ("Written by [name] in [city] on [date].", "Call [name] at [phone number] after [time]."),
)
"""Last lines with one, two and three placeholders, that fit any topic."""


def placeholders(rng: random.Random, draft: Draft) -> tuple[Draft, Kwargs]:
    """A last line with placeholders."""
    count = rng.randint(1, len(SIGNATURES))
    line = rng.choice(SIGNATURES[count - 1])
    return replace(draft, text=f"{draft.text}{_gap(draft)}{line}"), {"relation": "at least", "count": count}


def quotation(rng: random.Random, draft: Draft) -> tuple[Draft, Kwargs]:
    """Quotation marks around the text."""
    return replace(draft, text=f'"{draft.text}"'), {}


def wrapping(rng: random.Random, draft: Draft) -> tuple[Draft, Kwargs]:
    """A pair of marks around the text."""
    left, right = rng.choice((("(", ")"), ("{", "}"), ("[", "]"), ("<", ">"), ("***", "***"), ("~", "~")))
    return replace(draft, text=f"{left}{draft.text}{right}"), {"left": left, "right": right}


def hashtags(rng: random.Random, draft: Draft) -> tuple[Draft, Kwargs]:
    """Words of the text as hashtags behind it."""
    chosen = _sample(rng, content_words(" ".join(draft.used)), 3)
    tags = " ".join(f"#{word.capitalize()}" for word in chosen)
    return replace(draft, text=f"{draft.text}{_gap(draft)}{tags}"), {"relation": "exactly", "count": len(chosen)}


# Steps that change letters.


def recased(change: Callable[[str], str]) -> Step:
    """A change of all letters."""
    return lambda rng, draft: (replace(draft, text=change(draft.text)), {})


def capitalized(text: str) -> str:
    """The text with a capital first letter in every word."""
    return re.sub(r"[^\W_]+(?:['’-][^\W_]+)*", lambda match: match[0][0].upper() + match[0][1:], text)


# Steps that leave the text as it is and read off it what can be demanded.


def included(rng: random.Random, draft: Draft) -> tuple[Draft, Kwargs]:
    """Words that the answer uses."""
    return draft, {"words": _sample(rng, content_words(" ".join(draft.sentences)), 2)}


def avoided(rng: random.Random, draft: Draft) -> tuple[Draft, Kwargs]:
    """Words that the topic invites: from its sentences that were not used."""
    candidates = [word for word in content_words(" ".join(_unused_sentences(draft))) if word not in draft.text.lower()]
    return draft, {"words": _sample(rng, candidates, 2)}


def frequent_letter(rng: random.Random, draft: Draft) -> tuple[Draft, Kwargs]:
    """A letter that the answer uses often enough."""
    text = draft.text.lower()
    letter = _sample(rng, [letter for letter in "acdeghilmnorstu" if text.count(letter) >= 2], 1)[0]
    return draft, {"letter": letter, "relation": "at least", "count": min(text.count(letter), rng.randint(2, 6))}


def absent_letter(rng: random.Random, draft: Draft) -> tuple[Draft, Kwargs]:
    """A letter that the answer does not use."""
    text = draft.text.lower()
    letter = _sample(rng, [letter for letter in "bfjkpquvwxyz" if letter not in text], 1)[0]
    return draft, {"letter": letter, "relation": "exactly", "count": 0}


def at_most_words(rng: random.Random, draft: Draft) -> tuple[Draft, Kwargs]:
    """A limit that the answer keeps, a multiple of five."""
    rounded_up = -(-len(words(draft.text)) // 5) * 5
    return draft, {"relation": "at most", "count": rounded_up + rng.choice((0, 0, 5))}


def at_least_words(rng: random.Random, draft: Draft) -> tuple[Draft, Kwargs]:
    """A length that the answer reaches, a multiple of five."""
    return draft, {"relation": "at least", "count": len(words(draft.text)) // 5 * 5}


def sentence_number(rng: random.Random, draft: Draft) -> tuple[Draft, Kwargs]:
    """The number of sentences that the answer has."""
    return draft, {"relation": "exactly", "count": len(sentences(draft.text))}
