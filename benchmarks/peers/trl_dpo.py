"""Preference tuning with TRL's DPOTrainer, timed, reference pass included. Runs in TRL's own environment, .peers/trl.

    PYTHONPATH=benchmarks .peers/trl/bin/python benchmarks/peers/trl_dpo.py --model … --data … --out …

fp32, `sigmoid_norm` with beta 5, log-probabilities of the reference precomputed, fused AdamW, SDPA, no gradient
checkpointing, the data's order. `--rows` is how many pairs a forward pass holds.
"""

import argparse
import json
import tempfile
from typing import Any

import accelerate
import datasets
import torch
import transformers
import trl
from torch.utils.data import SequentialSampler
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

from pair_protocol import PairReport, Timer
from protocol import parse_arguments, settings_of


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rows", type=int, default=1, help="pairs of one forward pass")
    parser.add_argument("--checkpointing", action="store_true", help="recompute activations in the backward pass")


class Meter(TrainerCallback):
    """Times each optimizer step from the end of the one before."""

    def __init__(self) -> None:
        self.step = Timer()

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.step.start()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.step.stop()
        self.step.start()


class TimedTrainer(trl.DPOTrainer):
    """DPOTrainer that times its reference pass and keeps what each step's micro-batches held."""

    reference = Timer()
    micro: list[tuple[float, int]] = []  # noqa: RUF012

    def _precompute_ref_logps(self, *arguments: Any, **keywords: Any) -> Any:
        self.reference.start()
        dataset = super()._precompute_ref_logps(*arguments, **keywords)
        self.reference.stop()
        return dataset

    def _get_train_sampler(self, *_: Any, **__: Any) -> Any:
        return SequentialSampler(self.train_dataset)

    def training_step(self, model: Any, inputs: dict[str, Any], *arguments: Any, **keywords: Any) -> torch.Tensor:
        loss = super().training_step(model, inputs, *arguments, **keywords)
        self.micro.append((loss.item(), int(inputs["attention_mask"].sum())))
        return loss


def main() -> None:
    options = parse_arguments(__doc__, add_options)
    torch.set_num_threads(options.threads)
    rows = [json.loads(line) for line in options.data.read_text().splitlines()]
    turns = {
        name: [[{"role": role, "content": row[name]}] for row in rows]
        for name, role in (("prompt", "user"), ("chosen", "assistant"), ("rejected", "assistant"))
    }
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32, attn_implementation="sdpa")
    meter = Meter()
    accumulated = max(1, options.batch_size // options.rows)
    with tempfile.TemporaryDirectory() as folder:
        TimedTrainer(
            model=model,
            args=trl.DPOConfig(
                output_dir=folder,
                loss_type="sigmoid_norm",
                beta=5.0,
                precompute_ref_log_probs=True,
                num_train_epochs=1,
                per_device_train_batch_size=options.rows,
                gradient_accumulation_steps=accumulated,
                max_length=options.max_tokens,
                learning_rate=5e-7,
                optim="adamw_torch_fused",
                bf16=False,
                gradient_checkpointing=options.checkpointing,
                dataloader_pin_memory=False,
                use_cpu=True,
                logging_strategy="no",
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                seed=0,
            ),
            train_dataset=datasets.Dataset.from_dict(turns),
            processing_class=tokenizer,
            callbacks=[meter],
        ).train()
    micro = TimedTrainer.micro
    steps = [micro[i : i + accumulated] for i in range(0, len(micro), accumulated)]
    losses, tokens = [sum(loss for loss, _ in step) for step in steps], [sum(n for _, n in step) for step in steps]
    versions = {module.__name__: module.__version__ for module in (trl, transformers, accelerate, torch)}
    reference = TimedTrainer.reference.laps[0]
    PairReport("trl", settings_of(options), versions, reference, meter.step.laps, losses, tokens).write(options.out)


if __name__ == "__main__":
    main()
