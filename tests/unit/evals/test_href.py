"""HREF: which method decides a category, what the judge is shown, and the micro-average."""

from pathlib import Path

import pytest
from judged_scores import Scorer, href_problem
from scripted_judge import ScriptedJudge, shown
from tiny_encoder import tiny_encoder_folder

from cameleer.core.errors import UserError
from cameleer.evals.href import (
    METHODS,
    HrefItem,
    Method,
    Result,
    judge_href,
    read_first,
)
from cameleer.evals.similarity import Encoder, load_encoder
from cameleer.model.judge import JudgeReply, JudgeRequest
from cameleer.model.judge_pairs import Positions

BY_JUDGE = [category for category, method in METHODS.items() if method is not Method.SIMILARITY]
BY_SIMILARITY = [category for category, method in METHODS.items() if method is Method.SIMILARITY]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    folder: Path = tmp_path_factory.mktemp("encoder")
    return load_encoder(str(tiny_encoder_folder(folder)), layer=2)


def item(category: str, number: int = 0) -> HrefItem:
    return HrefItem(f"{category}/{number}", category, "INSTRUCTION {x}", "the cat sat", "a dog ran")


def answer_for(word: str) -> ScriptedJudge:
    """Prefers the response `CANDIDATE`, or says `word` when it is no side."""

    def answer(asked: JudgeRequest) -> str:
        if word != "candidate":
            return word
        return "A" if shown(asked).index("CANDIDATE") < shown(asked).index("a dog ran") else "B"

    return ScriptedJudge(answer)


def test_eleven_categories_have_the_published_methods() -> None:
    counts = [sum(each is method for each in METHODS.values()) for method in Method]
    assert (len(METHODS), counts) == (11, [7, 2, 2])


@pytest.mark.parametrize("category", BY_JUDGE)
def test_judge_sees_instruction_and_responses_and_the_reference_where_it_should(
    category: str, encoder: Encoder
) -> None:
    judge = answer_for("candidate")
    found = judge_href([item(category)], ["CANDIDATE {0}"], judge, encoder, seed=0)
    [text] = map(shown, judge.asked)
    assert found == [Result.WIN]
    assert all(part in text for part in ("INSTRUCTION {x}", "CANDIDATE {0}", "a dog ran"))
    assert ("the cat sat" in text) == (METHODS[category] is Method.JUDGE_WITH_REFERENCE)


@pytest.mark.parametrize("category", BY_SIMILARITY)
@pytest.mark.parametrize(
    ("response", "result"),
    [("the cat sat", Result.WIN), ("a dog ran", Result.TIE), ("", Result.LOSS)],
)
def test_nearer_to_the_reference_wins_and_equal_ties(
    category: str, response: str, result: Result, encoder: Encoder
) -> None:
    judge = answer_for("candidate")
    assert judge_href([item(category)], [response], judge, encoder, seed=0) == [result]
    assert judge.asked == []


@pytest.mark.parametrize(
    ("reply", "first"),
    [
        ("A", 1.0),
        (" b.\n", 0.0),
        ("**TIE**", 0.5),
        ("A is better", None),
        ("neither", None),
        ("", None),
        ("N/A", None),
        (None, None),
    ],
)
def test_replies_are_read_strictly(reply: str | None, first: float | None) -> None:
    assert read_first(JudgeReply(reply)) == first


def test_unreadable_judgement_is_missing(encoder: Encoder) -> None:
    assert judge_href([item("Rewrite")], ["CANDIDATE"], answer_for("hm"), encoder, seed=0) == [Result.MISSING]


def test_preference_that_flips_with_the_order_is_a_tie(encoder: Encoder) -> None:
    items = [item("Rewrite"), item("Extract")]
    found = judge_href(items, ["CANDIDATE"] * 2, answer_for("A"), encoder, seed=0, positions=Positions.BOTH)
    assert found == [Result.TIE, Result.TIE]


def test_results_stay_with_their_items_when_methods_mix(encoder: Encoder) -> None:
    items = [item("Open QA"), item("Rewrite"), item("Fact Checking or Attributed QA"), item("Brainstorm")]
    responses = ["the cat sat", "CANDIDATE", "", "CANDIDATE"]
    found = judge_href(items, responses, answer_for("candidate"), encoder, seed=0)
    assert found == [Result.WIN, Result.WIN, Result.LOSS, Result.WIN]


@pytest.fixture
def scorer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Scorer:
    """Its judge says what the response says of itself: BETTER, WORSE or TIE than the baseline's; else it says `hm`."""

    def answer(asked: JudgeRequest) -> str:
        first, second = shown(asked).split("<response A>")[1].split("<response B>")
        if "TIE" in first + second:
            return "TIE"
        if "BETTER" in first + second:
            return "A" if "BETTER" in first else "B"
        return "hm" if "WORSE" not in first + second else "B" if "WORSE" in first else "A"

    encoder = {"encoder": str(tiny_encoder_folder(tmp_path / "encoder")), "encoder_layer": 2}
    return Scorer(monkeypatch, ScriptedJudge(answer), tmp_path, **encoder)


def test_the_score_is_the_mean_over_prompts_not_over_categories(scorer: Scorer) -> None:
    """Three Rewrites won and one Open QA lost: 75%, where the mean of categories would be 50. A tie is half a win."""
    problems = [*(href_problem("Rewrite", number) for number in range(3)), href_problem("Open QA")]
    assert scorer.score(problems, ["BETTER"] * 3 + [""])["score"] == 0.75
    rewrites = [href_problem("Rewrite", number) for number in range(4)]
    assert scorer.score(rewrites, ["BETTER", "TIE", "WORSE", "TIE"])["score"] == 0.5


def test_missing_results_are_counted_and_in_no_rate(scorer: Scorer) -> None:
    """One win, three missing: 100%, not 25."""
    problems = [href_problem("Rewrite", number) for number in range(4)]
    found = scorer.score(problems, ["BETTER", *["?"] * 3])
    assert (found["score"], found["outcomes"]["error"], found["num_judged"]) == (1.0, 3, 1)
    assert scorer.score(problems, ["?"] * 4)["score"] is None


@pytest.mark.parametrize(("category", "reference"), [("Rewriting", "x"), ("Rewrite", " ")])
def test_item_that_cannot_be_judged_is_refused(category: str, reference: str) -> None:
    with pytest.raises(UserError, match="item 3"):
        HrefItem("3", category, "i", reference, "b")
