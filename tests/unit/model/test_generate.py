"""Sampling on tiny models: against transformers' own `generate`, fresh forward passes and the exact distribution."""

import random
from collections.abc import Sequence
from typing import Any, cast, get_args

import pytest
import torch
from packed_operations import PackedOperations, needs_onednn
from torch import Tensor
from transformers import PreTrainedModel

from cameleer.core.errors import UserError
from cameleer.core.training import LoraConfig
from cameleer.model import products
from cameleer.model.generate import Completion, FinishReason, LocalGenerator, Sampling, generate
from cameleer.model.lora import add_lora, merge_lora
from cameleer.model.tiny import TinyKind, tiny_model

KINDS = get_args(TinyKind)
VOCABULARY = 97
NO_STOP: tuple[int, ...] = ()


def small_model(
    kind: TinyKind = "llama", vocab_size: int = VOCABULARY, dtype: torch.dtype = torch.float32
) -> PreTrainedModel:
    return tiny_model(kind, vocab_size, seed=1, dtype=dtype)


def plain_model(kind: TinyKind = "llama", dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """The same weights under transformers' own attention."""
    return tiny_model(kind, VOCABULARY, seed=1, dtype=dtype, attention="sdpa")


def uneven_prompts(count: int = 12) -> list[list[int]]:
    """Lengths from 1 to 30, beyond gemma's window of 8, in no order."""
    draw = random.Random(0)
    return [[draw.randrange(VOCABULARY) for _ in range(draw.randrange(1, 31))] for _ in range(count)]


def fresh_logprobs(model: PreTrainedModel, prompt: list[int], completion: Completion, temperature: float) -> Tensor:
    """Log-probabilities of a completion by one forward over prompt and completion, without a cache."""
    ids = torch.tensor([[*prompt, *completion.ids]])
    with torch.no_grad():
        logits = model(ids).logits[0, len(prompt) - 1 : -1]
    logprobs = torch.log_softmax(logits / temperature, dim=-1)
    return logprobs.gather(1, torch.tensor(completion.ids)[:, None])[:, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_batched_equals_one_by_one(kind: TinyKind) -> None:
    """In fp64, where the order of a sum cannot turn an argmax; rows stop at different steps and leave the batch."""
    model, prompts, sampling = small_model(kind, dtype=torch.float64), uneven_prompts(), Sampling(max_new_tokens=24)
    stop_ids = tuple(range(0, VOCABULARY, 12))
    batched = generate(LocalGenerator(model, stop_ids, batch_size=5), prompts, sampling)
    alone = LocalGenerator(model, stop_ids, batch_size=1)
    for prompt, completion in zip(prompts, batched, strict=True):
        [expected] = generate(alone, [prompt], sampling)
        assert completion.ids == expected.ids and completion.finish_reason == expected.finish_reason
        assert completion.logprobs == pytest.approx(expected.logprobs, abs=1e-9)
    assert {completion.finish_reason for completion in batched} == {FinishReason.STOP, FinishReason.LENGTH}


@needs_onednn
@pytest.mark.parametrize("kind", KINDS)
def test_packed_weights_give_the_logprobs_of_a_fresh_forward_pass(
    kind: TinyKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "FEWEST_WEIGHTS", 1)
    model, prompts = small_model(kind), uneven_prompts()
    with PackedOperations() as operations:
        completions = generate(LocalGenerator(model, NO_STOP, batch_size=8), prompts, Sampling(16, 1.0))
    weights = {id(module.weight) for module in model.modules() if isinstance(module, torch.nn.Linear)}
    assert operations.packed == len(weights)
    for prompt, completion in zip(prompts, completions, strict=True):
        expected = fresh_logprobs(plain_model(kind), prompt, completion, 1.0)
        torch.testing.assert_close(torch.tensor(completion.logprobs), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_ids_equal_those_of_transformers(kind: TinyKind) -> None:
    model = small_model(kind)
    for prompt in uneven_prompts(4):
        [completion] = generate(LocalGenerator(model, NO_STOP), [prompt], Sampling(max_new_tokens=16))
        ids = torch.tensor([prompt])
        greedy = {"do_sample": False, "max_new_tokens": 16, "eos_token_id": None}
        reference = cast(Any, plain_model(kind)).generate(ids, attention_mask=torch.ones_like(ids), **greedy)
        assert list(completion.ids) == reference[0, len(prompt) :].tolist()


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.3])
@pytest.mark.parametrize("kind", KINDS)
def test_logprobs_equal_a_fresh_forward(kind: TinyKind, temperature: float) -> None:
    """Under the distribution that was sampled from: softmax of logits / temperature; of temperature 1 for greedy."""
    model, prompts = small_model(kind), uneven_prompts()
    completions = generate(LocalGenerator(model, NO_STOP, batch_size=7), prompts, Sampling(12, temperature))
    for prompt, completion in zip(prompts, completions, strict=True):
        expected = fresh_logprobs(plain_model(kind), prompt, completion, temperature or 1.0)
        assert (torch.tensor(completion.logprobs) - expected).abs().max().item() <= 1e-5


def test_the_stop_id_ends_a_completion_and_belongs_to_it() -> None:
    model, prompt = small_model(), [3, 1, 4]
    [free] = generate(LocalGenerator(model, NO_STOP), [prompt], Sampling(max_new_tokens=20))
    assert free.finish_reason is FinishReason.LENGTH and len(free.ids) == len(free.logprobs) == 20
    stop = free.ids[7]
    [stopped] = generate(LocalGenerator(model, [stop]), [prompt], Sampling(max_new_tokens=20))
    assert stopped.ids == free.ids[: free.ids.index(stop) + 1] and len(stopped.logprobs) == len(stopped.ids)
    assert stopped.finish_reason is FinishReason.STOP


def test_a_stop_id_as_the_last_allowed_token_counts_as_stop() -> None:
    model, prompt = small_model(), [3, 1, 4]
    [free] = generate(LocalGenerator(model, NO_STOP), [prompt], Sampling(max_new_tokens=1))
    [stopped] = generate(LocalGenerator(model, free.ids), [prompt], Sampling(max_new_tokens=1))
    assert (free.finish_reason, stopped.finish_reason) == (FinishReason.LENGTH, FinishReason.STOP)


def test_stream_gives_every_prompt_once_and_short_answers_first() -> None:
    model, prompts = small_model(), uneven_prompts(20)
    generator = LocalGenerator(model, range(0, VOCABULARY, 7), batch_size=20)
    streamed = list(generator.stream(prompts, Sampling(max_new_tokens=40)))
    lengths = [len(completion.ids) for _, completion in streamed]
    assert sorted(index for index, _ in streamed) == list(range(20))
    assert lengths == sorted(lengths) and lengths[0] < lengths[-1]
    assert dict(streamed) == dict(enumerate(generate(generator, prompts, Sampling(max_new_tokens=40))))


def test_tokens_are_those_of_the_completion() -> None:
    generator, prompt, sampling = LocalGenerator(small_model(), [5]), [8, 9], Sampling(30, temperature=1.0, seed=2)
    [completion] = generate(generator, [prompt], sampling)
    assert tuple(generator.tokens(prompt, sampling)) == completion.ids


def test_samples_follow_the_softmax() -> None:
    """χ² of 4,000 first tokens against softmax(z / T): 0.999 quantile of χ² with k − 1 degrees, by Wilson–Hilferty."""
    model, prompt, temperature, count = small_model(vocab_size=12), [1, 2, 3], 1.5, 4000
    plain = tiny_model("llama", 12, seed=1, attention="sdpa")
    generator = LocalGenerator(model, NO_STOP, batch_size=1000)
    completions = generate(generator, [prompt] * count, Sampling(1, temperature, seed=11))
    with torch.no_grad():
        expected = count * torch.softmax(plain(torch.tensor([prompt])).logits[0, -1] / temperature, dim=0)
    found = torch.bincount(torch.tensor([completion.ids[0] for completion in completions]), minlength=12)
    keep = expected >= 5
    statistic = ((found - expected) ** 2 / expected)[keep].sum().item()
    degrees = int(keep.sum()) - 1
    assert degrees >= 4
    assert statistic < degrees * (1 - 2 / (9 * degrees) + 3.09 * (2 / (9 * degrees)) ** 0.5) ** 3


def test_an_answer_ends_with_the_token_that_completes_a_stop_text() -> None:
    """Ids are spelled as two letters each, so the stop text `bc` straddles two tokens."""
    model = small_model()

    def spell(ids: Sequence[int]) -> str:
        return "".join("a" + "bcdefgh"[token % 7] for token in ids)

    [free] = generate(LocalGenerator(model, NO_STOP), [[3, 4]], Sampling(30, 1.0, seed=1))
    stop = spell(free.ids)[9:12]
    ends = spell(free.ids).find(stop) + len(stop)
    generator = LocalGenerator(model, NO_STOP, decode=spell)
    [stopped] = generate(generator, [[3, 4]], Sampling(30, 1.0, stop=("zz", stop), seed=1))
    assert stopped.ids == free.ids[: -(-ends // 2)] and stopped.finish_reason is FinishReason.STOP
    [unstopped] = generate(generator, [[3, 4]], Sampling(30, 1.0, stop=("zz",), seed=1))
    assert unstopped == free


def test_draws_go_with_the_name_of_a_prompt_not_with_its_place() -> None:
    model, prompt, sampling = small_model(), [7, 7], Sampling(8, 1.0, seed=3)
    generator = LocalGenerator(model, NO_STOP)
    both = dict(generator.stream([prompt, prompt], sampling, ["a", "b"]))
    [(_, alone)] = generator.stream([prompt], sampling, ["b"])
    assert alone.ids == both[1].ids != both[0].ids


def test_draws_do_not_depend_on_the_batch() -> None:
    """A prompt's tokens are those of its index and the seed, whatever runs beside it; another seed gives others."""
    model, prompts = small_model(dtype=torch.float64), [[7, 7, 7]] * 6

    def sampled_ids(batch_size: int, seed: int) -> list[tuple[int, ...]]:
        generator = LocalGenerator(model, NO_STOP, batch_size=batch_size)
        return [completion.ids for completion in generate(generator, prompts, Sampling(8, 1.0, seed=seed))]

    alone = sampled_ids(1, seed=4)
    assert alone == sampled_ids(2, seed=4) == sampled_ids(6, seed=4)
    assert len(set(alone)) == 6
    assert set(alone).isdisjoint(sampled_ids(6, seed=5))


def test_weights_are_read_at_each_call_and_their_version_is_told() -> None:
    model, prompt, sampling = small_model(), [5, 6, 7], Sampling(max_new_tokens=8)
    generator = LocalGenerator(model, NO_STOP)
    [before] = generate(generator, [prompt], sampling)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    generator.weight_version += 1
    [after] = generate(generator, [prompt], sampling)
    [fresh] = generate(LocalGenerator(model, NO_STOP), [prompt], sampling)
    assert (before.weight_version, after.weight_version) == (0, 1)
    assert after.logprobs == fresh.logprobs and after.logprobs != before.logprobs


def test_no_prompts_give_no_completions() -> None:
    assert generate(LocalGenerator(small_model(), NO_STOP), [], Sampling(4)) == []


@pytest.mark.parametrize(
    ("prompts", "words"),
    [([[1], []], "prompt 1 has no tokens"), ([[1] * 1020], "prompt 0 has 1020 tokens; with 8 new ones it exceeds")],
)
def test_prompts_that_cannot_be_answered_are_refused_before_work(prompts: list[list[int]], words: str) -> None:
    model = small_model()
    model.forward = pytest.fail
    with pytest.raises(UserError, match=words):
        generate(LocalGenerator(model, NO_STOP), prompts, Sampling(8))


@pytest.mark.parametrize("settings", [{"max_new_tokens": 0}, {"max_new_tokens": 1, "temperature": -0.1}])
def test_senseless_sampling_is_refused(settings: dict[str, float]) -> None:
    with pytest.raises(UserError, match="must be"):
        Sampling(**settings)


def test_logits_that_are_not_finite_are_an_error() -> None:
    model = small_model()
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    with pytest.raises(UserError, match="not finite"):
        generate(LocalGenerator(model, NO_STOP), [[1, 2]], Sampling(4))


# --- what is shared, kept, given up and computed again ---


def count_tokens(model: PreTrainedModel) -> list[int]:
    """The number of tokens of each forward pass from here on."""
    counts: list[int] = []

    def watch(module: torch.nn.Module, arguments: object, keywords: dict[str, Tensor]) -> None:
        counts.append(keywords["input_ids"].shape[1])

    cast(Any, model).base_model.register_forward_pre_hook(watch, with_kwargs=True)
    return counts


def test_no_token_is_computed_twice() -> None:
    """12 prompts of 20 + 5 ids, each asked 3 times, 4 new tokens: 20 + 12 · 5 + 36 · 3 (the last one needs no pass)."""
    model = small_model()
    draw = random.Random(1)
    beginning = [draw.randrange(VOCABULARY) for _ in range(20)]
    prompts = [[*beginning, *(draw.randrange(VOCABULARY) for _ in range(5))] for _ in range(12)] * 3
    counts = count_tokens(model)
    generate(LocalGenerator(model, NO_STOP), prompts, Sampling(4, 1.0))
    assert sum(counts) == 20 + 12 * 5 + 36 * 3


@pytest.mark.parametrize("kind", KINDS)
def test_shared_prompts_give_what_each_gives_alone(kind: TinyKind) -> None:
    """In fp64: a common beginning of 40 ids (longer than gemma's window), prompts asked once, twice and five times."""
    model, draw = small_model(kind, dtype=torch.float64), random.Random(2)
    beginning = [draw.randrange(VOCABULARY) for _ in range(40)]
    distinct = [[*beginning, *(draw.randrange(VOCABULARY) for _ in range(draw.randrange(1, 90)))] for _ in range(6)]
    prompts = [*distinct, distinct[0], *[distinct[1]] * 4]
    names = [f"sample {number}" for number in range(len(prompts))]
    sampling = Sampling(80, 0.9, top_p=0.95, seed=5)
    together = generate(LocalGenerator(model, NO_STOP, batch_size=4), prompts, sampling, names)
    for prompt, name, completion in zip(prompts, names, together, strict=True):
        [alone] = generate(LocalGenerator(model, NO_STOP), [prompt], sampling, [name])
        assert completion.ids == alone.ids
        assert completion.logprobs == pytest.approx(alone.logprobs, abs=1e-9)
    assert len({completion.ids for completion in together[6:]}) == 5


def test_memory_is_bounded_and_rows_that_give_way_lose_nothing() -> None:
    """Room for 256 tokens: a row needs 64 and then, beyond 64 tokens, 128, so most are sent back to waiting."""
    model, prompts = small_model(dtype=torch.float64), uneven_prompts(8)
    sampling = Sampling(90, 1.0, seed=3)
    free = generate(LocalGenerator(model, NO_STOP), prompts, sampling)
    # 2 · layers · key heads · head size · bytes, times 256 tokens, in GiB
    config = model.config
    token = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * 8
    tight = LocalGenerator(model, NO_STOP, memory_gib=256 * token / 2**30)
    counts = count_tokens(model)
    session = tight.stream(prompts, sampling)
    while session.num_unfinished:
        session.step()
        assert session.num_reserved_tokens <= 256
    found = dict(session)
    assert [found[index].ids for index in range(8)] == [completion.ids for completion in free]
    assert sum(counts) > sum(map(len, prompts)) + 8 * 89
    with pytest.raises(UserError, match=r"prompt 0 has 20 tokens; with 400 new ones .* room for 512 tokens"):
        tight.stream([[1] * 20], Sampling(400))


def test_a_row_may_leave_its_size_of_slot_as_another_enters_it() -> None:
    """The third prompt outgrows 64 tokens in the step in which the fourth is taken up into the slots of 64."""
    model, draw = small_model(dtype=torch.float64), random.Random(6)
    prompts = [[draw.randrange(VOCABULARY) for _ in range(length)] for length in (500, 200, 63, 10)]
    together = generate(LocalGenerator(model, NO_STOP, batch_size=2), prompts, Sampling(2))
    assert together == [generate(LocalGenerator(model, NO_STOP), [prompt], Sampling(2))[0] for prompt in prompts]


def test_bf16_runs_are_merged_as_precisely_as_bf16_allows() -> None:
    """Shared beginning and prompt against one run for all: the difference stays at bf16's own rounding."""
    model, draw = small_model(dtype=torch.bfloat16), random.Random(8)
    prompt = [draw.randrange(VOCABULARY) for _ in range(120)]
    shared = generate(LocalGenerator(model, NO_STOP), [prompt] * 2 + [[*prompt[:60], 1, 2]], Sampling(12))[0]
    [alone] = generate(LocalGenerator(model, NO_STOP), [prompt], Sampling(12))
    same = next((i for i, (a, b) in enumerate(zip(shared.ids, alone.ids, strict=True)) if a != b), 12)
    assert same >= 2
    for one, other in zip(shared.logprobs[:same], alone.logprobs[:same], strict=True):
        assert one == pytest.approx(other, abs=0.05)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_new_weights_are_used_at_once_and_with_no_key_of_the_old(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights change in the middle of a session: the next tokens are those of the new model on the tokens so far.

    In fp32 all weights are packed on a CPU, however small."""
    monkeypatch.setattr(products, "FEWEST_WEIGHTS", 1)
    model, prompts, sampling = small_model(dtype=dtype), [[5, 6, 7]] * 4 + [[9] * 30], Sampling(12)
    generator = LocalGenerator(model, NO_STOP)
    session = generator.stream(prompts, sampling)
    with PackedOperations() as operations:
        for _ in range(6):
            session.step()
    assert bool(operations.packed) == (dtype == torch.float32 and torch.backends.mkldnn.is_available())
    before = [list(session.tokens_so_far(index)) for index in range(5)]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    generator.weight_version += 1
    completions = dict(session)
    for index, (prompt, ids) in enumerate(zip(prompts, before, strict=True)):
        assert 0 < len(ids) < 12
        [rest] = generate(LocalGenerator(model, NO_STOP), [[*prompt, *ids]], Sampling(12 - len(ids)))
        assert completions[index].ids == (*ids, *rest.ids)
        exact = 1e-9 if dtype == torch.float64 else 1e-4
        assert completions[index].logprobs[len(ids) :] == pytest.approx(rest.logprobs, abs=exact)
        assert completions[index].weight_version == 1


def test_an_aborted_row_is_handed_out_and_disturbs_nobody() -> None:
    model, prompts, sampling = small_model(dtype=torch.float64), uneven_prompts(6), Sampling(20, 1.0)
    whole = generate(LocalGenerator(model, NO_STOP), prompts, sampling)
    session = LocalGenerator(model, NO_STOP, batch_size=4).stream(prompts, sampling)
    for _ in range(5):
        session.step()
    # The first slot's row: the last slot's keys move there. And one that still waits, with no keys at all.
    first = max(range(6), key=lambda index: len(prompts[index]))
    waiting = min(range(6), key=lambda index: len(prompts[index]))
    for index in (first, first, waiting):
        session.abort(index)
    found = dict(session)
    session.abort(0)
    assert sorted(found) == list(range(6)) and found[waiting].ids == ()
    for index, completion in found.items():
        aborted = index in (first, waiting)
        assert (completion.finish_reason is FinishReason.ABORTED) == aborted
        assert completion.ids == whole[index].ids[: len(completion.ids)]
        assert aborted or completion.ids == whole[index].ids


def test_what_is_out_of_time_is_cut_off() -> None:
    model = small_model()
    completions = generate(LocalGenerator(model, NO_STOP), [[1, 2]] * 3, Sampling(500, deadline_seconds=0.2))
    assert {completion.finish_reason for completion in completions} == {FinishReason.DEADLINE}
    assert all(len(completion.ids) < 500 for completion in completions)


def test_no_stop_comes_before_the_minimum() -> None:
    model = small_model()
    stop_ids = tuple(range(0, VOCABULARY, 2))
    completions = generate(LocalGenerator(model, stop_ids), uneven_prompts(), Sampling(30, 1.0, min_new_tokens=7))
    assert all(not set(completion.ids[:7]) & set(stop_ids) for completion in completions)
    assert min(len(completion.ids) for completion in completions) == 8


def test_repeated_ids_are_penalised_as_transformers_does() -> None:
    model, prompt = small_model(), [3, 1, 4, 1, 5]
    [completion] = generate(LocalGenerator(model, NO_STOP), [prompt], Sampling(30, repetition_penalty=1.4))
    ids = torch.tensor([prompt])
    options = {"do_sample": False, "max_new_tokens": 30, "eos_token_id": None, "repetition_penalty": 1.4}
    reference = cast(Any, plain_model()).generate(ids, attention_mask=torch.ones_like(ids), **options)
    assert list(completion.ids) == reference[0, 5:].tolist()


def test_an_id_that_the_model_does_not_have_is_refused() -> None:
    with pytest.raises(UserError, match=f"prompt 1 holds the id {VOCABULARY}; the model has ids from 0 to 96"):
        generate(LocalGenerator(small_model(), NO_STOP), [[1], [2, VOCABULARY]], Sampling(2))


def test_lora_is_sampled_from_as_it_is_merged() -> None:
    adapted = add_lora(small_model(), LoraConfig(rank=4, alpha=8), seed=0)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.normal_(0, 0.05, generator=torch.Generator().manual_seed(len(name)))
    prompts, sampling = uneven_prompts(4), Sampling(12, 0.7, top_p=0.9)
    found = generate(LocalGenerator(cast(Any, adapted).eval(), NO_STOP), prompts, sampling)
    merged = generate(LocalGenerator(merge_lora(adapted), NO_STOP), prompts, sampling)
    assert [completion.ids for completion in found] == [completion.ids for completion in merged]
    for one, other in zip(found, merged, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)
