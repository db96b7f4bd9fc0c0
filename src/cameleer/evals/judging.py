"""Verdicts that take a judge: from the responses to a judged task's problems to a verdict each.

    refusal    correct if the response does what the problem expects: refuse or comply
    alpaca     score: how much the judge prefers the response to the baseline's, from 0 to 1
    href       score 1, ½ or 0: win, tie or loss against the baseline's response

A judgement that is missing or cannot be read is an `error`: it is counted, and in no mean.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cameleer.core.errors import UserError
from cameleer.core.types import Problem
from cameleer.evals.alpaca import judge_pairs, score
from cameleer.evals.config import JudgeConfig, RefusalMethod, asks_model
from cameleer.evals.href import HrefItem, Result, judge_href
from cameleer.evals.length_control import Control, published_control
from cameleer.evals.records import ItemRecord
from cameleer.evals.refusal import KEYWORDS, Exchange, RefusalJudge, RubricRefusal, local_wildguard
from cameleer.model.judge import CachedJudge, EndpointJudge, Judge, LocalJudge, model_logprobs
from cameleer.model.judge_pairs import Pair, Preference
from cameleer.tasks import Judge as Kind
from cameleer.verify import Outcome, Verdict
from cameleer.verify.verdict import graded

NUM_ALPACA_INSTRUCTIONS = 805
HREF_SCORES = {Result.WIN: 1.0, Result.TIE: 0.5, Result.LOSS: 0.0}


class Judges:
    """The judges of one evaluation, each made when it is first needed; replies are kept in `folder`."""

    def __init__(self, config: JudgeConfig, folder: Path, seed: int) -> None:
        self._config, self._folder, self._seed = config, folder, seed
        self._model: Judge | None = None
        self._refusal: RefusalJudge | None = None

    def require(self, kind: Kind) -> None:
        """Raise a UserError where the judge that a kind of task takes is not configured, before any work is done."""
        if asks_model(kind, self._config) and self._config.model is None:
            raise UserError(
                f"Tasks of the kind '{kind.value}' are judged by a model, and no judge is configured.",
                "Set judge.model, and judge.endpoint where the model is behind an OpenAI-compatible server; "
                "with cameleer eval: --set judge.model=…",
            )

    def verdicts(self, kind: Kind, problems: Sequence[Problem], responses: Sequence[str]) -> list[Verdict]:
        """The verdict on each response. Raises UserError where the judge that it takes is not configured."""
        if kind is Kind.REFUSAL:
            return self._refusals(problems, responses)
        if kind is Kind.ALPACA:
            preferences = judge_pairs(self._judge(), pairs_of(problems, responses), self._seed)
            return [_preference_verdict(each.candidate, each.texts) for each in preferences]
        return self._comparisons(problems, responses)

    def describe(self, kind: Kind) -> dict[str, Any]:
        """Who judged, for the results."""
        if kind is Kind.REFUSAL:
            judge = self._refusal_judge()
            return {"name": judge.name, "approximate": judge.is_approximate}
        return {"name": str(self._judge().identity.get("model")), "approximate": False}

    def _refusals(self, problems: Sequence[Problem], responses: Sequence[str]) -> list[Verdict]:
        exchanges = [Exchange(each.messages[-1].content, text) for each, text in zip(problems, responses, strict=True)]
        found = self._refusal_judge().judge(exchanges)
        return [
            _missing() if refused is None else graded(refused == (each.target["expected"] == "refuse"), refused=refused)
            for each, refused in zip(problems, found, strict=True)
        ]

    def _comparisons(self, problems: Sequence[Problem], responses: Sequence[str]) -> list[Verdict]:
        from cameleer.evals.similarity import load_encoder

        items = [
            HrefItem(each.id, each.target["category"], each.target["instruction"], each.target["reference"], baseline)
            for each in problems
            for baseline in [each.target["baseline"]]
        ]
        encoder = load_encoder(self._config.encoder, self._config.encoder_layer)
        results = judge_href(items, responses, self._judge(), encoder, self._seed)
        return [
            _missing() if result is Result.MISSING else _preference_verdict(HREF_SCORES[result], (result.value,))
            for result in results
        ]

    def _refusal_judge(self) -> RefusalJudge:
        if self._refusal is None:
            method = self._config.refusal
            if method is RefusalMethod.KEYWORDS:
                self._refusal = KEYWORDS
            elif method is RefusalMethod.RUBRIC:
                self._refusal = RubricRefusal(self._judge())
            else:
                from cameleer.model.source import resolve_model

                classifier = local_wildguard(resolve_model(self._config.wildguard))
                self._refusal = replace(classifier, judge_model=CachedJudge(classifier.judge_model, self._folder))
        return self._refusal

    def _judge(self) -> Judge:
        if self._model is None:
            self._model = CachedJudge(self._uncached(), self._folder)
        return self._model

    def _uncached(self) -> Judge:
        config = self._config
        if config.endpoint is not None:
            from cameleer.model.endpoint import Endpoint

            assert config.model is not None
            return EndpointJudge(
                Endpoint(
                    config.endpoint,
                    config.model,
                    config.api_key_env,
                    config.max_concurrency,
                    config.requests_per_minute,
                )
            )
        assert config.model is not None, "require has not been asked"
        return _local_judge(config.model)


def _local_judge(spec: str) -> Judge:
    from cameleer.core.artifact import content_digest
    from cameleer.model.generate import load_generator
    from cameleer.model.load import load_renderer
    from cameleer.model.source import resolve_model

    folder = resolve_model(spec)
    renderer = load_renderer(folder, "model")
    generator = load_generator(folder, renderer)
    return LocalJudge(generator, renderer, content_digest(folder), model_logprobs(generator.model))


def pairs_of(problems: Sequence[Problem], responses: Sequence[str]) -> list[Pair]:
    """What AlpacaEval's judge compares."""
    return [
        Pair(each.id, each.target["instruction"], each.target["baseline"], text)
        for each, text in zip(problems, responses, strict=True)
    ]


def length_controlled_win_rate(
    problems: Sequence[Problem], records: Sequence[ItemRecord], control: Control
) -> float | None:
    """AlpacaEval 2's length-controlled win rate of one model, from 0 to 1; None where nothing was judged.

    The problems are those of the control, in its order.
    """
    preferences = [Preference(record.score, None, ()) for record in records]
    found = score(pairs_of(problems, [record.response for record in records]), preferences, control)
    return None if found.length_controlled is None else found.length_controlled.win_rate / 100


def find_control(problems: Sequence[Problem]) -> Control | None:
    """The published length control, if the problems are all that it is published for; None for a part of them.

    Raises UserError where it cannot be had.
    """
    return published_control() if len(problems) == NUM_ALPACA_INSTRUCTIONS else None


def _preference_verdict(candidate: float | None, texts: Sequence[str | None]) -> Verdict:
    if candidate is None:
        return _missing()
    outcome = Outcome.CORRECT if candidate > 0.5 else Outcome.WRONG
    return Verdict(outcome, candidate, {"judge": list(texts)})


def _missing() -> Verdict:
    return Verdict(Outcome.ERROR, None, {"error": "the judgement is missing or cannot be read"})
