"""The results of an evaluation as Markdown and as a table for the terminal: pure functions of the results dict.

Scores and differences are shown in percent and percentage points, p-values as they are; intervals are 95%.
"""

from collections.abc import Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from cameleer.core.markdown import fenced, table

Results = dict[str, Any]
NO_NUMBER = "–"
MAX_EXAMPLE_CHARACTERS = 1200


def score_table(results: Results) -> Table:
    """Tasks down, models across, and how much each later model differs from the first."""
    first, *later = results["models"]
    headings = [f"{model} %" for model in results["models"]]
    table = Table("task", *map(escape, headings), *(escape(f"{model} − {first}") for model in later))
    for task in results["tasks"]:
        scores = _task_scores(results, task)
        found = [_find(results["comparisons"], task=task, model=model, against=first) for model in later]
        differences = [_cell(_difference_words(each), style=_verdict_style(each)) for each in found]
        table.add_row(_cell(_task_words(results, task)), *map(_cell, scores), *differences)
    for suite, averages in results["averages"].items():
        cells = [_percent(averages[model]) for model in results["models"]]
        table.add_row(_cell(f"mean of {suite}"), *map(_cell, cells), *("" for _ in later), style="bold")
    return table


def markdown_report(results: Results) -> str:
    """The report that lies beside the results."""
    sections = [
        "# Evaluation\n",
        _settings(results),
        "## Scores\n\nPercent, over the items whose outcome is neither `timeout` nor `error`, with the 95% interval: "
        "Wilson's, or the bootstrap's where items share material, families count equally or scores lie between 0 and 1."
        "\n",
        _score_rows(results),
    ]
    if results["comparisons"]:
        sections += [
            "## Differences on the same items\n\nPercentage points, with the 95% interval of the item bootstrap; "
            "p: exact McNemar test over items or, where they share material, clusters; Holm: corrected for the number "
            "of tasks.\n",
            _comparison_table(results),
        ]
    sections += ["## Outcomes and cost\n", _outcome_table(results)]
    if results["unseen_looks"]:
        sections += [
            "## Looks at unseen tasks\n\nThese tasks are sealed. This evaluation read them, which is recorded here.\n",
            _look_table(results),
        ]
    sections += [
        "## Training data\n\nItems of each task that overlap with the mixtures that a model was trained on, by their "
        f"certificates of decontamination; {NO_NUMBER}: not known. Of a base model's own data nothing is known.\n",
        _training_table(results),
    ]
    if results["examples"]:
        sections += ["## Items on which the models differ\n", *map(_example, results["examples"])]
    return "\n".join(sections)


def _settings(results: Results) -> str:
    lines = [
        f"- made: {results['created']}, Cameleer {results['code']['cameleer']}"
        + (f" at commit `{results['code']['commit'][:12]}`" if "commit" in results["code"] else ""),
        f"- chat template: `{results['chat_template']}`, seed {results['seed']}",
    ]
    for name, model in results["models"].items():
        digest, fingerprint = model["digest"][:12], model["template_fingerprint"][:12]
        lines.append(f"- model `{name}`: content `{digest}`, template `{fingerprint}`")
    lines += [f"- task `{name}`: {_task_settings(task)}" for name, task in results["tasks"].items()]
    return "\n".join(lines) + "\n"


def _task_settings(task: dict[str, Any]) -> str:
    """How a task was put, in one line."""
    sampling = task["sampling"]
    drawn = "greedy" if sampling["temperature"] == 0 else f"temperature {sampling['temperature']:g}"
    parts = [
        f"version {task['version']}, role {task['role']}, {task['prompting']} prompts, {drawn}",
        f"top-p {sampling['top_p']:g}" if sampling["top_p"] < 1 else "",
        f"{task['num_samples']} samples, pass@{task['pass_at']}" if task["num_samples"] > 1 else "",
        f"at most {sampling['max_new_tokens']} tokens an answer",
        f"mean over {task['average']}",
        _judge_words(task["judge"]) if task["judge"] else "",
        *(f"{split} at `{digest}`" for split, digest in task["datasets"].items()),
    ]
    return f"{', '.join(filter(None, parts))}. {task['description']}"


def _judge_words(judge: dict[str, Any]) -> str:
    return f"judged by {judge['name']}{' (approximate)' if judge['approximate'] else ''}"


def _score_rows(results: Results) -> str:
    models = list(results["models"])
    rows = [
        [_task_words(results, task), settings["metric"], *_task_scores(results, task)]
        for task, settings in results["tasks"].items()
    ]
    for suite, averages in results["averages"].items():
        rows.append([f"mean of {suite}", "", *(_percent(averages[model]) for model in models)])
    return table(["task", "metric", *models], rows) + "\n"


