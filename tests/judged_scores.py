"""What an evaluation makes of responses to a judged task: judgements, verdicts, records, a row of scores."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from scripted_judge import ScriptedJudge

from cameleer.core.types import Problem
from cameleer.evals.config import JudgeConfig, find_eval_task
from cameleer.evals.judging import Judges
from cameleer.evals.records import Answer, Item, make_record
from cameleer.evals.results import summarise


class Scorer:
    """Scores with a judge whose replies the test decides."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, judge: ScriptedJudge, folder: Path, **settings: Any) -> None:
        monkeypatch.setattr(Judges, "_uncached", lambda _: judge)
        self._judges = Judges(JudgeConfig.parse({"model": "scripted", **settings}, where="judge"), folder, seed=0)

    def score(self, problems: Sequence[Problem], responses: Sequence[str]) -> dict[str, Any]:
        """The row of scores of one model on these problems, which are of one task."""
        task = find_eval_task(problems[0].task)
        assert task.judge is not None
        verdicts = self._judges.verdicts(task.judge, problems, responses)
        records = [
            make_record(Item(problem, 0, [], (), ""), Answer(response, 0, "stop"), verdict, 0.0)
            for problem, response, verdict in zip(problems, responses, verdicts, strict=True)
        ]
        [score] = summarise(["m"], {task.name: task}, [], {("m", task.name): records}, {}, seed=0)["scores"]
        return score


def href_problem(category: str, number: int = 0) -> Problem:
    """A problem of HREF whose reference is `the cat sat` and whose baseline's response is `a dog ran`."""
    target = {"instruction": "i", "category": category, "reference": "the cat sat", "baseline": "a dog ran"}
    return Problem(f"{category}/{number}", "href", category, (), "href", target, "the cat sat")
