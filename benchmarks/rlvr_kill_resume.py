"""Claim: an RLVR run killed anywhere ends with the same bits as one that was left alone, on and off policy.

    .venv/bin/python benchmarks/rlvr_kill_resume.py --kills 20 --staleness 0 1

A tiny model learns by PPO, whose checkpoint holds two models, from problems that are verified in this process and in
worker processes. It trains once without interruption, then again in processes that are killed (SIGKILL) at random
moments, each taken up by the next. Compared: weights, all rollouts with verdicts and advantages, metrics (timings left
out). What a run was doing when it was killed is told.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch

from cameleer.core.artifact import METRICS
from cameleer.core.digest import read_digest
from cameleer.core.log import read_metrics
from cameleer.core.problems import PROBLEMS
from cameleer.core.stage import StageRun
from cameleer.core.types import Message, Problem
from cameleer.model.load import save_model
from cameleer.model.tiny import tiny_model, tiny_tokenizer
from cameleer.rlvr import train
from cameleer.rlvr.config import HeldOut, RewardConfig, RLVRConfig
from cameleer.rlvr.metrics import TIMINGS
from cameleer.rlvr.names import Objective, ObjectiveConfig
from cameleer.rlvr.rollouts import FOLDER, RolloutSource
from cameleer.train.learner import Learner

TARGETS: dict[str, Any] = {
    "constraints": {"constraints": [{"id": "word_count", "kwargs": {"relation": "at least", "count": 3}}]},
    "math": "4",
}


def write_inputs(folder: Path) -> None:
    save_model(tiny_model(), tiny_tokenizer(), folder / "model")
    rows = [
        Problem(str(number), verifier, "", (Message("user", f"Say {number}."),), verifier, target, "gold")
        for number in range(24)
        for verifier, target in TARGETS.items()
    ]
    (folder / "problems").mkdir()
    PROBLEMS.write(folder / "problems", rows)


def config(staleness: int, steps: int) -> RLVRConfig:
    return RLVRConfig(
        objective=ObjectiveConfig(objective=Objective.PPO),
        value_model=None,
        reward=RewardConfig(missing_end=None),
        learning_rate=3e-3,
        num_steps=steps,
        prompts_per_step=16,
        samples_per_prompt=2,
        num_passes=2,
        num_mini_batches=2,
        max_new_tokens=24,
        max_staleness=staleness,
        tokens_per_batch=512,
        held_out=HeldOut(num_problems=8, every=5),
        checkpoint_minutes=0.01,
    )


def run_here(folder: Path, staleness: int, steps: int) -> None:
    """What a child process does: train, and tell beside the run's folder what it is doing."""
    phase = folder.with_suffix(".phase")

    def told(owner: Any, name: str, word: str) -> None:
        function: Callable[..., Any] = getattr(owner, name)

        def telling(*arguments: Any, **keywords: Any) -> Any:
            phase.write_text(word)
            return function(*arguments, **keywords)

        setattr(owner, name, telling)

    phase.write_text("starting")
    told(RolloutSource, "sample", "sampling")
    told(RolloutSource, "_rollout", "verifying")
    told(train, "learn", "learning")
    told(train, "measure", "measuring")
    told(Learner, "checkpoint_if_due", "saving")
    told(Learner, "export", "exporting")
    folder.mkdir(parents=True, exist_ok=True)
    inputs = {"model": folder.parent / "model", "reference": folder.parent / "model"}
    inputs["problems"] = folder.parent / "problems"
    train.train(config(staleness, steps), StageRun("rlvr", folder, inputs, "model", seed=7))
    (folder / "done").touch()


def start(folder: Path, staleness: int, steps: int) -> subprocess.Popen[bytes]:
    words = ["--child", str(folder), "--staleness", str(staleness), "--steps", str(steps)]
    return subprocess.Popen([sys.executable, __file__, *words], stderr=subprocess.PIPE, start_new_session=True)


def finish(process: subprocess.Popen[bytes]) -> None:
    _, errors = process.communicate()
    if process.returncode != 0:
        sys.exit(f"a run failed with status {process.returncode}:\n{errors.decode()}")


def comparable(folder: Path) -> dict[str, object]:
    lines = read_metrics(folder / METRICS)
    metrics = [{key: value for key, value in line.items() if not key.endswith(TIMINGS)} for line in lines]
    rollouts = {path.name: read_digest(path) for path in sorted((folder / FOLDER).glob("*.parquet"))}
    weights = {path.name: read_digest(path) for path in sorted(folder.glob("*.safetensors"))}
    assert weights and rollouts and metrics
    return {"weights": weights, "rollouts": rollouts, "metrics": metrics}


def check(whole: Path, killed: Path) -> None:
    for file in sorted((whole / FOLDER).glob("*.parquet")):
        rows, others = (pq.read_table(folder / FOLDER / file.name).to_pylist() for folder in (whole, killed))
        for number, (row, other) in enumerate(zip(rows, others, strict=True)):
            for name in row:
                if row[name] != other[name]:
                    sys.exit(f"{file.name}, row {number}, {name}: {row[name]} became {other[name]}")
    one, other = comparable(whole), comparable(killed)
    for part in one:
        if one[part] != other[part]:
            sys.exit(f"the killed run's {part} differ:\n{one[part]}\n{other[part]}")


def trial(folder: Path, staleness: int, options: argparse.Namespace) -> dict[str, Any]:
    write_inputs(folder)
    whole, killed = folder / "whole", folder / "killed"
    began = time.monotonic()
    finish(start(whole, staleness, options.steps))
    duration = time.monotonic() - began
    moments: Counter[str] = Counter()
    runs = 0
    while moments.total() < options.kills:
        if (killed / "done").exists():
            # It came to its end: compare, start it over and go on collecting kills.
            check(whole, killed)
            subprocess.run(["rm", "-r", str(killed)], check=True)
            runs += 1
        process = start(killed, staleness, options.steps)
        time.sleep(random.uniform(0.3, 0.7) * duration)
        if process.poll() is not None:
            finish(process)
            continue
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        moments[killed.with_suffix(".phase").read_text() or "between two"] += 1
    if not (killed / "done").exists():
        finish(start(killed, staleness, options.steps))
    check(whole, killed)
    return {"staleness": staleness, "kills": dict(moments), "runs": runs + 1, "equal": True}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--staleness", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.child:
        return run_here(options.child, options.staleness[0], options.steps)
    random.seed(0)
    for staleness in options.staleness:
        with tempfile.TemporaryDirectory() as name:
            print(json.dumps(trial(Path(name), staleness, options)), flush=True)


if __name__ == "__main__":
    main()
