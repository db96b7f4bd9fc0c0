"""Every objective by hand, against a naive loop over sequences, and at the places where implementations went wrong."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from cameleer.model.generate import LocalGenerator, Sampling, generate
from cameleer.model.policy import Policy
from cameleer.model.tiny import tiny_model
from cameleer.rlvr.names import Correction, KLEstimator, Objective, ObjectiveConfig
from cameleer.rlvr.objective import (
    ADVANTAGES,
    BEHAVIOUR,
    OLD_VALUES,
    PROXIMAL,
    REFERENCE,
    RETURNS,
    Totals,
    policy_loss,
    value_loss,
)
from cameleer.train.layout import Batch, Segment, Tree, collate

MAX_NEW_TOKENS = 5
CLIP = {"clip_low": 0.2, "clip_high": 0.2}


def group(answers: Sequence[dict[str, Sequence[float]]]) -> Tree:
    """A prompt of two tokens and answers with these columns."""
    segments = [Segment(np.array([1, 2], np.int32), np.zeros(2, np.float32))]
    for columns in answers:
        length = len(next(iter(columns.values())))
        arrays = {name: np.asarray(values, np.float64) for name, values in columns.items()}
        segments.append(Segment(np.arange(length, dtype=np.int32), np.ones(length, np.float32), 0, arrays))
    return tuple(segments)


def on_policy(columns: dict[str, Sequence[float]]) -> dict[str, Sequence[float]]:
    return columns | {BEHAVIOUR: columns[PROXIMAL]}


# Two answers of 1 and 3 tokens with advantages +1 and −1; current log-probabilities −1 | −1, −2, −3 and ratios
# 2 | ½, 1, 2.
CURRENT = torch.tensor([-1.0, -1.0, -2.0, -3.0], dtype=torch.float64)
HALF = math.log(2)
ANSWERS = [
    on_policy({PROXIMAL: [-1 - HALF], ADVANTAGES: [1.0]}),
    on_policy({PROXIMAL: [-1 + HALF, -2.0, -3 - HALF], ADVANTAGES: [-1.0, -1.0, -1.0]}),
]
BATCH = collate([group(ANSWERS)])
TOTALS = Totals(num_tokens=4, num_sequences=2, max_new_tokens=MAX_NEW_TOKENS)


@pytest.mark.parametrize(
    ("objective", "settings", "loss", "num_clipped"),
    [
        # l = −min(2, 1.2) | −min(−½, −0.8), 1, −min(−2, −1.2) = −1.2 | 0.8, 1, 2: the first two by the clip.
        ("ppo", CLIP, (-1.2 + 0.8 + 1 + 2) / 4, 2),
        ("grpo", CLIP, (-1.2 + (0.8 + 1 + 2) / 3) / 2, 2),
        ("dr_grpo", CLIP, (-1.2 + 0.8 + 1 + 2) / (2 * 5), 2),
        # Up to 1.28 by default.
        ("dapo", {}, (-1.28 + 0.8 + 1 + 2) / 4, 2),
        # −A log p = 1 | −1, −2, −3, each answer's sum.
        ("rloo", {}, (1 - 1 - 2 - 3) / 2, 0),
        # Ratios up to 1.5 as constants: 1.5 | ½, 1, 1.5 times −A log p.
        ("cispo", {"clip_high": 0.5}, (1.5 * 1 - 0.5 * 1 - 1 * 2 - 1.5 * 3) / 4, 2),
        # Ratios of answers: 2 and exp((log ½ + log 1 + log 2) / 3) = 1.
        ("gspo", CLIP, (-1.2 + 1) / 2, 1),
    ],
)
def test_by_hand(objective: str, settings: dict[str, float], loss: float, num_clipped: int) -> None:
    config = ObjectiveConfig.parse({"objective": objective, **settings}, "")
    found, sums = policy_loss(config, CURRENT, BATCH, TOTALS)
    assert found.item() == pytest.approx(loss, rel=1e-14)
    assert sums["clip_fraction"].item() == num_clipped
    assert sums["ratio"].item() == pytest.approx(2 + 1 + 1 + 1 if objective == "gspo" else 2 + 0.5 + 1 + 2)


def test_totals_count_answers_and_their_tokens() -> None:
    """The prompt and an answer whose verdict was an error, weight 0, are no part of the denominators."""
    tree = group(ANSWERS)
    unjudged = Segment(np.arange(4, dtype=np.int32), np.zeros(4, np.float32), 0)
    assert Totals.of([(*tree, unjudged), tree], 5) == Totals(8, 4, 5)


def test_kl_and_entropy_by_hand() -> None:
    """Reference ratios r = ½ everywhere: k2 = ½ log² 2, k3 = ½ − 1 + log 2; entropies 1 | 2, 3, 4.

    GRPO's mean of a constant is that constant; of the entropies (1 + 3) / 2 = 2; PPO's 10 / 4.
    """
    answers = [each | {REFERENCE: None} for each in ANSWERS]
    for each, start, end in zip(answers, (0, 1), (1, 4), strict=True):
        each[REFERENCE] = (CURRENT[start:end] - HALF).tolist()
    batch, entropy = collate([group(answers)]), torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    for objective, mean_entropy in (("grpo", 2.0), ("ppo", 2.5)):
        plain = ObjectiveConfig.parse({"objective": objective}, "")
        base, sums = policy_loss(plain, CURRENT, batch, TOTALS, entropy)
        for estimator, value in (("k2", HALF**2 / 2), ("k3", HALF - 0.5)):
            config = plain.model_copy(update={"kl_coefficient": 0.3, "kl_estimator": KLEstimator(estimator)})
            loss = policy_loss(config, CURRENT, batch, TOTALS)[0]
            assert (loss - base).item() == pytest.approx(0.3 * value, rel=1e-13)
        config = plain.model_copy(update={"entropy_coefficient": 0.1})
        loss = policy_loss(config, CURRENT, batch, TOTALS, entropy)[0]
        assert (loss - base).item() == pytest.approx(-0.1 * mean_entropy, rel=1e-13)
        assert sums["entropy"].item() == 10.0
        assert sums["kl_reference"].item() == pytest.approx(4 * (HALF - 0.5))


def test_k1_is_no_term_of_the_loss() -> None:
    """Its place is the reward: with it, the loss needs no reference and stays what it was."""
    plain = ObjectiveConfig.parse({"objective": "ppo", "kl_coefficient": 0.0}, "")
    penalised = ObjectiveConfig.parse({"objective": "ppo", "kl_coefficient": 0.5}, "")
    assert penalised.kl_estimator is KLEstimator.K1
    assert policy_loss(penalised, CURRENT, BATCH, TOTALS)[0] == policy_loss(plain, CURRENT, BATCH, TOTALS)[0]


@pytest.mark.parametrize(
    ("correction", "factors", "num_corrected"),
    [("none", (1, 1, 1, 1), 0), ("truncate", (3, 2, 1, 0.25), 1), ("mask", (0, 2, 1, 0), 2)],
)
def test_corrections_by_hand(correction: str, factors: tuple[float, ...], num_corrected: int) -> None:
    """Proximal over behaviour 4 | 2, 1, ¼ with the limit 3: PPO's terms −1.2 | 0.8, 1, 2 times these factors."""
    gaps = [[math.log(4)], [math.log(2), 0.0, -math.log(4)]]
    answers = [
        each | {BEHAVIOUR: (np.array(each[PROXIMAL]) - gap).tolist()} for each, gap in zip(ANSWERS, gaps, strict=True)
    ]
    settings = {} if correction == "none" else {"correction_limit": 3.0}
    config = ObjectiveConfig.parse({"objective": "ppo", "correction": correction, **settings}, "")
    loss, sums = policy_loss(config, CURRENT, collate([group(answers)]), TOTALS)
    terms = zip(factors, (-1.2, 0.8, 1, 2), strict=True)
    assert loss.item() == pytest.approx(sum(factor * term for factor, term in terms) / 4, rel=1e-14)
    assert sums["corrected"].item() == num_corrected
    assert sums["proximal_gap"].item() == pytest.approx(math.log(4) + math.log(2) + math.log(4))
    # log behaviour − log current: the ratios are 2 | ½, 1, 2 to the proximal, so 8 | 1, 1, ½ to the behaviour.
    assert sums["kl_behaviour"].item() == pytest.approx((8 - 1 - math.log(8)) + (0.5 - 1 + math.log(2)))


