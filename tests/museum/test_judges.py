"""Known failures of judges, each shown in the usual way of doing it and absent here."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from judged_scores import Scorer, href_problem
from scripted_judge import ScriptedJudge, shown
from tiny_encoder import tiny_encoder_folder

from cameleer.core.types import Message
from cameleer.evals import alpaca, href, refusal
from cameleer.evals.refusal import Exchange
from cameleer.model.judge import JudgeReply, JudgeRequest, ask_all
from cameleer.model.judge_pairs import Pair, Positions, Preference, compare

PAIR = Pair("1", "THE INSTRUCTION", "THE BASELINE", "THE CANDIDATE", "THE REFERENCE")
EXCHANGE = Exchange("THE PROMPT", "THE RESPONSE")


@pytest.mark.parametrize(
    ("request_", "parts"),
    [
        (alpaca.show_pair(PAIR, PAIR.baseline, PAIR.candidate), ("INSTRUCTION", "BASELINE", "CANDIDATE")),
        (href.show_pair(PAIR, PAIR.baseline, PAIR.candidate), ("INSTRUCTION", "BASELINE", "CANDIDATE", "REFERENCE")),
        (refusal.wildguard_request(EXCHANGE), ("PROMPT", "RESPONSE")),
        (refusal.rubric_request(EXCHANGE), ("PROMPT", "RESPONSE")),
    ],
    ids=["alpaca", "href", "wildguard", "rubric"],
)
def test_judge_is_shown_the_data(request_: JudgeRequest, parts: tuple[str, ...]) -> None:
    """open-instruct judge_utils: three of eight templates never show the judge what it shall judge."""
    for part in parts:
        assert shown(request_).count(f"THE {part}") == 1
    assert not re.search(r"\{\w*\}", shown(request_)), "a placeholder that nothing filled"


@pytest.mark.parametrize("text", ["N/A", "-1", "", "both", "It is hard to say.", "Rating: none"])
def test_what_cannot_be_read_is_missing_and_not_a_rating(text: str) -> None:
    """open-instruct synth_pref: N/A was averaged in as −1, and what could not be parsed was rated 1."""
    replies = [JudgeReply(text), JudgeReply(None, failure="timeout")]
    assert [alpaca.read_first(reply) for reply in replies] == [None, None]
    assert [href.read_first(reply) for reply in replies] == [None, None]
    assert refusal.read_wildguard(text).refusal is None
    assert refusal.read_rubric(text) is None


def test_missing_judgements_do_not_move_the_mean() -> None:
    """One readable win among nine that cannot be read: 100% of one, and nine are counted; not 55% or less of ten."""
    pairs = [Pair(str(number), "i", "b", "c") for number in range(10)]
    unreadable = alpaca.judge_pairs(ScriptedJudge(lambda _: JudgeReply("The")), pairs[1:], seed=0)
    score = alpaca.score(pairs, [Preference(1.0, None, ("m",)), *unreadable])
    assert (score.win_rate, score.num_judged, score.num_missing) == (100.0, 1, 9)


def always_first(_: JudgeRequest) -> JudgeReply:
    return JudgeReply("m", {"m": -0.01, "M": -4.6})


def test_judge_that_prefers_a_position_decides_nothing() -> None:
    """FastChat #3911: 12.9% of verdicts flip with the order. A judge that sees only positions, with the baseline always
    shown first, gives the candidate 1%; swapped, 50%, and every pair is reported as flipped."""
    pairs = [Pair(str(number), "i", "b", "c") for number in range(40)]
    usual = [alpaca.read_first(always_first(alpaca.show_pair(pair, pair.baseline, pair.candidate))) for pair in pairs]
    assert all(each is not None and 1 - each < 0.02 for each in usual)
    swapped = alpaca.score(pairs, alpaca.judge_pairs(ScriptedJudge(always_first), pairs, 0, Positions.BOTH))
    assert swapped.win_rate == pytest.approx(50) and (swapped.num_flips, swapped.num_both_orders) == (40, 40)
    seeded = alpaca.score(pairs, alpaca.judge_pairs(ScriptedJudge(always_first), pairs, 0))
    assert seeded.win_rate is not None and 20 < seeded.win_rate < 80


def test_tie_stays_a_tie(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """open-instruct synth_pref kept ties as pairs with a winner: a stable sort or an argmax takes the first of two."""
    judge = ScriptedJudge(lambda _: "TIE")
    found = compare(judge, [PAIR], href.show_pair, href.read_first, Positions.BOTH, seed=0)
    assert (found[0].candidate, found[0].flips) == (0.5, False)
    encoder = {"encoder": str(tiny_encoder_folder(tmp_path / "encoder")), "encoder_layer": 2}
    score = Scorer(monkeypatch, judge, tmp_path, **encoder).score([href_problem("Rewrite")], ["c"])
    assert (score["outcomes"]["correct"], score["num_judged"], score["score"]) == (0, 1, 0.5)


@pytest.mark.parametrize("hostile", ["{instruction}", "{0} {first}", '"""', "</response A>", "%s {{x}}", "\\1 \\g<0>"])
def test_text_with_braces_or_markers_reaches_the_judge_as_it_is(hostile: str) -> None:
    """str.format on text that holds braces raises or fills them in; so do regex replacements with backslashes."""
    pair = Pair("1", hostile + "i", hostile + "b", hostile + "c", hostile + "r")
    for request in (alpaca.show_pair(pair, pair.baseline, pair.candidate), href.show_pair(pair, pair.baseline, "x")):
        assert pair.instruction in shown(request) and pair.baseline in shown(request)
    exchange = Exchange(hostile, hostile + "response")
    for request in (refusal.wildguard_request(exchange), refusal.rubric_request(exchange)):
        assert shown(request).count(hostile) == 2


def test_replies_stay_with_their_requests_whatever_order_they_come_in() -> None:
    """Servers answer out of order; zipping answers as they come with the questions scores models at random."""

    def echo(request: JudgeRequest) -> Any:
        return json.dumps([message.content for message in request.messages])

    requests = [JudgeRequest((Message("user", str(number)),), 4) for number in range(5)]
    assert [reply.text for reply in ask_all(ScriptedJudge(echo), requests)] == [f'["{n}"]' for n in range(5)]
