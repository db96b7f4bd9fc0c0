"""Preference losses, their gradients and what they log do not depend on how the tokens were laid out."""

import pytest
import torch
from pair_support import (
    CONFIGS,
    pair_gradients,
    pair_gradients_alone,
    pair_gradients_on_ranks,
    random_pairs,
    with_own_reference,
)
from support import ALONE, WholeDouble, largest_relative_difference, of_each, tiny_policy

from cameleer.dpo.config import DPOConfig
from cameleer.dpo.loss import Answers
from cameleer.dpo.train import mismatch_kl, pair_losses
from cameleer.model.tiny import TinyKind, tiny_model
from cameleer.train.distributed import start_ranks
from cameleer.train.layout import Tree
from cameleer.train.reference import REFERENCE

FP64 = torch.float64
TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-5}
OBJECTIVES = list(CONFIGS)
Outcome = tuple[float, dict[str, float], dict[str, torch.Tensor]]


def assert_same(one: Outcome, other: Outcome, dtype: torch.dtype = FP64) -> None:
    tolerance = TOLERANCES[dtype]
    assert one[0] == pytest.approx(other[0], rel=tolerance)
    assert one[1] == pytest.approx(other[1], rel=tolerance, abs=tolerance)
    assert largest_relative_difference(one[2], other[2]) <= tolerance