def test_two_minibatches_whose_clipped_share_is_known() -> None:
    """A policy of one number θ over the tokens a and b: p(a) = σ(θ), at the start ½.

    First minibatch, on policy: 4 times a with A = 1 and 4 times b with A = −1. Every ratio is 1, nothing is clipped,
    and the loss's gradient is −mean(A ∇ log p) = −½. A step of 2 log 3 takes θ to log 3, p(a) to ¾, the ratios to
    3/2 and ½.
    Second minibatch, same start of the update: a with A = 1 five times (above 1.2: clipped), a with A = −1 twice (not),
    b with A = 1 once (not), b with A = −1 twice (below 0.8: clipped): 7 of 10.
    """
    theta = torch.zeros((), dtype=torch.float64, requires_grad=True)
    config = ObjectiveConfig.parse({"objective": "ppo"}, "")

    def minibatch(signs: list[int], advantages: list[int]) -> tuple[Tensor, dict[str, Tensor]]:
        """Signs: 1 for a, −1 for b."""
        start = [math.log(0.5)] * len(signs)
        batch = collate([group([on_policy({PROXIMAL: start, ADVANTAGES: [float(a) for a in advantages]})])])
        logprobs = torch.nn.functional.logsigmoid(torch.tensor(signs) * theta)
        return policy_loss(config, logprobs, batch, Totals(len(signs), 1, 16))

    loss, sums = minibatch([1] * 4 + [-1] * 4, [1] * 4 + [-1] * 4)
    assert (sums["ratio"].item(), sums["clip_fraction"].item()) == (8.0, 0.0)
    loss.backward()
    assert theta.grad is not None and theta.grad.item() == pytest.approx(-0.5, rel=1e-15)
    with torch.no_grad():
        theta -= 2 * math.log(3) * theta.grad
    loss, sums = minibatch([1] * 7 + [-1] * 3, [1] * 5 + [-1] * 2 + [1] + [-1] * 2)
    assert sums["clip_fraction"].item() == 7
    assert sums["ratio"].item() == pytest.approx(7 * 1.5 + 3 * 0.5)
    # Clipped tokens pull no more: the others' gradient is −Σ A r ∇log p, with ∇log p = ¼ for a and −¾ for b.
    theta.grad = None
    loss.backward()
    assert theta.grad is not None
    assert theta.grad.item() == pytest.approx((2 * 1.5 * 0.25 + 1 * 0.5 * 0.75) / 10, rel=1e-14)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
