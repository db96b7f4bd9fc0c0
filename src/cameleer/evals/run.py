"""The evaluation stage: models and tasks in; a record per answer, `results.json` and `report.md` out.

For each model, then each of its tasks: render the prompts, generate or score the choices, verify, record. What was
recorded before an interruption is not asked for again. Failures of a verifier are counted and shown, never scored as
wrong.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cameleer.core import artifact
from cameleer.core.artifact import Outcome
from cameleer.core.digest import digest_json
from cameleer.core.errors import UserError
from cameleer.core.log import Ticker, console, ticker
from cameleer.core.stage import StageRun
from cameleer.core.types import ChatTemplate, Problem
from cameleer.evals.config import GENERATED_ITEMS, EvalConfig, find_eval_task
from cameleer.evals.contamination import overlap_with
from cameleer.evals.fetch import read_besides_datasets
from cameleer.evals.judging import Judges, find_control, length_controlled_win_rate
from cameleer.evals.length_control import Control
from cameleer.evals.model import EvaluatedModel
from cameleer.evals.records import (
    AWAITS_JUDGE,
    Answer,
    Item,
    ItemRecord,
    RecordFile,
    answer_key,
    make_record,
    write_records,
)
from cameleer.evals.report import markdown_report, score_table
from cameleer.evals.results import summarise
from cameleer.model.generate import Sampling
from cameleer.model.load import load_renderer
from cameleer.model.source import resolve_model
from cameleer.tasks import Judge, Task
from cameleer.tasks.mirror import content_digest
from cameleer.verify import Outcome as VerdictOutcome
from cameleer.verify import Verdict
from cameleer.verify.likelihood import verify_likelihood
from cameleer.verify.pool import VerifierPool
from cameleer.verify.sandbox.run import announce_protections

RESULTS = "results.json"
REPORT = "report.md"
ITEMS = "items"
JUDGE = "judge"
NOT_JUDGED = Verdict(VerdictOutcome.ERROR, None, AWAITS_JUDGE)
"""The verdict of a judged task's answer until its judge has been asked, after all answers are there."""


def run(config: EvalConfig, stage: StageRun) -> Outcome:
    """The stage's entry."""
    models = {name: stage.inputs[name] for name in config.models}
    results = evaluate(models, config, stage.folder, stage.chat_template, stage.seed)
    fingerprints = {model["template_fingerprint"] for model in results["models"].values()}
    return Outcome(
        counts={
            "items": sum(score["num_items"] for score in results["scores"]),
            "response_tokens": sum(score["num_response_tokens"] for score in results["scores"]),
        },
        summary={f"{score['task']}/{score['model']}": score["score"] for score in results["scores"]},
        template_fingerprint=fingerprints.pop() if len(fingerprints) == 1 else None,
    )


