"""The evaluation stage: models and tasks in; a record per item, `results.json` and `report.md` out.

For each model, then each of its tasks: render the prompts, generate greedily, verify, record. What was recorded before
an interruption is not generated again. Failures of a verifier are counted and shown, never scored as wrong.
"""

import gc
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from cameleer.core import artifact
from cameleer.core.artifact import Outcome
from cameleer.core.digest import digest_json
from cameleer.core.errors import UserError
from cameleer.core.log import Ticker, console, ticker
from cameleer.core.render import Renderer
from cameleer.core.stage import StageRun
from cameleer.core.types import ChatTemplate, Problem
from cameleer.evals.config import EvalConfig, find_eval_task
from cameleer.evals.records import Item, ItemRecord, RecordFile, make_item, make_record
from cameleer.evals.report import markdown_report, score_table
from cameleer.evals.results import summarise
from cameleer.model.generate import LocalGenerator, Sampling, load_generator
from cameleer.model.load import load_renderer
from cameleer.model.source import resolve_model
from cameleer.tasks import Task
from cameleer.verify import Outcome as VerdictOutcome
from cameleer.verify import verify

RESULTS = "results.json"
REPORT = "report.md"
ITEMS = "items"


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
        summary={f"{score['task']}/{score['model']}": score["accuracy"] for score in results["scores"]},
        template_fingerprint=fingerprints.pop() if len(fingerprints) == 1 else None,
    )


def evaluate_specs(
    specs: Sequence[str], tasks: Sequence[str], *, num_items: int, folder: Path, chat_template: ChatTemplate, seed: int
) -> dict[str, Any]:
    """Evaluate model specs on tasks or suites; `folder` may hold an earlier evaluation, whose answers are reused."""
    table = {"models": tuple(specs), "tasks": tuple(tasks), "num_items": num_items, "seed": seed}
    config = EvalConfig.parse(table, where="eval")
    models = {spec: resolve_model(spec) for spec in config.models}
    with artifact.locked(folder):
        results = evaluate(models, config, folder, chat_template, seed)
    console.print(f"records, {RESULTS} and {REPORT}: {folder}", markup=False)
    return results


def evaluate(
    models: Mapping[str, Path], config: EvalConfig, folder: Path, chat_template: ChatTemplate, seed: int
) -> dict[str, Any]:
    """Evaluate the models in these folders, write records, results and report to `folder`, and return the results.

    `models` holds the folder of each of `config.models`. Raises UserError for a model that was trained under another
    chat template, and for a task that has fewer items than asked for.
    """
    assert tuple(models) == config.models, (tuple(models), config.models)
    tasks = [find_eval_task(name) for name in config.tasks]
    problems = {task.name: task.problems(config.num_items, seed) for task in tasks}
    records: dict[tuple[str, str], list[ItemRecord]] = {}
    described: dict[str, dict[str, Any]] = {}
    # All renderers first: a wrong template is refused before anything is generated.
    renderers = {name: load_renderer(path, chat_template) for name, path in models.items()}
    for name, path in models.items():
        model = _Model(name, path, renderers[name], config.batch_size)
        for task in tasks:
            items_path = folder / ITEMS / file_name(name) / f"{task.name}.jsonl"
            records[name, task.name] = _answer(model, task, problems[task.name], _sampling(task, config), items_path)
        described[name] = {"digest": model.digest, "template_fingerprint": model.renderer.fingerprint}
        model.unload()
    results = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "chat_template": chat_template,
        "seed": seed,
        "models": described,
        "tasks": {task.name: _describe(task, config) for task in tasks},
        **summarise(list(models), {task.name: task.role for task in tasks}, records, seed),
        "code": artifact.code_version(),
        "packages": artifact.package_versions(),
    }
    artifact.write_json(folder / RESULTS, results)
    (folder / REPORT).write_text(markdown_report(results), encoding="utf-8")
    console.print(score_table(results))
    return results


def file_name(model: str) -> str:
    """A folder name for a model's name; names that need changing keep a part of their digest, so no two collide."""
    kept = "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in model).strip(".-")
    return model if kept == model else f"{kept}-{digest_json(model)[:6]}"


@dataclass
class _Model:
    """A model under evaluation; its weights are loaded when the first answer is needed."""

    name: str
    path: Path
    renderer: Renderer
    batch_size: int
    _generator: LocalGenerator | None = field(default=None, init=False)

    @cached_property
    def digest(self) -> str:
        return artifact.content_digest(self.path)

    def generator(self) -> LocalGenerator:
        if self._generator is None:
            self._generator = load_generator(self.path, self.renderer.stop_ids, self.batch_size)
        return self._generator

    def unload(self) -> None:
        """Free the weights before the next model comes: only one is in memory at a time."""
        self._generator = None
        gc.collect()


def _sampling(task: Task, config: EvalConfig) -> Sampling:
    return Sampling(max_new_tokens=config.max_new_tokens or task.max_new_tokens)


def _describe(task: Task, config: EvalConfig) -> dict[str, Any]:
    return {
        "version": task.version,
        "role": task.role.value,
        "split": task.split.value,
        "description": task.description,
        "num_items": config.num_items,
        "sampling": asdict(_sampling(task, config)),
    }


def _answer(model: _Model, task: Task, problems: list[Problem], sampling: Sampling, path: Path) -> list[ItemRecord]:
    """The records of all problems; those that have none yet are answered now."""
    prompts = [model.renderer.prompt(problem.messages) for problem in problems]
    items = [
        make_item(problem, prompt, model.digest, sampling, task.version)
        for problem, prompt in zip(problems, prompts, strict=True)
    ]
    with closing(RecordFile(path, items)) as file:
        missing = [item for item in items if item.problem.id not in file]
        if missing:
            with ticker(f"{model.name}: {task.name}", len(items), done=len(file)) as progress:
                try:
                    _answer_missing(model, missing, sampling, file, progress)
                except UserError as error:
                    raise UserError(f"{model.name} on {task.name}: {error.what}", error.hint) from None
    return file.records


def _answer_missing(model: _Model, items: list[Item], sampling: Sampling, file: RecordFile, progress: Ticker) -> None:
    """Generate, verify and record, each item as it finishes."""
    generator = model.generator()
    started = previous = time.monotonic()
    num_tokens = num_correct = 0
    finished = generator.stream([item.prompt for item in items], sampling)
    for num_done, (index, completion) in enumerate(finished, start=1):
        problem = items[index].problem
        response = model.renderer.decode(completion.ids)
        verdict = verify(response, problem.verifier, problem.target)
        now = time.monotonic()
        file.append(make_record(items[index], completion, response, verdict, now - previous))
        previous = now
        num_tokens += len(completion.ids)
        num_correct += verdict.outcome is VerdictOutcome.CORRECT
        rate = num_tokens / max(now - started, 1e-9)
        progress.advance(note=f"{num_correct}/{num_done} correct  {rate:,.0f} tokens/s")
