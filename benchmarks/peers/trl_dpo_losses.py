"""Preference losses of TRL's trainers on given token ids. Runs in TRL's own environment, .peers/trl.

    .peers/trl/bin/python benchmarks/peers/trl_dpo_losses.py JOB.json

The job names folders of a policy and a reference, pairs of token ids, and variants: for each a trainer (`dpo`, `cpo`,
`kto`, `orpo`) and its settings. The trainers are built as for training; their own collators and loss functions then get
the ids. Writes OUT/results.json, losses and what the trainers would log, and OUT/VARIANT.safetensors, all gradients.
"""

import gc
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import datasets
import torch
import trl
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl.experimental.cpo import CPOConfig, CPOTrainer
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

TRAINERS: dict[str, tuple[Any, Any]] = {
    "dpo": (trl.DPOTrainer, trl.DPOConfig),
    "kto": (trl.KTOTrainer, trl.KTOConfig),
    "cpo": (CPOTrainer, CPOConfig),
    "orpo": (ORPOTrainer, ORPOConfig),
}
IGNORED = -100


def new_trainer(kind: str, settings: dict[str, Any], job: dict[str, Any], folder: str) -> Any:
    """A trainer on the CPU. Its data set is a formality: losses are asked for given ids."""
    # CPO and ORPO take their SFT term by torch's cross-entropy, whose gradient in fp32 is off by 1e-4.
    dtype = torch.float64 if kind in ("cpo", "orpo") else torch.float32
    trainer, config = TRAINERS[kind]
    settings = dict(settings)
    loss_type = settings.pop("loss_type", None)
    if loss_type is not None:
        settings["loss_type"] = loss_type
    arguments = config(
        output_dir=folder,
        per_device_train_batch_size=2 * len(job["pairs"]),
        max_length=100_000,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        disable_tqdm=True,
        **settings,
    )
    tokenizer = AutoTokenizer.from_pretrained(job["policy"])
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    sides = {"chosen": ["yes", "yes"], "rejected": ["no", "no"]}
    if kind == "kto":
        sides = {"completion": ["yes", "no"], "label": [True, False]}
    rows = datasets.Dataset.from_dict({"prompt": ["a", "b"], **sides})
    reference = {"ref_model": load(job["reference"], dtype)} if kind in ("dpo", "kto") else {}
    return trainer(
        model=load(job["policy"], dtype), args=arguments, train_dataset=rows, processing_class=tokenizer, **reference
    )


def load(folder: str, dtype: torch.dtype) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="sdpa")


def batch_for(kind: str, trainer: Any, pairs: list[dict[str, list[int]]]) -> dict[str, Any]:
    """The batch that the trainer's collator makes of these ids."""
    if kind == "dpo":
        rows = [{f"{part}_ids": pair[part] for part in ("prompt", "chosen", "rejected")} for pair in pairs]
        return trainer.data_collator(rows)
    if kind == "kto":
        # Chosen answers first, then the rejected: TRL's rotation by one row then gives each prompt others' answers.
        rows = [(pair, side) for side in ("chosen", "rejected") for pair in pairs]
        answers = [pair[side] for pair, side in rows]
        mismatched = [answers[-1], *answers[:-1]]
        return trainer.data_collator(
            [
                {
                    "prompt_ids": pair["prompt"],
                    "completion_ids": pair[side],
                    "KL_completion_ids": other,
                    "label": side == "chosen",
                }
                for (pair, side), other in zip(rows, mismatched, strict=True)
            ]
        )
    features = [
        {
            "prompt_input_ids": pair["prompt"],
            "prompt_attention_mask": [1] * len(pair["prompt"]),
            **{f"{side}_input_ids": pair["prompt"] + pair[side] for side in ("chosen", "rejected")},
            **{
                f"{side}_attention_mask": [1] * (len(pair["prompt"]) + len(pair[side]))
                for side in ("chosen", "rejected")
            },
            **{f"{side}_labels": [IGNORED] * len(pair["prompt"]) + pair[side] for side in ("chosen", "rejected")},
        }
        for pair in pairs
    ]
    return trainer.data_collator(features)


def logged(trainer: Any) -> dict[str, float]:
    """What the trainer has collected for its log, by TRL's names."""
    store = getattr(trainer, "_metrics", None) or trainer._stored_metrics
    return {name: float(values[-1] if isinstance(values, list) else values) for name, values in store["train"].items()}


def measure(name: str, variant: dict[str, Any], job: dict[str, Any], out: Path) -> dict[str, Any]:
    kind = variant["trainer"]
    with tempfile.TemporaryDirectory() as folder:
        trainer = new_trainer(kind, variant["settings"], job, folder)
        trainer.model.train()
        loss = trainer.compute_loss(trainer.model, batch_for(kind, trainer, job["pairs"]))
        loss.backward()
    gradients = {key: value.grad.float() for key, value in trainer.model.named_parameters() if value.grad is not None}
    save_file(gradients, out / f"{name}.safetensors")
    return {"loss": loss.item(), "logged": logged(trainer)}


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    out = Path(job["out"])
    torch.set_num_threads(job["threads"])
    results: dict[str, Any] = {"trl": trl.__version__}
    for name, variant in job["variants"].items():
        results[name] = measure(name, variant, job, out)
        # Trainers hold themselves in cycles, with their models.
        gc.collect()
        print(name, results[name]["loss"], flush=True)
    (out / "results.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main()
