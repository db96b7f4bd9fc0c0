"""Losses, gradients and clipped shares of TRL's GRPOTrainer on stored rollouts. Runs in TRL's own environment.

    .peers/trl/bin/python benchmarks/peers/trl_grpo_loss.py QUESTION.json ANSWER_FOLDER

The question is what `rlvr_vs_trl_losses.py` writes. For each variant, ANSWER_FOLDER/NAME.safetensors holds the scalars
`loss`, `entropy` and, where TRL has it over tokens, the share `clipped`, and the gradients of some weights. The loss is
the trainer's own `_compute_loss`: one batch, prompts padded left and completions right, as its data collation does.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import datasets
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer


def padded(rows: list[list[float]], side: str, dtype: torch.dtype) -> torch.Tensor:
    longest = max(map(len, rows))
    filled = [[0] * (longest - len(row)) + row if side == "left" else row + [0] * (longest - len(row)) for row in rows]
    return torch.tensor(filled, dtype=dtype)


def inputs_of(question: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The batch as `_generate_and_score_completions` would have left it."""
    answers = question["answers"]
    prompts = [question["prompts"][answer["prompt"]] for answer in answers]
    ids = [answer["ids"] for answer in answers]

    def column(name: str) -> torch.Tensor:
        return padded([answer[name] for answer in answers], "right", torch.float32)

    return {
        "prompt_ids": padded(prompts, "left", torch.long),
        "prompt_mask": padded([[1] * len(row) for row in prompts], "left", torch.long),
        "completion_ids": padded(ids, "right", torch.long),
        "completion_mask": padded([[1] * len(row) for row in ids], "right", torch.long),
        "advantages": torch.tensor([answer["advantage"] for answer in answers]),
        "old_per_token_logps": column("proximal"),
        "ref_per_token_logps": column("reference"),
        "importance_sampling_ratio": torch.exp(column("proximal") - column("behaviour")).clamp(max=question["limit"]),
        "num_items_in_batch": torch.tensor(float(sum(map(len, ids)))),
    }


def trainer_of(question: dict[str, Any], settings: dict[str, Any], model: Any, folder: str) -> GRPOTrainer:
    tokenizer = AutoTokenizer.from_pretrained(question["model"])
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    arguments = GRPOConfig(
        output_dir=folder,
        temperature=question["temperature"],
        max_completion_length=question["max_new_tokens"],
        per_device_train_batch_size=2,
        num_generations=2,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        **settings,
    )
    rows = datasets.Dataset.from_dict({"prompt": ["none"] * 2})
    return GRPOTrainer(
        model=model,
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=arguments,
        train_dataset=rows,
        processing_class=tokenizer,
    )


def measure(question: dict[str, Any], settings: dict[str, Any], corrected: bool) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(question["model"], dtype=torch.float32, attn_implementation="sdpa")
    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_of(question, settings, model, folder)
    # The correction belongs to rollouts from vLLM; its arithmetic in the loss needs none.
    trainer.use_vllm = corrected
    trainer.current_gradient_accumulation_steps = 1
    trainer.args.steps_per_generation = 1
    trainer.model.train()
    inputs = inputs_of(question)
    loss = trainer._compute_loss(trainer.model, inputs)
    loss.backward()
    metrics = trainer._metrics["train"]
    weights = dict(trainer.model.named_parameters())
    gradients = {name: weights[name].grad.clone() for name in question["weights"]}
    scalars = {"loss": loss.item(), "entropy": metrics["entropy"][-1]}
    # With a ratio of whole answers this mean is over answers; CISPO's counts only tokens with a positive advantage.
    if trainer.importance_sampling_level == "token" and "clip_ratio/region_mean" in metrics:
        scalars["clip_fraction"] = metrics["clip_ratio/region_mean"][-1]
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in scalars.items()} | gradients


def main() -> None:
    question, folder = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    torch.set_num_threads(question["threads"])
    for variant in question["variants"]:
        corrected = "correction" in variant["ours"]
        save_file(measure(question, variant["trl"], corrected), folder / f"{variant['name']}.safetensors")


if __name__ == "__main__":
    main()