def test_the_first_ratio_of_sampled_tokens_is_one_at_any_temperature(temperature: float) -> None:
    """The sampler's own log-probabilities against the trainer's, prompts shared, fp32: within 1e-5 at every token."""
    model = tiny_model("qwen3", 97)
    prompts = [list(range(5, 5 + n)) for n in (3, 9, 20) for _ in range(4)]
    sampling = Sampling(24, temperature=temperature, seed=1)
    completions = generate(LocalGenerator(model, frozenset({2}), lambda ids: ""), prompts, sampling)
    trees: list[Tree] = []
    for place in range(0, 12, 4):
        prompt = np.asarray(prompts[place], np.int32)
        answers = [
            Segment(
                np.asarray(completion.ids, np.int32),
                np.ones(len(completion.ids), np.float32),
                0,
                {name: np.asarray(completion.logprobs) for name in (BEHAVIOUR, PROXIMAL)},
            )
            for completion in completions[place : place + 4]
        ]
        trees.append((Segment(prompt, np.zeros(len(prompt), np.float32)), *answers))
    batch = collate(trees)
    with torch.no_grad():
        logprobs = Policy(model, temperature)(batch)
        untempered = Policy(model)(batch)
    assert len(logprobs) > 100
    assert (logprobs - batch.columns[BEHAVIOUR]).exp().sub(1).abs().max() <= 1e-5
    if temperature != 1.0:
        assert (untempered - batch.columns[BEHAVIOUR]).abs().max() > 0.1