def _comparison_table(results: Results) -> str:
    rows = [
        [
            each["task"],
            f"{each['model']} − {each['against']}",
            f"{_points(each['difference'])} {_interval(each['interval'], signed=True)}",
            f"{each['wins']} / {each['losses']}",
            str(each["num_items"]),
            f"{each['p_value']:.2g}",
            f"{each['p_holm']:.2g}",
        ]
        for each in results["comparisons"]
    ]
    return table(["task", "models", "difference", "better / worse", "items", "p", "p (Holm)"], rows) + "\n"


def _outcome_table(results: Results) -> str:
    outcomes = list(results["scores"][0]["outcomes"])
    rows: list[list[str]] = []
    for each in results["scores"]:
        counts = [each["outcomes"][outcome] for outcome in outcomes]
        cost = [each["finish_reasons"].get("length", 0), each["num_response_tokens"], f"{each['seconds']:.1f}"]
        rows.append([each["task"], each["model"], *map(str, [*counts, *cost])])
    return table(["task", "model", *outcomes, "cut at the limit", "response tokens", "seconds"], rows) + "\n"


def _look_table(results: Results) -> str:
    rows = [[look["task"], look["model"], str(look["num_items"])] for look in results["unseen_looks"]]
    return table(["task", "model", "items"], rows) + "\n"


def _training_table(results: Results) -> str:
    def words(found: dict[str, Any] | None) -> str:
        return NO_NUMBER if found is None else f"{found['overlapping']} of {found['items']}"

    overlaps = results["training_overlaps"]
    rows = [[task, *(words(overlaps[model][task]) for model in results["models"])] for task in results["tasks"]]
    return table(["task", *results["models"]], rows) + "\n"


def _example(example: dict[str, Any]) -> str:
    """One item with what each model answered, in fences that its text cannot close."""
    parts = [f"### {example['task']}: `{example['id']}`\n"]
    parts += [f"{message['role']}:\n\n{_shown(message['content'])}\n" for message in example["messages"]]
    for answer in example["answers"]:
        parts.append(f"**{answer['model']}** ({answer['outcome']}):\n\n{_shown(answer['response'])}\n")
    return "\n".join(parts)


def _shown(text: str) -> str:
    cut = len(text) > MAX_EXAMPLE_CHARACTERS
    return fenced(f"{text[:MAX_EXAMPLE_CHARACTERS]} … ({len(text)} characters)" if cut else text)


def _find(rows: Sequence[dict[str, Any]], **wanted: str) -> dict[str, Any]:
    return next(row for row in rows if all(row[key] == value for key, value in wanted.items()))


def _task_words(results: Results, task: str) -> str:
    settings = results["tasks"][task]
    marks = ["unseen"] if settings["role"] == "unseen" else []
    marks += ["approximate"] if settings["judge"] and settings["judge"]["approximate"] else []
    return f"{task} ({', '.join(marks)})" if marks else task


def _task_scores(results: Results, task: str) -> list[str]:
    """One cell for each model."""
    return [_score_words(_find(results["scores"], task=task, model=model)) for model in results["models"]]


def _score_words(score: dict[str, Any]) -> str:
    if score["score"] is None:
        return f"{NO_NUMBER} (no item judged)"
    unjudged = score["num_items"] - score["num_judged"]
    words = _percent(score["score"])
    words += " (length-controlled)" if score["interval"] is None else f" {_interval(score['interval'])}"
    return f"{words}, {unjudged} unjudged" if unjudged else words


def _difference_words(comparison: dict[str, Any]) -> str:
    interval = _interval(comparison["interval"], signed=True)
    return f"{_points(comparison['difference'])} {interval} p={comparison['p_value']:.2g}"


def _verdict_style(comparison: dict[str, Any]) -> str:
    low, high = comparison["interval"]
    return "green" if low > 0 else "red" if high < 0 else "dim"


def _percent(proportion: float | None) -> str:
    return NO_NUMBER if proportion is None else f"{100 * proportion:.1f}"


def _points(difference: float) -> str:
    return f"{100 * difference:+.1f}"


def _interval(bounds: Sequence[float], signed: bool = False) -> str:
    low, high = (_points(bound) if signed else _percent(bound) for bound in bounds)
    return f"[{low}, {high}]"


def _cell(text: str, style: str = "") -> Text:
    """Text as it is: names of models and tasks are not rich's markup."""
    return Text(text, style=style)
