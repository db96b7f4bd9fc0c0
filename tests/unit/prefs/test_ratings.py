"""Ratings: what each kind of judge gives, and that what is missing stays missing."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from prefs_support import rating_reply
from scripted_judge import ScriptedJudge, shown

from cameleer.core.errors import UserError
from cameleer.core.types import Message
from cameleer.model.judge import JudgeReply, JudgeRequest
from cameleer.model.pool import Answer, Outage
from cameleer.prefs.config import JudgeConfig
from cameleer.prefs.prompts import Prompt
from cameleer.prefs.ratings import Answered, Judged, ModelRater, RatingThread, Shown, VerifierRater
from cameleer.verify.pool import VerifierPool

Rows = list[dict[str, Any]]


def answered(*texts: str | None, index: int = 0, prompt: Prompt | None = None) -> Answered:
    prompt = prompt or Prompt(str(index), "p", (Message("user", f"Question {index}"),))
    return Answered(index, prompt, tuple(Answer(text, "stop") for text in texts))


def model_rater(
    answer: Callable[[JudgeRequest], str | JudgeReply], **keys: Any
) -> tuple[ModelRater, ScriptedJudge, Rows]:
    config = JudgeConfig.parse({"model": "judge", "endpoint": "http://x/v1", "method": "aspects", **keys}, where="j")
    judge, rows = ScriptedJudge(answer), Rows()
    return ModelRater("judge", config, judge, rows.append, Outage("judge", 5), False), judge, rows


def rate(rater: Any, *items: Answered) -> dict[int, Judged]:
    return dict(rater.rate(items))


def test_an_answers_score_is_the_mean_over_the_aspects() -> None:
    """(5 + 4 + 3 + 2)/4 = 3.5 and (1 + 1 + 1 + 3)/4 = 1.5 for answers rated (5, 1), (4, 1), (3, 1), (2, 3)."""
    ratings = {"helpfulness": [5, 1], "instruction following": [4, 1], "honesty": [3, 1], "truthfulness": [2, 3]}

    def answer(request: JudgeRequest) -> str:
        return rating_reply(next(found for aspect, found in ratings.items() if f"for its {aspect}:" in shown(request)))

    rater, judge, rows = model_rater(answer)
    assert rate(rater, answered("a", "b"))[0] == Judged((3.5, 1.5), (Shown((0, 1), (3.5, 1.5)),))
    assert len(judge.asked) == len(rows) == 4
    assert {row["about"] for row in rows} == {name.replace(" ", "_") for name in ratings}
    assert all(row["messages"][1]["content"] and row["reply"] for row in rows)


def test_what_is_not_there_or_blank_is_not_shown_and_has_no_score() -> None:
    rater, judge, _ = model_rater(lambda request: rating_reply([2, 5]))
    assert rate(rater, answered("a", None, " ", "d"))[0].scores == (2.0, None, None, 5.0)
    assert all("<answer 3>" not in shown(request) for request in judge.asked)


def test_a_prompt_with_one_answer_asks_nothing() -> None:
    rater, judge, _ = model_rater(lambda request: rating_reply([2]))
    assert rate(rater, answered("a", None))[0] == Judged((None, None)) and not judge.asked


def test_one_unreadable_aspect_leaves_the_rating_missing() -> None:
    rater, judge, _ = model_rater(
        lambda request: "Fine answers!" if "its honesty" in shown(request) else rating_reply([5, 1]), max_tries=3
    )
    assert rate(rater, answered("a", "b"))[0] == Judged((None, None))
    assert len(judge.asked) == 3 + 3


def test_a_judge_is_asked_again_with_its_own_words_and_the_form() -> None:
    def answer(request: JudgeRequest) -> str:
        return rating_reply([1, 4]) if len(request.messages) > 2 else "I like the second."

    rater, judge, rows = model_rater(answer, aspects=["honesty"])
    assert rate(rater, answered("a", "b"))[0].scores == (1.0, 4.0)
    again = judge.asked[1].messages
    assert again[:2] == judge.asked[0].messages and again[2] == Message("assistant", "I like the second.")
    assert "Rating: a whole number" in again[3].content
    assert [row["scores"] for row in rows] == [None, (1.0, 4.0)]


def test_both_positions_are_averaged_and_kept_apart() -> None:
    """A judge that gives 5 to whatever stands first and 2 to the second: both answers get 3.5, and orders differ."""
    rater, judge, _ = model_rater(lambda request: rating_reply([5, 2]), positions="both", aspects=["honesty"])
    found = rate(rater, answered("a", "b"))[0]
    assert found == Judged((3.5, 3.5), (Shown((0, 1), (5.0, 2.0)), Shown((1, 0), (5.0, 2.0))))
    assert len(judge.asked) == 2


def test_pairwise_scores_are_the_share_won() -> None:
    """c beats both, a beats b: 1/2, 0 and 1; each question asked in both orders."""

    def answer(request: JudgeRequest) -> str:
        text = shown(request)
        first, second = text.index("<answer 1>\n"), text.index("<answer 2>\n")
        order = [text[first + 11], text[second + 11]]
        return f"Rationale: so.\nBetter: {1 if 'bac'.index(order[0]) > 'bac'.index(order[1]) else 2}"

    rater, judge, _ = model_rater(answer, method="pairwise", positions="both")
    found = rate(rater, answered("a", "b", "c"))[0]
    assert found.scores == (0.5, 0.0, 1.0) and len(judge.asked) == 6 and len(found.shown) == 6


def test_a_failed_question_is_missing_and_too_many_end_the_judge() -> None:
    rater, _, rows = model_rater(lambda request: JudgeReply(None, failure="timeout: late"), aspects=["honesty"])
    found: dict[int, Judged] = {}
    with pytest.raises(UserError, match="5 requests in a row failed, the last with timeout: late"):
        for index, judged in rater.rate([answered("a", "b", index=n) for n in range(9)]):
            found[index] = judged
    assert all(judged.scores == (None, None) for judged in found.values())
    assert len(rows) == 5 and rows[0]["failure"] == "timeout: late" and rows[0]["scores"] is None


def verified(texts: Sequence[str | None], verifier: str, target: Any) -> tuple[Judged, Rows]:
    prompt = Prompt("0", "p", (Message("user", "?"),), verifier, target)
    rows = Rows()
    with VerifierPool(num_workers=1) as pool:
        return rate(VerifierRater("verifier", pool, rows.append), answered(*texts, prompt=prompt))[0], rows


def test_a_verifiers_score_is_its_verdicts() -> None:
    target = {"constraints": [{"id": "lowercase", "kwargs": {}}]}
    judged, rows = verified(["all low", "Not Low", None, "low too"], "constraints", target)
    assert judged == Judged((1.0, 0.0, None, 1.0))
    assert [each["outcome"] for each in rows[0]["verdicts"]] == ["correct", "wrong", "correct"]


def test_a_verifier_in_error_gives_no_rating() -> None:
    judged, rows = verified(["a", "b"], "constraints", {"constraints": "nonsense"})
    assert judged == Judged((None, None)) and {each["outcome"] for each in rows[0]["verdicts"]} == {"error"}


def test_a_thread_rates_all_that_it_is_given_and_tells_its_end() -> None:
    rater, _, _ = model_rater(lambda request: rating_reply([2, 5]), aspects=["honesty"])
    failures: list[UserError] = []
    thread = RatingThread(rater, failures.append)
    for index in range(30):
        thread.put(answered("a", "b", index=index))
    thread.end()
    assert thread.wait(10) and not failures
    assert {index: judged.scores for index, judged in thread.judged.items()} == dict.fromkeys(range(30), (2.0, 5.0))


def test_an_error_of_ours_in_a_thread_is_raised(tmp_path: Path) -> None:
    def answer(request: JudgeRequest) -> str:
        raise ZeroDivisionError

    thread = RatingThread(model_rater(answer)[0], lambda failure: None)
    thread.put(answered("a", "b"))
    thread.end()
    with pytest.raises(ZeroDivisionError):
        thread.wait(10)
