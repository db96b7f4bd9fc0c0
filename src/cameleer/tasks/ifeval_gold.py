"""Responses that follow the instructions of an IFEval row, and do nothing else.

A response is filler words with what the instructions ask for around them: required words, placeholders, bullets and so
on in the body, then markers at its ends, then what concerns the whole (case, JSON, quotation marks). It follows every
combination of instructions that IFEval has; another may be beyond it.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from typing import Any

from cameleer.verify.instructions.ifeval import Instruction

FILLER = (
    "this is the text that we have written for you and it is about the house by the river where the people of the town "
    "sing with their friends at night but we rest by day and find milk jam a quiet dog"
).split()
"""Plain English words; for each letter there are some without it."""

FILLER_IN_LANGUAGE = {
    "ar": "نحن نمشي إلى النهر ثم نجد بيتا صغيرا تحت الأشجار",
    "bg": "Ние вървим към реката и после намираме малка къща под дърветата",
    "bn": "আমরা নদীর দিকে হাঁটি এবং তারপর গাছের নিচে একটি ছোট বাড়ি খুঁজে পাই",
    "de": "Wir gehen zum Fluss und finden dann ein kleines Haus unter den Bäumen",
    "fa": "ما به سوی رودخانه می‌رویم و سپس خانه کوچکی زیر درختان پیدا می‌کنیم",
    "fi": "Me kävelemme joelle ja löydämme sitten pienen talon puiden alta",
    "gu": "અમે નદી તરફ ચાલીએ છીએ અને પછી ઝાડ નીચે એક નાનું ઘર શોધીએ છીએ",
    "hi": "हम नदी की ओर चलते हैं और फिर पेड़ों के नीचे एक छोटा घर पाते हैं",
    "it": "Noi camminiamo verso il fiume e poi troviamo una piccola casa sotto gli alberi",
    "kn": "ನಾವು ನದಿಯ ಕಡೆಗೆ ನಡೆಯುತ್ತೇವೆ ಮತ್ತು ನಂತರ ಮರಗಳ ಕೆಳಗೆ ಒಂದು ಚಿಕ್ಕ ಮನೆಯನ್ನು ಕಾಣುತ್ತೇವೆ",
    "ko": "우리는 강으로 걸어가서 나무 아래에 있는 작은 집을 찾습니다",
    "mr": "आम्ही नदीकडे चालत जातो आणि नंतर आम्हाला झाडांखाली एक लहान घर सापडते",
    "ne": "हामी नदीतिर हिँड्छौं र त्यसपछि रूखहरूमुनि एउटा सानो घर भेट्टाउँछौं",
    "pa": "ਅਸੀਂ ਨਦੀ ਵੱਲ ਤੁਰਦੇ ਹਾਂ ਅਤੇ ਫਿਰ ਰੁੱਖਾਂ ਹੇਠਾਂ ਇੱਕ ਛੋਟਾ ਘਰ ਲੱਭਦੇ ਹਾਂ",
    "pt": "Nós caminhamos até o rio e depois encontramos uma pequena casa debaixo das árvores",
    "ru": "Мы идём к реке и потом находим маленький дом под деревьями",
    "sw": "Sisi tunatembea kuelekea mtoni na kisha tunapata nyumba ndogo chini ya miti",
    "ta": "நாங்கள் ஆற்றை நோக்கி நடந்து பின்னர் மரங்களின் கீழ் ஒரு சிறிய வீட்டைக் காண்கிறோம்",
    "te": "మేము నది వైపు నడుస్తాము మరియు తరువాత చెట్ల కింద ఒక చిన్న ఇంటిని కనుగొంటాము",
    "th": "เราเดินไปที่แม่น้ำแล้วพบบ้านหลังเล็กใต้ต้นไม้",
    "ur": "ہم دریا کی طرف چلتے ہیں اور پھر درختوں کے نیچے ایک چھوٹا گھر پاتے ہیں",
    "vi": "Chúng tôi đi bộ đến dòng sông rồi tìm thấy một ngôi nhà nhỏ dưới những tán cây",
}

SOME_WORDS = 30
"""The length of a body of which none is asked for: enough for its language to be told."""


class _Wanted:
    """The arguments of the instructions, by id; an id may stand twice, as `at least` and as `less than`."""

    def __init__(self, instructions: Sequence[Instruction]) -> None:
        self.kwargs: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        for name, kwargs in instructions:
            self.kwargs[name].append(kwargs)

    def has(self, name: str) -> bool:
        return bool(self.kwargs.get(name))

    def value(self, name: str, argument: str, default: Any) -> Any:
        """An argument of the first such instruction; the default without one."""
        return next((kwargs[argument] for kwargs in self.kwargs.get(name, ())), default)

    def least(self, name: str, argument: str, relation: str) -> int:
        """The largest count that is asked for as `at least`, or 0."""
        return max((kwargs[argument] for kwargs in self.related(name, relation, "at least")), default=0)

    def related(self, name: str, relation: str, value: str) -> list[dict[str, Any]]:
        """The arguments of those instructions whose argument `relation` has a value."""
        return [kwargs for kwargs in self.kwargs.get(name, ()) if kwargs[relation] == value]


def compliant_response(instructions: Sequence[Instruction]) -> str:
    """A response that follows the instructions (id, arguments) of a row."""
    wanted = _Wanted(instructions)
    separator = "\n***\n" if wanted.has("length_constraints:number_paragraphs") else "\n\n"
    parts = [*_heads(wanted), separator.join(_paragraphs(wanted)), *_tails(wanted)]
    if wanted.has("combination:two_responses"):
        # The first holds nothing that is counted.
        parts[-1:] = [" ".join(islice(_fillers(wanted), 3)), "******", parts[-1]]
    return _as_a_whole(wanted, "\n".join(parts))


def _paragraphs(wanted: _Wanted) -> list[str]:
    nth = "length_constraints:nth_paragraph_first_word"
    total = wanted.value(
        nth, "num_paragraphs", wanted.value("length_constraints:number_paragraphs", "num_paragraphs", 1)
    )
    words, length = _fillers(wanted), _body_length(wanted)
    bodies = [" ".join(islice(words, max(3, -(-length // total)))) for _ in range(total)]
    if wanted.has(nth):
        number = wanted.value(nth, "nth_paragraph", 1) - 1
        bodies[number] = f"{wanted.value(nth, 'first_word', '')} {bodies[number]}"
    bodies[-1] = "\n".join([" ".join([bodies[-1], *_inline(wanted)]), *_lines(wanted, words)])
    sentences = wanted.least("length_constraints:number_sentences", "num_sentences", "relation")
    if sentences:
        # An exclamation mark ends a sentence whatever the case of the next word.
        bodies[-1] += "!" + "".join(f" {' '.join(islice(words, 3))}!" for _ in range(sentences - 1))
    return bodies


def _fillers(wanted: _Wanted) -> Iterator[str]:
    """Filler words without end, none of them to be avoided."""
    language = wanted.value("language:response_language", "language", "en")
    words = FILLER_IN_LANGUAGE[language].split() if language in FILLER_IN_LANGUAGE else FILLER
    avoided = set(wanted.value("keywords:forbidden_words", "forbidden_words", ()))
    avoided |= {kwargs["keyword"] for kwargs in wanted.related("keywords:frequency", "relation", "less than")}
    rare = wanted.related("keywords:letter_frequency", "let_relation", "less than")
    letters = {kwargs["letter"].lower() for kwargs in rare}
    avoided = {word.lower() for word in avoided}
    return cycle([word for word in words if word.lower() not in avoided and not letters & set(word.lower())])


def _body_length(wanted: _Wanted) -> int:
    name = "length_constraints:number_words"
    limits = [kwargs["num_words"] // 2 for kwargs in wanted.related(name, "relation", "less than")]
    return max(min([SOME_WORDS, *limits]), wanted.least(name, "num_words", "relation"))


def _inline(wanted: _Wanted) -> Iterator[str]:
    """What stands between the words."""
    yield from wanted.value("keywords:existence", "keywords", ())
    for kwargs in wanted.related("keywords:frequency", "relation", "at least"):
        yield from [kwargs["keyword"]] * kwargs["frequency"]
    for kwargs in wanted.related("keywords:letter_frequency", "let_relation", "at least"):
        yield kwargs["letter"] * kwargs["let_frequency"]
    yield from ["SUN"] * wanted.least("change_case:capital_word_frequency", "capital_frequency", "capital_relation")
    for number in range(wanted.value("detectable_content:number_placeholders", "num_placeholders", 0)):
        yield f"[place {number + 1}]"
    for number in range(wanted.value("detectable_format:number_highlighted_sections", "num_highlights", 0)):
        yield f"*part {number + 1}*"
    if wanted.has("detectable_format:constrained_response"):
        yield "My answer is yes."


def _lines(wanted: _Wanted, words: Iterator[str]) -> Iterator[str]:
    """What stands in lines of its own."""
    for _ in range(wanted.value("detectable_format:number_bullet_lists", "num_bullets", 0)):
        yield f"- {next(words)}"
    sections = "detectable_format:multiple_sections"
    for number in range(wanted.value(sections, "num_sections", 0)):
        yield f"{wanted.value(sections, 'section_spliter', '')} {number + 1}\n{' '.join(islice(words, 3))}"


def _heads(wanted: _Wanted) -> Iterator[str]:
    if wanted.has("combination:repeat_prompt"):
        yield wanted.value("combination:repeat_prompt", "prompt_to_repeat", "")
    if wanted.has("detectable_format:title"):
        yield f"<<{next(_fillers(wanted))}>>"


def _tails(wanted: _Wanted) -> Iterator[str]:
    if wanted.has("detectable_content:postscript"):
        yield f"{wanted.value('detectable_content:postscript', 'postscript_marker', '')} {next(_fillers(wanted))}"
    if wanted.has("startend:end_checker"):
        yield wanted.value("startend:end_checker", "end_phrase", "")


def _as_a_whole(wanted: _Wanted, text: str) -> str:
    if wanted.has("change_case:english_lowercase"):
        text = text.lower()
    if wanted.has("change_case:english_capital"):
        text = text.upper()
    if wanted.has("detectable_format:json_format"):
        text = json.dumps({next(_fillers(wanted)): text}, ensure_ascii=False)
    return f'"{text}"' if wanted.has("startend:quotation") else text