def plain_gradients(
    kind: TinyKind, config: DPOConfig, trees: list[Tree], padding: str | None, kl: float
) -> tuple[float, dict[str, torch.Tensor]]:
    """Plain transformers, one row per answer with its prompt, its own attention: one padded batch, or row by row."""
    model = tiny_model(kind, 97, 0, FP64, attention="sdpa")
    rows = [(tree[0].ids, tree[answer].ids) for answer in (1, 2) for tree in trees]
    longest = max(len(prompt) + len(answer) for prompt, answer in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    trained = torch.zeros_like(ids, dtype=torch.bool)
    for number, (prompt, answer) in enumerate(rows):
        start = longest - len(prompt) - len(answer) if padding == "left" else 0
        middle, end = start + len(prompt), start + len(prompt) + len(answer)
        ids[number, start:middle], ids[number, middle:end] = torch.from_numpy(prompt), torch.from_numpy(answer)
        mask[number, start:end], trained[number, middle:end] = 1, True
    with WholeDouble():
        if padding:
            positions = (mask.cumsum(1) - 1).clamp(min=0)
            logits = model(input_ids=ids, attention_mask=mask, position_ids=positions).logits
        else:
            logits = torch.zeros(len(rows), longest, 97, dtype=FP64)
            for number, row_mask in enumerate(mask):
                length = int(row_mask.sum())
                logits[number, :length] = model(input_ids=ids[number : number + 1, :length]).logits[0]
    logprobs = torch.log_softmax(logits[:, :-1], -1).gather(2, ids[:, 1:, None])[:, :, 0]
    sums = (logprobs * trained[:, 1:]).sum(1)
    references = torch.tensor([tree[a].columns[REFERENCE].sum() for a in (1, 2) for tree in trees], dtype=FP64)
    lengths = trained.sum(1).double()
    chosen, rejected = (
        Answers(sums[half], (sums - references)[half], lengths[half])
        for half in (slice(0, len(trees)), slice(len(trees), None))
    )
    loss = pair_losses(config, chosen, rejected, kl).loss_P.mean()
    loss = loss - config.sft_coefficient * chosen.logprob_P.sum() / chosen.length_P.sum()
    loss.backward()
    return loss.item(), {
        f"model.{name}": parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None
    }


@pytest.mark.parametrize("padding", [None, "left", "right"])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_shared_prompts_equal_one_row_per_answer(name: str, padding: str | None) -> None:
    kinds: tuple[TinyKind, ...] = ("llama", "qwen2", "qwen3", "gemma3")
    kind = kinds[OBJECTIVES.index(name) % len(kinds)]
    trees = random_pairs(1)
    ours = pair_gradients(tiny_policy(kind, FP64), CONFIGS[name], [trees], kl=0.2)
    loss, gradients = plain_gradients(kind, CONFIGS[name], trees, padding, kl=0.2)
    assert ours[0] == pytest.approx(loss, rel=1e-10)
    assert largest_relative_difference(ours[2], gradients) <= 1e-10


@pytest.mark.parametrize("dtype", list(TOLERANCES))
@pytest.mark.parametrize("name", OBJECTIVES)
def test_accumulation_order_and_packing_do_not_matter(name: str, dtype: torch.dtype) -> None:
    trees, policy, config = random_pairs(2), tiny_policy("llama", dtype), CONFIGS[name]
    whole = pair_gradients(policy, config, [trees], kl=0.1)
    layouts = {
        "6 x 1": [[tree] for tree in trees],
        "2 x 3": [trees[:3], trees[3:]],
        "uneven": [trees[:1], trees[1:]],
        "reversed": [trees[::-1]],
    }
    for layout in layouts.values():
        assert_same(pair_gradients(policy, config, layout, kl=0.1), whole, dtype)


@pytest.mark.parametrize("num_ranks", [2, 4])
def test_ranks_do_not_matter(num_ranks: int) -> None:
    """Six pairs, and one: a rank without a pair adds nothing, to the counts either."""
    cases = [("llama", FP64, OBJECTIVES, random_pairs(3, count), 48) for count in (6, 1)]
    many = start_ranks(num_ranks, of_each, pair_gradients_on_ranks, cases)
    for found, case in zip(many, cases, strict=True):
        alone = pair_gradients_alone(*case[:-1])
        for name in OBJECTIVES:
            assert_same(found[name], alone[name])


def test_kl_does_not_depend_on_the_layout() -> None:
    trees, policy = random_pairs(5), tiny_policy("llama", FP64)
    with WholeDouble():
        whole = mismatch_kl(policy, trees, 10_000, ALONE)
        assert whole > 0, "the case must be one where the estimate is not cut at 0"
        assert mismatch_kl(policy, trees, 20, ALONE) == pytest.approx(whole, rel=1e-12)
        assert mismatch_kl(policy, trees[::-1], 40, ALONE) == pytest.approx(whole, rel=1e-12)


AT_THE_REFERENCE = {"dpo_norm": 0.6931471805599453, "dpo": 0.6931471805599453, "conservative": 0.6931471805599453}
AT_THE_REFERENCE |= {"robust": 0.6931471805599453, "ipo": 25.0, "kto": 0.5}


@pytest.mark.parametrize("name", AT_THE_REFERENCE)
def test_first_step_is_log_2_in_every_layout(name: str) -> None:
    """open-instruct #1900: packed DPO starts at six times log 2. In fp32, the reference from another layout.

    IPO starts at 1 / (4 beta^2) = 25, KTO at 1/2.
    """
    policy = tiny_policy("qwen3", torch.float32)
    trees = with_own_reference(random_pairs(6, count=8), policy)
    for layout in ([trees], [trees[:3], trees[3:]], [[tree] for tree in trees], [trees[::-1]]):
        loss, sums, _ = pair_gradients(policy, CONFIGS[name], layout)
        assert loss == pytest.approx(AT_THE_REFERENCE[name], rel=1e-6, abs=1e-6)
        assert sums["reward_margin"] == pytest.approx(0, abs=1e-4)


def test_mean_over_micro_batches_is_another_loss() -> None:
    """open-instruct's two files for DPO: were each micro-batch divided by its own pairs, the gradient would differ."""
    trees, policy, config = random_pairs(7), tiny_policy("llama", FP64), CONFIGS["dpo_norm"]
    halves = [trees[:1], trees[1:]]
    means = [pair_gradients(policy, config, [half])[2] for half in halves]
    averaged = {name: (means[0][name] + means[1][name]) / 2 for name in means[0]}
    assert largest_relative_difference(averaged, pair_gradients(policy, config, halves)[2]) > 1e-2