def evaluate_specs(
    specs: Sequence[str],
    tasks: Sequence[str],
    *,
    folder: Path,
    chat_template: ChatTemplate,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """Evaluate model specs on tasks or suites; `folder` may hold an earlier evaluation, whose answers are reused.

    `settings` holds further keys of `EvalConfig`, as a recipe would.
    """
    config = EvalConfig.parse({"models": tuple(specs), "tasks": tuple(tasks), **settings}, where="eval")
    models = {spec: resolve_model(spec) for spec in config.models}
    with artifact.locked(folder):
        results = evaluate(models, config, folder, chat_template, config.seed or 0)
    console.print(f"records, {RESULTS} and {REPORT}: {folder}", markup=False)
    return results


def evaluate(
    models: Mapping[str, Path], config: EvalConfig, folder: Path, chat_template: ChatTemplate, seed: int
) -> dict[str, Any]:
    """Evaluate the models in these folders, write records, results and report to `folder`, and return the results.

    `models` holds the folder of each of `config.models`. Raises UserError for a model that was trained under another
    chat template, for a task whose items are not there, and for what verifiers and judges lack on this machine: all
    before anything is generated.
    """
    assert tuple(models) == config.models, (tuple(models), config.models)
    tasks = {name: find_eval_task(name) for name in config.task_names}
    problems = {name: _problems(task, config, seed) for name, task in tasks.items()}
    # All renderers first: a wrong template is refused before anything is generated.
    renderers = {name: load_renderer(path, chat_template) for name, path in models.items()}
    judges = Judges(config.judge, folder / JUDGE, seed)
    kinds = {task.judge for task in tasks.values() if task.judge is not None}
    for kind in kinds:
        judges.require(kind)
    verifiers = {problem.verifier for found in problems.values() for problem in found}
    # So is what verifiers and judges lack on this machine; fetched now if it can be.
    for bring in read_besides_datasets(verifiers, kinds, config.judge).values():
        bring()
    controls = {name: find_control(problems[name]) for name, task in tasks.items() if task.judge is Judge.ALPACA}
    if "code" in verifiers:
        announce_protections()
    records: dict[tuple[str, str], list[ItemRecord]] = {}
    described: dict[str, dict[str, Any]] = {}
    with VerifierPool(deadline_seconds=config.deadline_seconds) as pool:
        for name, path in models.items():
            model = EvaluatedModel(name, path, renderers[name], config.batch_size)
            for task in tasks.values():
                items_path = folder / ITEMS / file_name(name) / f"{task.name}.jsonl"
                sampling = _sampling(task, config, seed)
                records[name, task.name] = _answer(model, task, problems[task.name], sampling, items_path, pool)
            described[name] = {"digest": model.digest, "template_fingerprint": model.renderer.fingerprint}
            model.unload()
    for (name, task), found in records.items():
        records[name, task] = _judged(judges, tasks[task], problems[task], found)
        if tasks[task].judge is not None:
            write_records(folder / ITEMS / file_name(name) / f"{task}.judged.jsonl", records[name, task])
    controlled = _length_controlled(controls, problems, records)
    results = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "chat_template": chat_template,
        "seed": seed,
        "models": described,
        "tasks": {name: _describe(task, config, seed, judges) for name, task in tasks.items()},
        **summarise(list(models), tasks, config.suites, records, controlled, seed),
        "training_overlaps": {
            name: {task.name: overlap_with(path, task, len(problems[task.name]), seed) for task in tasks.values()}
            for name, path in models.items()
        },
        "code": artifact.code_version(),
        "packages": artifact.package_versions(),
    }
    artifact.write_json(folder / RESULTS, results)
    (folder / REPORT).write_text(markdown_report(results), encoding="utf-8")
    console.print(score_table(results))
    return results


def _length_controlled(
    controls: Mapping[str, Control | None],
    problems: Mapping[str, Sequence[Problem]],
    records: Mapping[tuple[str, str], Sequence[ItemRecord]],
) -> dict[tuple[str, str], float]:
    """The length-controlled win rates by (model, task), of tasks that have a control."""
    found: dict[tuple[str, str], float] = {}
    for (model, name), answers in records.items():
        control = controls.get(name)
        rate = None if control is None else length_controlled_win_rate(problems[name], answers, control)
        if rate is not None:
            found[model, name] = rate
    return found


def file_name(model: str) -> str:
    """A folder name for a model's name; names that need changing keep a part of their digest, so no two collide."""
    kept = "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in model).strip(".-")
    return model if kept == model else f"{kept}-{digest_json(model)[:6]}"


def _problems(task: Task, config: EvalConfig, seed: int) -> list[Problem]:
    count = config.num_items if task.datasets else config.num_items or GENERATED_ITEMS
    try:
        return task.problems(count, seed)
    except UserError as error:
        raise UserError(f"{task.name}: {error.what}", error.hint) from None


def _sampling(task: Task, config: EvalConfig, seed: int) -> Sampling:
    decoding = task.decoding
    limit = config.max_new_tokens or decoding.max_new_tokens
    return Sampling(limit, decoding.temperature, decoding.top_p, decoding.stop, seed if decoding.temperature else 0)


