"""The life of a server process. A script stands in for vLLM's interpreter; vLLM itself runs in test_generators.py."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cameleer.core.errors import UserError
from cameleer.model import server_guard, vllm_server
from cameleer.model.generate import Sampling
from cameleer.model.replies import FailureKind
from cameleer.model.server_generate import IncompleteError
from cameleer.model.vllm_server import PYTHON_ENV, VllmServer, find_python

SERVER = """
import json, os, subprocess, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
arguments = dict(zip(sys.argv[3::2], sys.argv[4::2]))
helper = subprocess.Popen(["sleep", "600"])
print("helper", helper.pid, flush=True)

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    num_asked = 0

    def do_GET(self):
        models = [{"id": arguments["--served-model-name"], "max_model_len": 64}]
        self.say(json.dumps({"data": models}).encode())

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        Handler.num_asked += 1
        if Handler.num_asked == 3:
            print("MemoryError: the engine died", flush=True)
            os._exit(3)
        choice = {"token_ids": [7], "logprobs": {"token_logprobs": [0.0]}, "finish_reason": "length"}
        self.say(b"data: " + json.dumps({"choices": [choice]}).encode() + b"\\n\\n")

    def say(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass

HTTPServer((arguments["--host"], int(arguments["--port"])), Handler).serve_forever()
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "config.json").write_text("{}")
    return tmp_path / "tiny"


def interpreter(folder: Path, program: str) -> Path:
    """A program that runs `program` whatever it is told to."""
    path = folder / "python"
    path.write_text(f"#!{sys.executable}\n{program}")
    path.chmod(0o755)
    return path


def server(model: Path, program: str = SERVER, **settings: object) -> VllmServer:
    python = interpreter(model.parent, program)
    return VllmServer(model, model.parent / "logs" / "log", python, **({"start_seconds": 60.0} | settings))


def helper_of(log: Path) -> int:
    return int(log.read_text().split()[1])


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(ended: int) -> None:
    until = time.monotonic() + 15
    while is_running(ended):
        assert time.monotonic() < until, f"process {ended} lives on"
        time.sleep(0.05)


def test_it_serves_on_a_port_of_its_own_and_ends_with_all_its_processes(model: Path) -> None:
    with server(model) as one, server(model, SERVER) as other:
        assert one.base_url != other.base_url and one.context_length == 64 and one.explain_end() == ""
        assert one.endpoint().model == "tiny"
        helper = helper_of(other.log)
        assert is_running(helper)
    wait_until(helper)
    assert one.explain_end() != ""


def test_a_server_that_ends_before_it_answers_is_shown_with_its_first_error_and_last_words(model: Path) -> None:
    program = "print('WARNING this may cause OSError: x')\nprint('ValueError: no such architecture')\n"
    program += "for n in range(30): print('line', n)\nraise SystemExit(4)"
    with pytest.raises(UserError, match="could not serve") as caught, server(model, program):
        pass
    assert "status 4" in str(caught.value) and "line 29" in str(caught.value) and "line 3\n" not in str(caught.value)
    assert "no such architecture" in str(caught.value) and "OSError" not in str(caught.value)


def test_a_start_has_a_deadline_and_leaves_nothing(model: Path) -> None:
    program = "import os, time\nprint('helper', os.getpid(), flush=True)\ntime.sleep(600)"
    vllm = server(model, program, start_seconds=3.0)
    with pytest.raises(UserError, match="within 3 s"), vllm:
        pass
    wait_until(helper_of(vllm.log))


def test_a_taken_port_is_named_before_the_start(model: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port}"), server(model, port=port):
            pass


def test_a_folder_without_a_model_is_named_before_the_start(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"config\.json"), VllmServer(tmp_path, tmp_path / "log", Path(sys.executable)):
        pass


def test_an_interpreter_without_vllm_says_so(model: Path) -> None:
    with (
        pytest.raises(UserError, match="No module named 'vllm"),
        VllmServer(model, model.parent / "log", Path(sys.executable), start_seconds=60),
    ):
        pass


def test_where_vllm_is_looked_for(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PYTHON_ENV, raising=False)
    monkeypatch.setenv("PATH", str(model))
    monkeypatch.setattr(vllm_server.sys, "executable", str(model / "python"))
    with pytest.raises(UserError, match="not installed") as caught:
        find_python()
    assert PYTHON_ENV in str(caught.value)
    command = model / "vllm"
    command.write_text("")
    command.chmod(0o755)
    assert find_python() == model / "python"
    monkeypatch.setenv(PYTHON_ENV, "/nowhere/python")
    with pytest.raises(UserError, match="/nowhere/python is no program"):
        find_python()
    monkeypatch.setenv(PYTHON_ENV, "/bin/sh")
    assert find_python() == Path("/bin/sh")


def test_a_server_that_dies_half_way_is_named_with_its_last_words(model: Path) -> None:
    """Its third request kills it: the proof and one prompt are answered."""
    kept: list[int] = []
    with server(model) as vllm:
        generator = vllm.generator(())
        generator.endpoint.max_concurrency, generator.endpoint.backoff_seconds = 1, 0.3
        with pytest.raises(IncompleteError) as caught:
            for index, _ in generator.stream([[1], [2], [3]], Sampling(1)):
                kept.append(index)
        helper = helper_of(vllm.log)
    assert kept == [0] and {failed.kind for failed in caught.value.failures.values()} == {FailureKind.DOWN}
    assert "status 3" in str(caught.value) and "MemoryError: the engine died" in str(caught.value)
    wait_until(helper)


def test_the_server_ends_when_its_parent_is_killed(model: Path) -> None:
    python = interpreter(model.parent, SERVER)
    log = model.parent / "log"
    program = (
        "import time\nfrom pathlib import Path\nfrom cameleer.model.vllm_server import VllmServer\n"
        f"with VllmServer(Path({str(model)!r}), Path({str(log)!r}), Path({str(python)!r})):\n"
        "    print('up', flush=True)\n    time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert parent.stdout is not None and parent.stdout.readline() == b"up\n"
    helper = helper_of(log)
    assert is_running(helper)
    parent.kill()
    parent.wait(30)
    wait_until(helper)


def test_what_does_not_end_kindly_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_guard, "GRACE_SECONDS", 0.5)
    program = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint(flush=True)\ntime.sleep(600)"
    child = subprocess.Popen([sys.executable, "-c", program], start_new_session=True, stdout=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline() == b"\n"
    server_guard.end_group(child)
    assert child.returncode == -signal.SIGKILL


def test_the_guard_gives_the_command_s_status() -> None:
    guard = [sys.executable, "-I", "-S", server_guard.__file__, str(os.getpid())]
    assert subprocess.run([*guard, "sh", "-c", "exit 7"]).returncode == 7
    assert subprocess.run([*guard, "sh", "-c", "kill -9 $$"]).returncode == 128 + 9
