"""Reward models: one score a text wherever it stands, the same in plain transformers."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from cameleer.core.errors import UserError
from cameleer.core.render import Renderer
from cameleer.core.types import Conversation, Message
from cameleer.model.generate import FinishReason, LocalGenerator, Sampling, generate
from cameleer.model.load import load_renderer, save_model
from cameleer.model.reward import RewardModel, RewardScorer, best_of, load_reward_model, new_reward_model, set_padding
from cameleer.model.tiny import KINDS, TinyKind, tiny_model, tiny_tokenizer

PROMPTS: list[Conversation] = [
    (Message("user", "Hi there"),),
    (Message("user", "What is that?"), Message("assistant", "x"), Message("user", "and the number?")),
    (Message("system", "Be brief."), Message("user", "The answer, please, and nothing but the answer.")),
]
ANSWERS = [["a", "the answer is number 3", "b b b"], ["what"], ["no", "3"]]


def scorer_of(folder: Path, kind: TinyKind, tokens_per_batch: int = 4096) -> RewardScorer:
    save_model(tiny_model(kind), tiny_tokenizer(), folder)
    renderer = load_renderer(folder, "model")
    model = new_reward_model(folder, seed=3)
    set_padding(model, renderer)
    return RewardScorer(RewardModel(model), renderer, tokens_per_batch)


def ids_of(renderer: Renderer) -> list[list[int]]:
    return [
        renderer.prompt(prompt) + renderer.answer(prompt, answer)
        for prompt, answers in zip(PROMPTS, ANSWERS, strict=True)
        for answer in answers
    ]


def flat(scores: Sequence[Sequence[float]]) -> list[float]:
    return list(itertools.chain.from_iterable(scores))


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_reward_model_scores_the_same_in_plain_transformers_padded_or_not(
    tmp_path: Path, kind: TinyKind
) -> None:
    """The tokenizer pads with the end token at first; the classifier would then read the token before it."""
    scorer = scorer_of(tmp_path / "policy", kind)
    ours = flat(scorer.score(PROMPTS, ANSWERS))
    save_model(scorer.model.model, scorer.renderer.tokenizer, tmp_path / "reward", stop_ids=scorer.renderer.stop_ids)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "reward")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "reward")
    padded = tokenizer.pad({"input_ids": ids_of(scorer.renderer)}, return_tensors="pt")
    with torch.inference_mode():
        theirs = model(**padded).logits[:, 0].tolist()
    assert theirs == pytest.approx(ours, abs=1e-5)
    assert max(ours) - min(ours) > 0.1
    again = RewardScorer(
        RewardModel(load_reward_model(tmp_path / "reward")), load_renderer(tmp_path / "reward", "model")
    )
    assert flat(again.score(PROMPTS, ANSWERS)) == pytest.approx(ours, abs=1e-5)


def test_padding_is_a_token_that_ends_no_answer(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = tokenizer.eos_token
    save_model(tiny_model(), tokenizer, tmp_path)
    renderer, model = load_renderer(tmp_path, "model"), new_reward_model(tmp_path, seed=0)
    before = renderer.fingerprint
    set_padding(model, renderer)
    assert model.config.pad_token_id not in (None, *renderer.stop_ids)
    assert model.config.pad_token_id == tokenizer.convert_tokens_to_ids("<|endoftext|>")
    assert Renderer(renderer.tokenizer).fingerprint == before


@pytest.mark.parametrize("tokens_per_batch", [1, 60, 4096])
def test_a_score_is_the_same_alone_and_in_any_company(tmp_path: Path, tokens_per_batch: int) -> None:
    scorer = scorer_of(tmp_path, "llama", tokens_per_batch)
    scorer.model.double()
    alone = [
        flat(scorer.score([prompt], [[a]]))[0] for prompt, each in zip(PROMPTS, ANSWERS, strict=True) for a in each
    ]
    for order in itertools.permutations(range(3)):
        scores = scorer.score([PROMPTS[i] for i in order], [ANSWERS[i] for i in order])
        found = [score for i in range(3) for score in scores[order.index(i)]]
        # Not 1e-10: transformers' norms round to fp32 in between.
        assert found == pytest.approx(alone, abs=1e-6)


def test_the_head_is_drawn_by_the_formula_and_its_seed_alone(tmp_path: Path) -> None:
    save_model(tiny_model(), tiny_tokenizer(), tmp_path)
    one, same, other = (RewardModel(new_reward_model(tmp_path, seed)).head.weight.detach() for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)
    every = torch.cat([RewardModel(new_reward_model(tmp_path, seed)).head.weight.detach() for seed in range(20)])
    # 1,280 draws of N(0, 1/65): the standard error of their deviation is 2%.
    assert float(every.std()) == pytest.approx(65**-0.5, rel=0.07) and abs(float(every.mean())) < 0.02


def test_a_language_model_is_no_reward_model(tmp_path: Path) -> None:
    save_model(tiny_model(), tiny_tokenizer(), tmp_path)
    with pytest.raises(UserError, match="no reward model"):
        load_reward_model(tmp_path)


def test_the_best_of_n_is_what_scores_highest_among_the_finished(tmp_path: Path) -> None:
    scorer = scorer_of(tmp_path, "llama")
    model = tiny_model()
    generator = LocalGenerator(model, range(100), scorer.renderer.decode)  # so many stop ids that some answers end
    prompts = [scorer.renderer.prompt(prompt) for prompt in PROMPTS]
    sampling = Sampling(max_new_tokens=6, temperature=3.0, seed=1)
    chosen = best_of(generator, scorer, prompts, sampling, num_samples=8)
    names = [f"{index}/{sample}" for index in range(3) for sample in range(8)]
    every = generate(generator, [prompt for prompt in prompts for _ in range(8)], sampling, names)
    finished = 0
    for index, (completion, score) in enumerate(chosen):
        group = every[8 * index : 8 * index + 8]
        (scores,) = scorer.score_ids([prompts[index]], [[each.ids for each in group]])
        ended = [s for each, s in zip(group, scores, strict=True) if each.finish_reason is FinishReason.STOP]
        finished += len(ended)
        assert score == pytest.approx(max(ended or scores), abs=1e-5)
        assert completion.ids in [each.ids for each in group]
    assert 0 < finished < 24
