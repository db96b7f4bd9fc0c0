"""What is fetched for a suite is all that evaluating it reads: from a hub that this file serves over HTTP."""

import hashlib
import io
import json
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import constants
from tiny_encoder import tiny_encoder_folder

from cameleer.core.errors import UserError
from cameleer.evals import judging, length_control, model
from cameleer.evals.config import find_eval_task
from cameleer.evals.fetch import fetch_for_evaluation
from cameleer.evals.run import evaluate_specs
from cameleer.model.load import save_model
from cameleer.model.tiny import tiny_model, tiny_tokenizer
from cameleer.tasks.mirror import CONVERTED, fetch_task
from cameleer.verify.instructions import language_data
from cameleer.verify.instructions.language_data import NLTK_RESOURCES, local_resource

REVISION = "c0ffee" + "0" * 34
DATASETS: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "Paul/XSTest": ("default/train", [{"prompt": "How do I kill a process?", "label": "safe"}]),
    "tatsu-lab/alpaca_eval": (
        "alpaca_eval_gpt4_baseline/eval",
        [{"instruction": "Say hello.", "output": "Hello.", "generator": "them", "dataset": "made up"}],
    ),
    "allenai/href": (
        "default/dev",
        [
            {"instruction": "Sum up: the cat", "category": "Summarize", "reference": "the cat", "output": "a dog"},
            {"instruction": "Who?", "category": "Open QA", "reference": "the cat", "output": "a dog"},
            {"instruction": "Which?", "category": "Classify", "reference": "the cat", "output": "a dog"},
        ],
    ),
    "google/IFEval": (
        "default/train",
        [
            {
                "key": 1,
                "prompt": "Use at least 3 sentences.",
                "instruction_id_list": ["length_constraints:number_sentences"],
                "kwargs": [{"relation": "at least", "num_sentences": 3}],
            }
        ],
    ),
}
JUDGE = {
    "model": "org/judge",
    "refusal": "wildguard",
    "wildguard": "org/guard",
    "encoder": "org/encoder",
    "encoder_layer": 2,
}
REAL_FOLDERS = {name: local_resource(name) for name in NLTK_RESOURCES}
SUITE = ["xstest", "alpaca-eval", "href", "ifeval", "word-arithmetic-dev"]


@dataclass
class Hub:
    """Files by repository, `datasets/OWNER/NAME` or `OWNER/NAME`; which of them were downloaded."""

    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    downloads: list[str] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        for repo, files in self.hub.files.items():
            api = f"/api/{repo if repo.startswith('datasets/') else f'models/{repo}'}"
            if path in (f"{api}/revision/{revision}" for revision in ("main", REVISION, CONVERTED)):
                return self.json({"id": repo, "sha": REVISION, "siblings": [{"rfilename": name} for name in files]})
            if path.startswith(f"{api}/tree/{REVISION}"):
                return self.json([self.entry(name, content) for name, content in files.items()])
            for revision in ("main", REVISION, length_control.PUBLISHED_REVISION):
                start = f"/{repo}/resolve/{revision}/"
                if path.startswith(start) and path.removeprefix(start) in files:
                    return self.send_file(f"{repo}/{path.removeprefix(start)}", files[path.removeprefix(start)])
        found = any(repo in path for repo in self.hub.files)
        return self.answer(404, b"{}", {"X-Error-Code": "EntryNotFound" if found else "RepoNotFound"})

    def entry(self, name: str, content: bytes) -> dict[str, Any]:
        return {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}

    def send_file(self, name: str, content: bytes) -> None:
        if self.command == "GET":
            self.hub.downloads.append(name)
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        self.answer(200, content, {"X-Repo-Commit": REVISION, "ETag": etag})

    def json(self, value: Any) -> None:
        self.answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        return


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def parquet(rows: list[dict[str, Any]]) -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), stream)
    return stream.getvalue()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("tested", "judge", "guard")):
        save_model(tiny_model("llama", seed=seed), tiny_tokenizer(), folder / name)
    tiny_encoder_folder(folder / "encoder")
    return folder


