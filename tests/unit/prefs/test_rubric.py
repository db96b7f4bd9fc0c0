"""A judge's reply is read when it has exactly the form that was asked for, and in no other case."""

import random
import re

import pytest
from prefs_support import rating_reply

from cameleer.core.types import Message
from cameleer.prefs import rubric
from cameleer.prefs.rubric import read_comparison, read_ratings

PROMPT = (Message("system", "Be brief."), Message("user", "What is two plus two?"))


def test_a_reply_in_the_form_is_read() -> None:
    assert read_ratings(rating_reply([4, 1, 5]), 3) == (4.0, 1.0, 5.0)
    assert read_ratings("\n Answer 1 \nRationale: ok\n\nRating: 2\nAnswer 2\n  Rationale: no\nRating: 3 \n", 2) == (
        2,
        3,
    )
    assert read_comparison("Rationale: shorter.\nBetter: 1") == (1.0, 0.0)
    assert read_comparison("Rationale: longer.\nBetter: 2\n") == (0.0, 1.0)
    assert read_comparison("Rationale: same.\nBetter: tie") == (0.5, 0.5)


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "Rating: 3",
        rating_reply([3]),
        rating_reply([3, 4, 5]),
        rating_reply([3, 4]).replace("Answer 1", "Answer 2"),
        "\n\n".join(reversed(rating_reply([3, 4]).split("\n\n"))),
        rating_reply([3, 4]).replace("Rating: 4", "Rating: 4.5"),
        rating_reply([3, 4]).replace("Rating: 4", "Rating: 4/5"),
        rating_reply([3, 4]).replace("Rating: 4", "Rating: 6"),
        rating_reply([3, 4]).replace("Rating: 4", "Rating: 0"),
        rating_reply([3, 4]).replace("Rating: 4", "Rating: N/A"),
        rating_reply([3, 4]).replace("Rating: 4", "Rating: four"),
        rating_reply([3, 4]).replace("Rating: 4", "Rating: 45"),
        rating_reply([3, 4]).replace("Rationale: So it is.", "Rationale:"),
        rating_reply([3, 4]).replace("Rationale", "Reason"),
        "Here you go:\n" + rating_reply([3, 4]),
        rating_reply([3, 4]) + "\nOverall the second is better.",
        rating_reply([3, 4]) + "\n" + rating_reply([1, 2]),
        "```\n" + rating_reply([3, 4]) + "\n```",
        rating_reply([3, 4]).replace("\nRating", " Rating"),
    ],
)
def test_a_reply_in_any_other_form_is_none(reply: str) -> None:
    assert read_ratings(reply, 2) is None


@pytest.mark.parametrize(
    "reply",
    ["", "1", "Better: 1", "Rationale: x\nBetter: 1 or 2", "Rationale: x\nBetter: A", "Rationale: x\nBetter: 12"],
)
def test_a_comparison_in_any_other_form_is_none(reply: str) -> None:
    assert read_comparison(reply) is None


def test_500_garbled_replies_give_no_wrong_rating() -> None:
    """Characters of a good reply are dropped, doubled and swapped. Whatever is still read is what the judge meant.

    A change within a rationale leaves a good reply; one of a rating's digit to another digit does not happen here, as
    nobody could tell.
    """
    rng = random.Random(0)
    read = 0
    for _ in range(500):
        ratings = [rng.randint(1, 5) for _ in range(4)]
        text = list(rating_reply(ratings))
        for _ in range(rng.randint(1, 3)):
            place = rng.randrange(len(text) - 1)
            kind = rng.randrange(3)
            if kind == 0:
                del text[place]
            elif kind == 1:
                text.insert(place, text[place])
            else:
                text[place], text[place + 1] = text[place + 1], text[place]
        found = read_ratings("".join(text), 4)
        read += found is not None
        assert found in (None, tuple(map(float, ratings))), "".join(text)
    assert 0 < read < 250


def test_the_judge_sees_the_conversation_every_answer_and_the_form() -> None:
    answers = ["Four.", "It is 4.", "I do not know."]
    for messages in [
        *(rubric.rating_messages(PROMPT, answers, aspect) for aspect in rubric.DEFINITIONS),
        rubric.comparison_messages(PROMPT, answers[:2]),
    ]:
        text = messages[-1].content
        assert all(each.content in text for each in PROMPT)
        assert re.findall(r"<answer (\d)>", text) == [str(n) for n in range(1, text.count("</answer") + 1)]
        assert "Four." in text and "It is 4." in text and "Rationale" in text


def test_aspects_differ_in_nothing_but_their_definition() -> None:
    texts = {aspect: rubric.rating_messages(PROMPT, ["a", "b"], aspect)[-1].content for aspect in rubric.DEFINITIONS}
    assert len(set(texts.values())) == 4
    assert len({text.split("\n\n", 2)[2] for text in texts.values()}) == 1
