"""The stage end to end on real servers and a tiny model: what it leaves, what it costs, how it fails and goes on."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from http_server import ServerState, serving
from prefs_support import replying, write_mixture
from synth_support import author, endpoint, read_lines, read_rows, synth_config, synth_stage

from cameleer import pipeline
from cameleer.core.errors import UserError
from cameleer.core.mixture import MIXTURE
from cameleer.core.problems import PROBLEMS
from cameleer.model.load import save_model
from cameleer.model.tiny import tiny_model, tiny_tokenizer
from cameleer.prefs.config import PromptsConfig
from cameleer.prefs.prompts import draw_prompts
from cameleer.synth.run import run
from cameleer.verify import Outcome, verify

COUNTS = {"precise_if": 6, "math_hard": 8, "math_grade_school": 4, "code": 3, "augmented": 5}
NUM_REQUESTS = 21 + 6 + 5 * 12 + 2 * 3 + 5
"""Prompts; then an answer, or five for mathematics, or an answer and tests for code."""


def tables() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [{"kind": kind, "count": count} for kind, count in COUNTS.items()]
    found[-1]["mixture"] = "curate"
    return found


def seen_once(state: ServerState) -> bool:
    return max(Counter(json.dumps(body, sort_keys=True) for body in state.seen).values()) == 1


def test_every_prompt_is_answered_checked_and_accounted_for(tmp_path: Path) -> None:
    out = tmp_path / "out"
    inputs = {"prompts augmented": write_mixture(tmp_path / "m", 9)}
    names = {"model": "Camel", "developer": "Caravan"}
    with serving(replying(author)) as (url, state):
        config = synth_config(prompts=tables(), models=endpoint(url), identity={"names": names})
        outcome = run(config, synth_stage(out, inputs))
    assert len(state.seen) == NUM_REQUESTS and seen_once(state) and state.seen[0]["temperature"] == 0.7
    rows = read_rows(out)
    assert Counter(row.source for row in rows) == {**COUNTS, "identity": 14}
    assert [example.messages for example in MIXTURE.read(out)] == [row.messages for row in rows]
    problems = {problem.id: problem for problem in PROBLEMS.read(out)}
    for row in rows:
        problem = problems.get(f"{row.source}/{row.id}")
        if row.source in ("precise_if", "augmented"):
            assert problem is not None and problem.verifier == "ifeval"
        if row.check == "verified":
            assert problem is not None and problem.gold == row.messages[-1].content
            assert problem.messages == row.messages[:-1]
            assert verify(problem.gold, problem.verifier, problem.target).outcome is Outcome.CORRECT
        elif problem is not None:
            assert problem.gold == "" and row.check == "failed"
    assert all(row.check == "verified" for row in rows if row.source == "code")
    items = read_lines(out / "items.jsonl")
    assert len(items) == sum(COUNTS.values()) and not any(item["lost"] for item in items)
    assert len(read_lines(out / "replies.jsonl")) == NUM_REQUESTS
    facts = outcome.counts["sources"]["math_hard"]
    verified = sum(row.check == "verified" for row in rows if row.source == "math_hard")
    assert (facts["asked"], facts["parsed"], facts["answered"], facts["verified"]) == (8, 8, 8, verified)
    assert facts["interval"][0] < facts["verified_share"] == verified / 8 <= facts["interval"][1]
    assert outcome.counts["spending"]["model author"]["prompt_tokens"] == 10 * NUM_REQUESTS
    assert "| math_hard | math_hard | 8 | 8 |" in (out / "report.md").read_text()


def test_what_cannot_be_read_or_comes_twice_is_counted_and_not_answered(tmp_path: Path) -> None:
    def rule(body: dict[str, Any]) -> str:
        text = body["messages"][-1]["content"]
        if not text.startswith("Here is a person"):
            return "Final Answer: The final answer is $4$. I hope it is correct."
        return ["Problem: How much is two and two, please?", "No."][len(text) % 2]

    with serving(replying(rule)) as (url, state):
        config = synth_config(prompts=[{"kind": "math_hard", "count": 12}], models=endpoint(url))
        outcome = run(config, synth_stage(tmp_path / "out"))
    facts = outcome.counts["sources"]["math_hard"]
    assert 1 < facts["parsed"] < 12 and facts["parsed"] == 1 + facts["equal"] and facts["answered"] == 1
    assert facts["reasons"] == {"prompt not in its form": 12 - facts["parsed"]}
    # Equal requests differ in their seeds: five answers to the one problem.
    assert len(state.seen) == 12 + 5 and len(read_rows(tmp_path / "out")) == 1


def test_a_budget_ends_the_stage_and_raising_it_goes_on(tmp_path: Path) -> None:
    table = [{"kind": "math_hard", "count": 6}]
    with serving(replying(author)) as (url, state):
        small = synth_config(prompts=table, models=endpoint(url, budget_tokens=200, max_concurrency=2))
        with pytest.raises(UserError, match="the budget is used up: budget_tokens = 200") as failure:
            run(small, synth_stage(tmp_path / "out"))
        assert "goes on from there" in str(failure.value.hint)
        before = len(state.seen)
        # 12 tokens a request: 17 reach the budget, and one more may be under way.
        assert 17 <= before <= 18
        run(synth_config(prompts=table, models=endpoint(url)), synth_stage(tmp_path / "out"))
        assert len(state.seen) == 6 + 30 and seen_once(state)
        run(synth_config(prompts=table, models=endpoint(url)), synth_stage(tmp_path / "whole"))
    for name in ("mixture.parquet", "problems.parquet", "items.jsonl", "replies.jsonl"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_recorded_replies_stand_in_for_their_model(tmp_path: Path) -> None:
    table = [{"kind": "math_hard", "count": 4}, {"kind": "code", "count": 2}]
    with serving(replying(author)) as (url, _):
        run(synth_config(prompts=table, models=endpoint(url)), synth_stage(tmp_path / "live"))
    config = synth_config(prompts=table, models=[{"file": "replies.jsonl", "name": "author"}])
    inputs = {"model author": tmp_path / "live" / "replies.jsonl"}
    run(config, synth_stage(tmp_path / "again", inputs))
    assert read_rows(tmp_path / "again") == read_rows(tmp_path / "live")
    longer = synth_config(prompts=[{**table[0], "count": 6}], models=[{"file": "replies.jsonl", "name": "author"}])
    outcome = run(longer, synth_stage(tmp_path / "longer", inputs))
    assert outcome.counts["sources"]["math_hard"]["reasons"]["no prompt: not recorded"] == 2


def test_a_missing_key_is_named_before_anything_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with serving(replying(author)) as (url, state):
        config = synth_config(prompts=tables()[:1], models=endpoint(url, api_key_env="NO_SUCH_KEY"))
        with pytest.raises(UserError, match="the environment variable NO_SUCH_KEY is not set"):
            run(config, synth_stage(tmp_path / "out"))
        assert not state.seen


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_model(tiny_model("llama", seed=2, attention="sdpa"), tiny_tokenizer(), folder)
    return folder


def test_a_model_of_this_machine_answers(tmp_path: Path, tiny_folder: Path) -> None:
    """Babble obeys hardly anything, and all of it is kept with its check."""
    config = synth_config(
        prompts=[{"kind": "augmented", "mixture": "curate", "count": 3, "num_answers": 2}],
        models=[{"model": "base"}],
        max_new_tokens=150,  # Babble ends by itself within so many tokens more often than not.
        temperature=1.0,
        top_p=1.0,
    )
    inputs = {"prompts augmented": write_mixture(tmp_path / "m", 3), "model base": tiny_folder}
    facts = run(config, synth_stage(tmp_path / "out", inputs)).counts["sources"]["augmented"]
    assert facts["asked"] == facts["parsed"] == 3 and len(read_lines(tmp_path / "out" / "replies.jsonl")) == 6
    assert len(read_rows(tmp_path / "out")) == facts["answered"] > 0


RECIPE = """
name = "line"
model = "unused"
seed = 3