def _describe(task: Task, config: EvalConfig, seed: int, judges: Judges) -> dict[str, Any]:
    """Everything that a score depends on besides the model."""
    return {
        "version": task.version,
        "role": task.role.value,
        "split": task.split.value,
        "description": task.description,
        "datasets": {str(split): content_digest(split) for split in task.datasets},
        "num_items": config.num_items,
        "prompting": task.prompting.value,
        "metric": task.metric,
        "average": task.average.value,
        "judge": judges.describe(task.judge) if task.judge else None,
        "sampling": asdict(_sampling(task, config, seed)),
        "num_samples": task.decoding.num_samples,
        "pass_at": task.decoding.pass_at,
    }


def _answer(
    model: EvaluatedModel, task: Task, problems: Sequence[Problem], sampling: Sampling, path: Path, pool: VerifierPool
) -> list[ItemRecord]:
    """The records of all problems; those that have none yet are answered now."""
    depends_on = [model.digest, asdict(sampling), task.version, sorted(model.renderer.stop_ids)]
    items = [item for problem in problems for item in _items(model, task, problem, depends_on)]
    with closing(RecordFile(path, items)) as file:
        missing = [item for item in items if item not in file]
        if missing:
            with ticker(f"{model.name}: {task.name}", len(items), done=len(file)) as progress:
                try:
                    _answer_missing(file, missing, _judgements(model, task, missing, sampling, pool), progress)
                except UserError as error:
                    raise UserError(f"{model.name} on {task.name}: {error.what}", error.hint) from None
    return file.records


def _items(model: EvaluatedModel, task: Task, problem: Problem, depends_on: Any) -> Iterator[Item]:
    """The answers to be had for one problem."""
    prompt = model.prompt(problem, task.prompting)
    continuations = model.continuations(problem, task.prompting)
    for sample in range(1 if continuations else task.decoding.num_samples):
        item = Item(problem, sample, prompt, continuations, key="")
        yield Item(problem, sample, prompt, continuations, answer_key(item, depends_on))


def _answer_missing(
    file: RecordFile, items: Sequence[Item], found: Iterator[tuple[int, Answer, Verdict]], progress: Ticker
) -> None:
    """Record each answer as its verdict comes."""
    started = previous = time.monotonic()
    num_tokens = num_correct = 0
    for num_done, (index, answer, verdict) in enumerate(found, start=1):
        now = time.monotonic()
        file.append(make_record(items[index], answer, verdict, now - previous))
        previous = now
        num_tokens += answer.num_tokens
        num_correct += verdict.outcome is VerdictOutcome.CORRECT
        rate = num_tokens / max(now - started, 1e-9)
        progress.advance(note=f"{num_correct}/{num_done} correct  {rate:,.0f} tokens/s")


def _judgements(
    model: EvaluatedModel, task: Task, items: Sequence[Item], sampling: Sampling, pool: VerifierPool
) -> Iterator[tuple[int, Answer, Verdict]]:
    """(index of the item, answer, verdict) as they are ready; verifiers work while the model generates."""
    if items[0].continuations:
        for index, answer in model.likelihoods(items):
            yield index, answer, verify_likelihood(answer.choice_logprobs, items[index].problem.target)
        return
    if task.judge is not None:
        for index, answer in model.answers(items, sampling):
            yield index, answer, NOT_JUDGED
        return
    answers: list[tuple[int, Answer]] = []

    def responses() -> Iterator[tuple[str, str, Any]]:
        for index, answer in model.answers(items, sampling):
            answers.append((index, answer))
            problem = items[index].problem
            yield answer.response, problem.verifier, problem.target

    for number, verdict, _ in pool.verify_all(responses()):
        yield *answers[number], verdict


def _judged(judges: Judges, task: Task, problems: Sequence[Problem], records: Sequence[ItemRecord]) -> list[ItemRecord]:
    """The records of a judged task with the judge's verdicts; those of other tasks as they are."""
    if task.judge is None:
        return list(records)
    by_id = {problem.id: problem for problem in problems}
    asked = [by_id[record.id] for record in records]
    verdicts = judges.verdicts(task.judge, asked, [record.response for record in records])
    return [
        replace(record, outcome=verdict.outcome.value, score=verdict.score, detail=verdict.detail)
        for record, verdict in zip(records, verdicts, strict=True)
    ]
