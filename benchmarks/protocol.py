"""The contract between a benchmark and its runners, with the standard library alone: peers import it too.

A runner is a program run as a process of its own. It takes the arguments of `parse_arguments`, trains for
`num_steps + 1` optimizer steps (the first warms up and is not timed) and writes a `Report` as JSON.
"""

import argparse
import json
import resource
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Step:
    """One optimizer step: `num_tokens` are the real ones, padding excluded; `num_targets` of them carry a loss.

    `cpu_seconds` is the processor time of all threads: well below `seconds` times threads, others used the machine.
    """

    num_tokens: int
    num_targets: int
    loss: float
    seconds: float
    cpu_seconds: float


@dataclass
class Report:
    """What a runner measured. `warmup` is the step before `steps`; memory is the process's peak, loading included."""

    runner: str
    settings: dict[str, Any]
    versions: dict[str, str]
    warmup: Step
    steps: list[Step]
    peak_rss_bytes: int = field(default_factory=lambda: peak_rss_bytes())

    @property
    def tokens_per_second(self) -> float:
        return sum(step.num_tokens for step in self.steps) / sum(step.seconds for step in self.steps)

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self) | {"tokens_per_second": self.tokens_per_second}, indent=2) + "\n")

    @classmethod
    def read(cls, path: Path) -> "Report":
        content = json.loads(path.read_text())
        del content["tokens_per_second"]
        content["warmup"] = Step(**content["warmup"])
        content["steps"] = [Step(**step) for step in content["steps"]]
        return cls(**content)


def peak_rss_bytes() -> int:
    """The largest resident set that this process has had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def settings_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """The arguments that say how, without those that say where: a report names no path."""
    return {name: value for name, value in vars(arguments).items() if not isinstance(value, Path)}


def parse_arguments(
    description: str | None, extend: Callable[[argparse.ArgumentParser], None] | None = None
) -> argparse.Namespace:
    """Parse what every runner takes, and what `extend` adds for this one."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="folder in Hugging Face format")
    parser.add_argument("--data", type=Path, required=True, help="JSONL of conversations, each with `messages`")
    parser.add_argument("--steps", type=int, required=True, help="timed optimizer steps; one more runs to warm up")
    parser.add_argument("--batch-size", type=int, required=True, help="conversations of one optimizer step, on average")
    parser.add_argument("--max-tokens", type=int, required=True, help="longest sequence, and budget of a packed row")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True, help="where to write the report")
    if extend:
        extend(parser)
    return parser.parse_args()
