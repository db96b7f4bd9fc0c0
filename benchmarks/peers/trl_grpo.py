"""Steps of reinforcement learning with TRL's GRPOTrainer, timed. Runs in TRL's own environment, .peers/trl.

    PYTHONPATH=benchmarks .peers/trl/bin/python benchmarks/peers/trl_grpo.py --model … --data … --out …

fp32 AdamW, no KL, one pass over a step's answers, generation with transformers in the same process. `--rows` and
`--attention` choose TRL's layout; the defaults are what `rlvr_step.py` compares with.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import accelerate
import datasets
import torch
import transformers
import trl
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

from protocol import Report, Step, parse_arguments, settings_of


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--samples", type=int, default=8, help="answers to each prompt")
    parser.add_argument("--rows", type=int, default=8, help="answers of one forward pass")
    parser.add_argument("--attention", choices=["sdpa", "eager"], default="sdpa")


class Meter(TrainerCallback):
    """Collects one `Step` per optimizer step; a step's time runs from the end of the one before."""

    def __init__(self, num_tokens: int) -> None:
        self.steps: list[Step] = []
        self._num_tokens = num_tokens
        self._began, self._cpu_began = time.perf_counter(), time.process_time()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        now, cpu_now = time.perf_counter(), time.process_time()
        self.steps.append(Step(self._num_tokens, self._num_tokens, 0.0, now - self._began, cpu_now - self._cpu_began))
        self._began, self._cpu_began = now, cpu_now


def parity(completion_ids: list[list[int]], **_: Any) -> list[float]:
    return [float(sum(ids) % 2) for ids in completion_ids]


def trainer_config(options: argparse.Namespace) -> trl.GRPOConfig:
    answers = options.batch_size * options.samples
    return trl.GRPOConfig(
        output_dir=str(options.out.with_suffix(".trl")),
        max_steps=options.steps + 1,
        per_device_train_batch_size=options.rows,
        gradient_accumulation_steps=answers // options.rows,
        num_generations=options.samples,
        max_completion_length=options.max_tokens,
        generation_kwargs={"min_new_tokens": options.max_tokens},
        temperature=1.0,
        beta=0.0,
        loss_type="grpo",
        optim="adamw_torch_fused",
        learning_rate=1e-6,
        lr_scheduler_type="constant",
        max_grad_norm=1.0,
        bf16=False,
        gradient_checkpointing=False,
        dataloader_pin_memory=False,
        use_cpu=True,
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        shuffle_dataset=False,
        seed=0,
    )


def main() -> None:
    options = parse_arguments(__doc__, add_options)
    torch.set_num_threads(options.threads)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(
        options.model, dtype=torch.float32, attn_implementation=options.attention
    )
    prompts = [{"prompt": json.loads(line)["messages"][:1]} for line in Path(options.data).read_text().splitlines()]
    meter = Meter(options.batch_size * options.samples * options.max_tokens)
    trainer = trl.GRPOTrainer(
        model=model,
        reward_funcs=parity,
        args=trainer_config(options),
        train_dataset=datasets.Dataset.from_list(prompts),
        processing_class=tokenizer,
        callbacks=[meter],
    )
    trainer.train()
    warmup, *steps = meter.steps
    versions = {module.__name__: module.__version__ for module in (trl, transformers, accelerate, torch)}
    Report("trl", settings_of(options), versions, warmup, steps).write(options.out)


if __name__ == "__main__":
    main()