def random_batch(seed: int) -> tuple[Batch, Totals]:
    """Two prompts with answers of uneven lengths, some tokens without weight, ratios far from 1 on both sides."""
    random = np.random.default_rng(seed)
    names = (BEHAVIOUR, PROXIMAL, REFERENCE, ADVANTAGES, RETURNS, OLD_VALUES)
    trees: list[Tree] = []
    for count in (2, 3):
        answers = [{n: random.normal(size=length) for n in names} for length in random.integers(1, 9, count)]
        trees.append(group(answers))
    return collate(trees), Totals.of(trees, 11)


def naive_loss(config: ObjectiveConfig, logprob_N: Tensor, batch: Batch, entropy_N: Tensor) -> Tensor:
    """The formulas of the papers, one answer at a time, each token by itself."""
    answers: list[list[Tensor]] = []
    for segment in batch.segment_N.unique():
        places = (batch.segment_N == segment).nonzero()[:, 0].tolist()
        log_ratios = [logprob_N[n] - batch.columns[PROXIMAL][n] for n in places]
        losses: list[Tensor] = []
        for n, log_ratio in zip(places, log_ratios, strict=True):
            advantage, ratio = batch.columns[ADVANTAGES][n], log_ratio.exp()
            if config.objective is Objective.RLOO:
                loss = -advantage * logprob_N[n]
            elif config.objective is Objective.CISPO:
                loss = -min(ratio.item(), 1 + config.clip_high) * advantage * logprob_N[n]
            else:
                if config.objective is Objective.GSPO:
                    ratio = (sum(log_ratios) / len(log_ratios)).exp()
                inside = ratio.clamp(1 - config.clip_low, 1 + config.clip_high)
                loss = -min(ratio * advantage, inside * advantage)
            factor = (batch.columns[PROXIMAL][n] - batch.columns[BEHAVIOUR][n]).exp().item()
            if config.correction is Correction.TRUNCATE:
                loss = loss * min(factor, config.correction_limit)
            if config.correction is Correction.MASK:
                loss = loss * (factor if 1 / config.correction_limit <= factor <= config.correction_limit else 0.0)
            log_r = batch.columns[REFERENCE][n] - logprob_N[n]
            if config.kl_coefficient and config.kl_estimator is KLEstimator.K2:
                loss = loss + config.kl_coefficient * log_r**2 / 2
            if config.kl_coefficient and config.kl_estimator is KLEstimator.K3:
                loss = loss + config.kl_coefficient * (log_r.exp() - 1 - log_r)
            losses.append(loss - config.entropy_coefficient * entropy_N[n])
        answers.append(losses)
    every = [loss for losses in answers for loss in losses]
    if config.objective in (Objective.PPO, Objective.DAPO, Objective.CISPO):
        return sum(every) / len(every)
    if config.objective in (Objective.GRPO, Objective.GSPO):
        return sum(sum(losses) / len(losses) for losses in answers) / len(answers)
    return sum(every) / (len(answers) * (11 if config.objective is Objective.DR_GRPO else 1))