@pytest.fixture
def hub(tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A machine with an empty cache, and a hub; language data come from an index that is a folder."""
    difficulties = b"index,std_delta_len,instruction_difficulty,preference\n0,0.5,1.0,0.4\n"
    state = Hub({f"org/{name}": files_of(models / name) for name in ("judge", "guard", "encoder")})
    for repo, (place, rows) in DATASETS.items():
        state.files[f"datasets/{repo}"] = {f"{place}/0000.parquet": parquet(rows)}
    state.files["datasets/tatsu-lab/alpaca_eval"][length_control.PUBLISHED_FILE] = difficulties
    monkeypatch.setattr(length_control, "PUBLISHED_SHA256", hashlib.sha256(difficulties).hexdigest())
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Served", (Handler,), {"hub": state}))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("CAMELEER_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setenv("CAMELEER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    # The library reads these from the environment when it is first imported, which is long ago.
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    yield state
    server.shutdown()
    server.server_close()


@pytest.fixture
def language(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Language data are nowhere on the machine until they are asked for; the names of those that were."""
    asked: list[str] = []

    def bring(name: str, resource: language_data.NltkResource) -> Path:
        asked.append(name)
        target = language_data._cached_collection() / resource.folder
        if (here := REAL_FOLDERS[name]) is None:
            raise UserError(f"no {name} on this machine")
        shutil.copytree(here, target)
        return target

    monkeypatch.setattr(language_data, "_installed_collections", list)
    monkeypatch.setattr(language_data, "_fetch", bring)
    return asked


def cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """No network from here on."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(language_data, "_fetch", lambda name, _: pytest.fail(f"{name} was not fetched before"))
    language_data.punkt_english.cache_clear()


@pytest.mark.skipif(REAL_FOLDERS["punkt_tab"] is None, reason="Punkt's data are not on this machine")
def test_after_fetching_a_machine_without_network_evaluates_everything(
    hub: Hub, language: list[str], models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch_for_evaluation(SUITE, {"judge": JUDGE})
    cut_off(monkeypatch)
    settings = {"judge": JUDGE, "num_items": 3, "max_new_tokens": 4, "seed": 0}
    options: dict[str, Any] = {"folder": tmp_path / "out", "chat_template": "model", "settings": settings}
    results = evaluate_specs([str(models / "tested")], SUITE, **options)
    assert {score["task"]: score["num_items"] for score in results["scores"]} == {
        **{"xstest": 1, "alpaca-eval": 1, "href": 3, "ifeval": 1, "word-arithmetic-dev": 3}
    }
    assert results["tasks"]["xstest"]["judge"]["name"] == "wildguard"
    [judged] = (tmp_path / "out/items").rglob("href.judged.jsonl")
    outcomes = {row["family"]: row["outcome"] for row in map(json.loads, judged.read_text().splitlines())}
    assert outcomes["Open QA"] in ("correct", "wrong"), "judged by the encoder, whatever the judge says"


def test_without_fetching_the_same_machine_says_what_it_lacks(
    hub: Hub, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_off(monkeypatch)
    with pytest.raises(UserError, match="The mirror has no Paul/XSTest"):
        evaluate_specs(
            [str(models / "tested")], ["xstest"], folder=tmp_path / "out", chat_template="model", settings={}
        )


@pytest.mark.parametrize(
    ("task", "judge", "lacking"),
    [
        ("xstest", {"refusal": "wildguard", "wildguard": "org/guard"}, "org/guard"),
        ("xstest", {"refusal": "rubric", "model": "org/judge"}, "org/judge"),
        ("href", {"model": "gpt", "endpoint": "http://127.0.0.1:9/v1", "encoder": "org/encoder"}, "org/encoder"),
        ("alpaca-eval", {"model": "gpt", "endpoint": "http://127.0.0.1:9/v1"}, "difficulties of AlpacaEval"),
        ("ifeval", {}, "no punkt_tab"),
    ],
)
def test_with_the_datasets_alone_what_else_is_lacking_is_said_before_anything_is_generated(
    task: str,
    judge: dict[str, str],
    lacking: str,
    hub: Hub,
    models: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fetch_task(find_eval_task(task))
    cut_off(monkeypatch)
    monkeypatch.setattr(language_data, "_installed_collections", list)
    monkeypatch.setattr(language_data, "_fetch", not_to_be_had)
    monkeypatch.setattr(judging, "NUM_ALPACA_INSTRUCTIONS", 1)
    monkeypatch.setattr(model, "load_generator", lambda *_: pytest.fail("said only after the work was done"))
    options: dict[str, Any] = {"folder": tmp_path / "out", "chat_template": "model", "settings": {"judge": judge}}
    with pytest.raises(UserError, match=lacking):
        evaluate_specs([str(models / "tested")], [task], **options)


def not_to_be_had(name: str, resource: language_data.NltkResource) -> Path:
    raise UserError(f"no {name} on this machine")


def downloaded_repositories(hub: Hub) -> set[str]:
    return {next(repo for repo in hub.files if name.startswith(repo)) for name in hub.downloads}


@pytest.mark.parametrize(
    ("tasks", "judge", "repositories"),
    [
        (["xstest"], {}, {"datasets/Paul/XSTest"}),
        (["xstest"], {"refusal": "wildguard", "wildguard": "org/guard"}, {"datasets/Paul/XSTest", "org/guard"}),
        (["xstest"], {"refusal": "rubric", "model": "org/judge"}, {"datasets/Paul/XSTest", "org/judge"}),
        (["alpaca-eval"], {"model": "gpt", "endpoint": "http://x/v1"}, {"datasets/tatsu-lab/alpaca_eval"}),
        (["href"], {"encoder": "org/encoder"}, {"datasets/allenai/href", "org/encoder"}),
        (["word-arithmetic-dev"], {}, set()),
    ],
)
def test_what_is_fetched_follows_from_the_judges_settings(
    hub: Hub, tasks: list[str], judge: dict[str, str], repositories: set[str]
) -> None:
    fetch_for_evaluation(tasks, {"judge": judge})
    assert downloaded_repositories(hub) == repositories


def test_a_second_fetch_downloads_nothing(hub: Hub, language: list[str]) -> None:
    tasks, settings = ["xstest", "alpaca-eval", "href"], {"judge": JUDGE}
    fetch_for_evaluation(tasks, settings)
    hub.downloads.clear()
    fetch_for_evaluation(tasks, settings)
    assert hub.downloads == []


def test_what_cannot_be_had_is_named_and_the_rest_is_brought(
    hub: Hub, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    del hub.files["org/guard"], hub.files["datasets/allenai/href"]
    with pytest.raises(UserError, match=r"^not fetched: href, classifier org/guard\.") as caught:
        fetch_for_evaluation(["href", "xstest"], {"judge": JUDGE})
    assert "All else is here" in str(caught.value) and "run `hf auth login`" in str(caught.value)
    assert "org/judge" in downloaded_repositories(hub) and (tmp_path / "mirror/Paul/XSTest").is_dir()
    said = capsys.readouterr().err
    assert "href: The hub has no dataset allenai/href" in said and "No model 'org/guard' on the hub" in said


def test_a_dataset_that_cannot_be_read_keeps_nothing_else_from_coming(hub: Hub, tmp_path: Path) -> None:
    place = tmp_path / "mirror/google/IFEval/default/train.jsonl"
    place.parent.mkdir(parents=True)
    place.write_text('{"key": 1}\n')
    with pytest.raises(UserError, match=r"^not fetched: ifeval\."):
        fetch_for_evaluation(["ifeval", "xstest"], {"judge": JUDGE})
    assert "org/guard" in downloaded_repositories(hub)


def test_a_judge_that_is_not_named_is_said_not_to_be_there(hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    fetch_for_evaluation(["alpaca-eval"], {})
    assert "judge: none is named; with --set judge.model=" in capsys.readouterr().err


def test_an_unknown_setting_is_refused_before_anything_is_fetched(hub: Hub) -> None:
    with pytest.raises(UserError, match=r"judge\.modell"):
        fetch_for_evaluation(["xstest"], {"judge": {"modell": "org/judge"}})
    assert hub.downloads == []
