"""Claim: RL alone takes a tiny model from at most 10% to at least 95% on held-out problems, by GRPO and by PPO.

    .venv/bin/python benchmarks/rlvr_tiny.py [--seeds 0 1 2] [--modes grpo ppo]

`tiny:llama`, two layers of random weights, is to name the last of four to six letters out of sixteen (`last-letter`).
It is fine-tuned first on answers that are letters drawn at random: it has the form of an answer and knows nothing of
which. Held out: 200 lists of `last-letter-dev`, which shares none with training, answered greedily. `best` is chosen by
them, `last` is not. Times are of the RL stage, measurements included.
"""

import argparse
import json
import random
import tempfile
import time
from pathlib import Path

import torch

from cameleer.core.log import read_metrics
from cameleer.core.mixture import MIXTURE
from cameleer.core.problems import PROBLEMS
from cameleer.core.stage import StageRun
from cameleer.core.training import AdamWConfig
from cameleer.core.types import Example, Message
from cameleer.model.source import resolve_model
from cameleer.rlvr import train as rlvr
from cameleer.rlvr.config import HeldOut, RewardConfig, RLVRConfig
from cameleer.rlvr.names import Objective, ObjectiveConfig
from cameleer.sft import train as sft
from cameleer.sft.config import SFTConfig
from cameleer.tasks import find_task
from cameleer.tasks.last_letter import LETTERS

NUM_EXAMPLES, NUM_PROBLEMS, NUM_HELD_OUT = 4_000, 20_000, 200


def write_data(folder: Path, seed: int) -> None:
    """Conversations with answers drawn at random, and problems."""
    draw = random.Random(seed)
    problems = find_task("last-letter").problems(NUM_PROBLEMS, seed)
    examples = [
        Example(problem.id, "letters", (*problem.messages, Message("assistant", draw.choice(LETTERS))))
        for problem in problems[:NUM_EXAMPLES]
    ]
    for name in ("mixture", "problems"):
        (folder / name).mkdir(parents=True)
    MIXTURE.write(folder / "mixture", examples)
    PROBLEMS.write(folder / "problems", problems)


def run_sft(folder: Path, seed: int) -> Path:
    """The model with the form of an answer and nothing else."""
    out = folder / "sft"
    out.mkdir()
    config = SFTConfig(learning_rate=3e-3, num_epochs=1, batch_size=32, max_tokens=128, max_grad_norm=1.0)
    inputs = {"model": resolve_model(f"tiny:llama@{seed}"), "mixture": folder / "mixture"}
    sft.run(config, StageRun("sft", out, inputs, "model", seed))
    return out


def config(mode: str, steps: int) -> RLVRConfig:
    """The KL penalty keeps letters in play that early updates, which are mostly noise, would have the model forget."""
    ppo = mode == "ppo"
    return RLVRConfig(
        objective=ObjectiveConfig(objective=Objective.PPO if ppo else Objective.GRPO, kl_coefficient=0.1),
        value_model=None,
        reward=RewardConfig(correct=1.0, missing_end=0.0),
        learning_rate=1.5e-3,
        adamw=AdamWConfig(eps=1e-8),
        num_steps=steps,
        prompts_per_step=128 if ppo else 64,
        samples_per_prompt=2 if ppo else 8,
        num_passes=2,
        max_new_tokens=4,
        max_staleness=0,
        held_out=HeldOut(tasks=("last-letter-dev",), num_items=NUM_HELD_OUT, every=20),
        checkpoint_minutes=60,
    )


def run_rlvr(folder: Path, start: Path, mode: str, seed: int, steps: int) -> dict[str, object]:
    out = folder / mode
    out.mkdir()
    began = time.monotonic()
    inputs = {"model": start, "reference": start, "problems": folder / "problems"}
    summary = rlvr.run(config(mode, steps), StageRun("rlvr", out, inputs, "model", seed)).summary
    curve = {line["step"]: line["held_out"] for line in read_metrics(out / "metrics.jsonl") if "held_out" in line}
    reached = next((step for step, accuracy in curve.items() if accuracy >= 0.95), None)
    return {
        "mode": mode,
        "seed": seed,
        "start": summary["held_out_start"],
        "best": summary["held_out"],
        "last": curve[steps],
        "step_of_95_percent": reached,
        "seconds": round(time.monotonic() - began, 1),
        "alarms": summary["alarms"],
        "curve": curve,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--modes", nargs="+", default=["grpo", "ppo"])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for seed in arguments.seeds:
        with tempfile.TemporaryDirectory() as name:
            write_data(Path(name), seed)
            start = run_sft(Path(name), seed)
            for mode in arguments.modes:
                print(json.dumps(run_rlvr(Path(name), start, mode, seed, arguments.steps)), flush=True)


if __name__ == "__main__":
    main()