@pytest.mark.parametrize("objective", Objective)
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"kl_coefficient": 0.2, "kl_estimator": "k3", "entropy_coefficient": 0.3},
        {"correction": "truncate", "correction_limit": 1.5, "kl_coefficient": 0.2, "kl_estimator": "k2"},
        {"correction": "mask", "correction_limit": 2.5},
    ],
    ids=["plain", "k3 and entropy", "truncate and k2", "mask"],
)
def test_value_and_gradient_equal_those_of_a_loop_over_answers(
    objective: Objective, settings: dict[str, object]
) -> None:
    config = ObjectiveConfig.parse({"objective": objective, **settings}, "")
    for seed in range(5):
        batch, totals = random_batch(seed)
        generator = torch.Generator().manual_seed(seed)
        inputs = torch.randn(2, len(batch.target_N), generator=generator, dtype=torch.float64, requires_grad=True)
        ours = policy_loss(config, inputs[0], batch, totals, inputs[1])[0]
        naive = naive_loss(config, inputs[0], batch, inputs[1])
        torch.testing.assert_close(ours, naive, rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(
            *(torch.autograd.grad(each, inputs)[0] for each in (ours, naive)), rtol=1e-12, atol=1e-13
        )


def test_value_loss_by_hand() -> None:
    """Returns 1, 1, 1, 1; old values 0, 0, 2, 1; new ones ½, 0.1, 0, 1.5 with clip 0.2.

    Clipped values 0.2, 0.1, 1.8, 1.2. Squared errors 0.25 / 0.64, 0.81 / 0.81, 1 / 0.64, 0.25 / 0.04: the larger ones
    are 0.64 (by the clip), 0.81, 1, 0.25; half of their mean is 2.7 / 8.
    """
    answers = [
        {RETURNS: [1.0], OLD_VALUES: [0.0]},
        {RETURNS: [1.0, 1.0, 1.0], OLD_VALUES: [0.0, 2.0, 1.0]},
    ]
    values = torch.tensor([0.5, 0.1, 0.0, 1.5], dtype=torch.float64, requires_grad=True)
    loss, sums = value_loss(values, collate([group(answers)]), TOTALS, clip=0.2)
    assert loss.item() == pytest.approx(2.7 / 8, rel=1e-14)
    assert sums["value_clip_fraction"].item() == 1
    assert sums["value_error"].item() == pytest.approx(0.25 + 0.81 + 1 + 0.25)
    assert (sums["value"].item(), sums["return"].item(), sums["return_square"].item()) == (2.1, 4.0, 4.0)
    # Where the clip decides, the value gets no gradient; elsewhere (V − R) / 4.
    loss.backward()
    torch.testing.assert_close(values.grad, torch.tensor([0, -0.9, -1, 0.5], dtype=torch.float64) / 4)


def test_value_loss_equals_a_loop_over_tokens() -> None:
    batch, totals = random_batch(3)
    values = torch.randn(len(batch.target_N), dtype=torch.float64, requires_grad=True)
    ours = value_loss(values, batch, totals, clip=0.3)[0]
    naive = torch.zeros((), dtype=torch.float64)
    for n in range(len(values)):
        old, target = batch.columns[OLD_VALUES][n], batch.columns[RETURNS][n]
        near = min(max(values[n], old - 0.3), old + 0.3)
        naive = naive + max((values[n] - target) ** 2, (near - target) ** 2) / 2
    naive = naive / totals.num_tokens
    torch.testing.assert_close(ours, naive, rtol=1e-13, atol=1e-14)
    torch.testing.assert_close(
        *(torch.autograd.grad(each, values)[0] for each in (ours, naive)), rtol=1e-13, atol=1e-14
    )


@pytest.mark.parametrize("objective", Objective)
def test_a_rank_without_answers_adds_nothing(objective: Objective) -> None:
    """Its share of a step is a tree whose weights are all 0: loss and sums are 0, and backward runs."""
    idle = tuple(replace(segment, weights=np.zeros_like(segment.weights)) for segment in group(ANSWERS))
    config, logprobs = ObjectiveConfig.parse({"objective": objective}, ""), torch.zeros(0, requires_grad=True)
    loss, sums = policy_loss(config, logprobs, collate([idle]), TOTALS)
    loss.backward()
    assert loss.item() == 0.0
    assert not any(value.item() for value in sums.values())
    assert sums.keys() == policy_loss(config, CURRENT, BATCH, TOTALS)[1].keys()
