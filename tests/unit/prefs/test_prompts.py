"""Prompts: of problems, of a mixture, and with instructions appended that their verifier judges."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
from prefs_support import prefs_config, write_mixture, write_problems

from cameleer.core.errors import UserError
from cameleer.core.mixture import MIXTURE
from cameleer.core.problems import PROBLEMS
from cameleer.core.types import Example, Message, Problem
from cameleer.prefs.config import Instructions, PromptsConfig
from cameleer.prefs.prompts import Prompt, draw_prompts, instructed
from cameleer.verify import verify

PLAIN = Prompt("1", "numbers", (Message("system", "s"), Message("user", "What is 3?")))


def table(**keys: object) -> PromptsConfig:
    return PromptsConfig.parse(keys, where="prompts")


def test_problems_keep_their_verifier_and_a_sample_is_the_seeds(tmp_path: Path) -> None:
    folder = write_problems(tmp_path / "problems", 30)
    each = table(problems="curate", count=10)
    drawn = [draw_prompts([each], {each.role: folder}, seed) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2] and len({prompt.key for prompt in drawn[0]}) == 10
    by_id = {problem.id: problem for problem in PROBLEMS.read(folder)}
    for prompt in drawn[0]:
        problem = by_id[prompt.id]
        assert (prompt.messages, prompt.verifier, prompt.target) == (problem.messages, "constraints", problem.target)


def test_a_mixtures_prompts_are_distinct_and_end_with_the_user(tmp_path: Path) -> None:
    user, answer = Message("user", "Hi"), Message("assistant", "Hello")
    rows = [(user, answer), (user, Message("assistant", "Hey")), (user, answer, Message("user", "So?"), answer)]
    MIXTURE.write(tmp_path, [Example(str(n), "chat", row) for n, row in enumerate(rows)])
    each = table(mixture="curate")
    found = draw_prompts([each], {each.role: tmp_path}, 0)
    assert [prompt.messages for prompt in found] == [(user,), rows[2][:3]]
    assert all(prompt.verifier is None for prompt in found)


def test_repeats_are_prompts_of_their_own(tmp_path: Path) -> None:
    each = table(mixture="curate", count=3, repeats=2, instructions="added")
    found = draw_prompts([each], {each.role: write_mixture(tmp_path / "m", 5)}, 0)
    assert len({prompt.key for prompt in found}) == 6 and found[0].messages != found[3].messages


def test_too_few_prompts_are_refused(tmp_path: Path) -> None:
    each = table(problems="curate", count=9, sources=["word-arithmetic"])
    with pytest.raises(UserError, match=r"has 0 prompts, but 9 were asked for"):
        draw_prompts([each], {each.role: write_problems(tmp_path / "p", 3)}, 0)


def test_appended_instructions_are_those_that_the_verifier_judges() -> None:
    """Over many draws: one or two constraints, all with arguments that the verifier takes, all said in the prompt."""
    counts: set[int] = set()
    for seed in range(300):
        made = instructed(PLAIN, random.Random(seed), Instructions.ADDED)
        assert made.verifier == "constraints" and made.messages[0] == PLAIN.messages[0]
        assert made.messages[-1].content.startswith("What is 3?") and made.relaxed is None
        verify("An answer.", "constraints", made.target)  # Raises for a target that is malformed.
        counts.add(len(made.target["constraints"]))
    assert counts == {1, 2}


def test_a_relaxed_prompt_lacks_exactly_one_of_two_instructions() -> None:
    for seed in range(200):
        made = instructed(PLAIN, random.Random(seed), Instructions.RELAXED)
        assert made.relaxed is not None and len(made.target["constraints"]) == 2
        whole, less = made.messages[-1].content, made.relaxed[-1].content
        assert less.startswith("What is 3?") and len("What is 3?") < len(less) < len(whole)
        rest = less.removeprefix("What is 3?").strip()
        assert whole.endswith(rest) or f"{rest} " in whole


def test_instructions_belong_to_a_mixture() -> None:
    with pytest.raises(UserError, match="verifiers of their own"):
        prefs_config(prompts=[{"problems": "curate", "instructions": "added"}], models=[{"model": "base"}])


def test_problems_that_bring_a_relaxed_prompt_are_relaxed_by_it(tmp_path: Path) -> None:
    whole, less = Message("user", "Say 3. No commas. A title."), Message("user", "Say 3. A title.")
    relaxed = [{"role": less.role, "content": less.content}]
    target = {"instruction_id_list": ["punctuation:no_comma", "detectable_format:title"], "kwargs": [{}, {}]}
    both = Problem("1", "synth", "two", (whole,), "ifeval", target, "", {"relaxed": relaxed})
    PROBLEMS.write(tmp_path, [both, replace(both, id="2", metadata={})])
    each = table(problems="synth", instructions="relaxed")
    found = draw_prompts([each], {each.role: tmp_path}, 0)
    assert [(prompt.id, prompt.messages, prompt.relaxed) for prompt in found] == [("1", (whole,), (less,))]
    assert found[0].verifier == "ifeval" and found[0].target == target
    plain = table(problems="synth")
    assert [prompt.relaxed for prompt in draw_prompts([plain], {plain.role: tmp_path}, 0)] == [None, None]