[synth]
[[synth.prompts]]
kind = "math_hard"
count = 12
[[synth.prompts]]
kind = "precise_if"
count = 12
[[synth.models]]
model = "author"
endpoint = "{url}"
[synth.identity]
names = {{ model = "Camel", developer = "Caravan" }}

[curate]
[[curate.sources]]
mixture = "synth"
where = {{ check = "verified" }}
name = "verified"
count = 4
[[curate.sources]]
mixture = "synth"
where = {{ source = "identity" }}
name = "identity"
count = 140
upsample = true
[[curate.problems]]
problems = "synth"
"""


def test_curation_takes_the_verified_rows_and_the_problems_that_are_left(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    with serving(replying(author)) as (url, _):
        recipe.write_text(RECIPE.format(url=url))
        pipeline.run_recipe(pipeline.read_recipe(recipe), tmp_path / "run")
    synth, curate = tmp_path / "run" / "synth", tmp_path / "run" / "curate"
    verified = {row.messages for row in read_rows(synth) if row.check == "verified"}
    mixture = list(MIXTURE.read(curate))
    taken = {example.messages for example in mixture if example.source == "verified"}
    assert len(taken) == 4 and taken < verified
    assert Counter(example.messages for example in mixture if example.source == "identity").most_common()[-1][1] == 10
    problems = list(PROBLEMS.read(curate))
    assert {each.id for each in problems} <= {each.id for each in PROBLEMS.read(synth)}
    assert not {each.messages for each in problems} & {messages[:-1] for messages in taken}
    assert len(problems) == PROBLEMS.count(synth) - 4
    table = PromptsConfig.parse({"problems": "curate", "instructions": "relaxed"}, where="prompts")
    prompts = draw_prompts([table], {table.role: curate}, 0)
    several = [each for each in problems if each.family.count(" + ")]
    assert len(prompts) == len(several) > 0
    for prompt in prompts:
        assert prompt.relaxed is not None and prompt.verifier == "ifeval"
        assert len(prompt.relaxed[-1].content) < len(prompt.messages[-1].content)
