"""Reward models: a transformers sequence classifier with one label, over segments.

    r(x, y) = w · h_end          h_end: final hidden state of the answer's end token;  w: (D,), no bias

A score belongs to a prompt and an answer up to and including its end token; what a chat template writes after that is
no part of it. Answers to one prompt share its computation. What is saved loads in plain transformers
(`AutoModelForSequenceClassification`), where the same ids get the same score.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel

from cameleer.core.errors import UserError
from cameleer.core.render import Renderer
from cameleer.core.types import Conversation
from cameleer.model.generate import Completion, FinishReason, Generator, Sampling, generate
from cameleer.model.load import SEGMENTS, quiet_loading, without_weights
from cameleer.model.policy import SegmentModel, Tokens
from cameleer.model.segments import Segments

HEAD = "score"
"""The name that transformers' sequence classifiers give their head."""

TOKENS_PER_BATCH = 4096


class Answers(Tokens, Protocol):
    """What a reward model reads of a batch (`cameleer.train.layout.Batch`): N targets, the end tokens of answers."""

    @property
    def segment_N(self) -> Tensor: ...


@dataclass(frozen=True)
class _AnswerBatch:
    """Some answers to be scored."""

    ids_T: Tensor
    positions_T: Tensor
    segments: Segments
    segment_N: Tensor


class RewardModel(SegmentModel):
    """`forward(batch)` returns the (N,) scores of the segments that end with the batch's targets, in their order."""

    @property
    def head(self) -> nn.Linear:
        """The (1, D) matrix that reads a hidden state."""
        head = getattr(self.causal_model, HEAD, None)
        assert isinstance(head, nn.Linear) and head.bias is None and head.out_features == 1, head
        return head

    def forward(self, batch: Answers) -> Tensor:
        segments = batch.segments
        ends = [start + length - 1 for start, length in zip(segments.starts, segments.lengths, strict=True)]
        end_N = torch.tensor(ends, device=batch.segment_N.device).index_select(0, batch.segment_N)
        hidden_ND = self.hidden_states(batch).index_select(0, end_N)
        # At least in fp32: scores in bf16 have steps of almost 1% of their size.
        precision = torch.promote_types(hidden_ND.dtype, torch.float32)
        return hidden_ND.to(precision) @ self.head.weight[0].to(precision)


def new_reward_model(folder: Path | str, seed: int, device: torch.device | str = "cpu") -> PreTrainedModel:
    """The language model in `folder` with a score head in place of its own, in fp32.

    The head is drawn from N(0, 1 / (D + 1)) under `seed` (Tülu 3 report, §5.4.1, after Stiennon et al. 2020).
    """
    model, report = _load_classifier(folder, torch.float32, device, num_labels=1)
    unset = set(report["missing_keys"]) - {f"{HEAD}.weight"}
    if unset:
        raise UserError(f"{folder}: weights and config disagree: {', '.join(sorted(unset)[:3])} are missing.")
    weight = cast(Tensor, getattr(model, HEAD).weight)
    spread = 1 / math.sqrt(weight.shape[1] + 1)
    with torch.no_grad():
        weight.copy_(torch.empty(weight.shape).normal_(0, spread, generator=torch.Generator().manual_seed(seed)))
    return model


def load_reward_model(
    folder: Path | str, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> PreTrainedModel:
    """The reward model in `folder` in eval mode. Raises UserError for a folder that holds none."""
    labels = AutoConfig.from_pretrained(folder).num_labels
    if labels != 1:
        raise UserError(f"{folder}: no reward model: it has {labels} labels, a reward model one.")
    model, report = _load_classifier(folder, dtype, device)
    if report["missing_keys"] or report["mismatched_keys"]:
        missing = ", ".join(sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]]))[:3])
        raise UserError(f"{folder}: no reward model: {missing} missing or of another shape.", "Train one: stage rm.")
    return model


def _load_classifier(
    folder: Path | str, dtype: torch.dtype, device: torch.device | str, **changes: Any
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """The classifier in eval mode, and what its checkpoint lacks; on the "meta" device nothing is read."""
    loader: Any = AutoModelForSequenceClassification
    with quiet_loading():
        try:
            if torch.device(device).type == "meta":
                config = AutoConfig.from_pretrained(folder, **changes)
                return without_weights(loader, config, dtype, SEGMENTS), {"missing_keys": [], "mismatched_keys": []}
            model, report = loader.from_pretrained(
                folder, dtype=dtype, attn_implementation=SEGMENTS, output_loading_info=True, **changes
            )
        except ValueError as failure:
            raise UserError(f"{folder}: transformers has no sequence classifier for it: {failure}") from None
    return cast(PreTrainedModel, nn.Module.to(model.eval(), torch.device(device))), report


def set_padding(model: PreTrainedModel, renderer: Renderer) -> None:
    """Make the padding of the model and of the renderer's tokenizer a token that ends no answer, if there is one.

    Transformers' classifiers read the score at the last token that is not padding. Many models pad with their end
    token; theirs would be read one token early.
    """
    tokenizer: Any = renderer.tokenizer
    special = {str(token): id for id, token in tokenizer.added_tokens_decoder.items() if token.special}
    named = [str(tokenizer.special_tokens_map.get(f"{name}_token")) for name in ("pad", "unk", "bos")]
    padding = next(
        (token for token in (*named, *special) if special.get(token, -1) not in (-1, *renderer.stop_ids)), None
    )
    model.config.pad_token_id = None if padding is None else special[padding]
    if padding is not None:
        tokenizer.pad_token = padding


@dataclass
class RewardScorer:
    """Scores answers with a reward model, `tokens_per_batch` tokens at once or one prompt with its answers."""

    model: RewardModel
    renderer: Renderer
    tokens_per_batch: int = TOKENS_PER_BATCH

    def score(self, prompts: Sequence[Conversation], answers: Sequence[Sequence[str]]) -> list[list[float]]:
        """The scores of `answers[i]` to `prompts[i]`, each answer closed by its end token."""
        rendered = [
            [self.renderer.answer(prompt, answer) for answer in each]
            for prompt, each in zip(prompts, answers, strict=True)
        ]
        prompt_ids = [self.renderer.prompt(prompt) for prompt in prompts]
        return self.score_ids(prompt_ids, rendered)

    @torch.inference_mode()
    def score_ids(
        self, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[Sequence[int]]]
    ) -> list[list[float]]:
        """The scores of the answers with ids `answers[i][k]` to the prompts `prompts[i]`, read at their last tokens."""
        device = next(self.model.parameters()).device
        scores: list[list[float]] = [[] for _ in prompts]
        sizes = [len(prompt) + sum(map(len, each)) for prompt, each in zip(prompts, answers, strict=True)]
        for items in self._batches(sizes):
            batch = _batch([prompts[item] for item in items], [answers[item] for item in items], device)
            found = iter(self.model(batch).tolist())
            for item in items:
                scores[item] = [next(found) for _ in answers[item]]
        return scores

    def _batches(self, sizes: Sequence[int]) -> Iterator[list[int]]:
        """Items in runs of similar sizes within the budget."""
        run: list[int] = []
        total = 0
        for item in sorted(range(len(sizes)), key=sizes.__getitem__):
            if run and total + sizes[item] > self.tokens_per_batch:
                yield run
                run, total = [], 0
            run.append(item)
            total += sizes[item]
        if run:
            yield run


def _batch(
    prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[Sequence[int]]], device: torch.device
) -> _AnswerBatch:
    runs: list[Sequence[int]] = []
    parents: list[int] = []
    scored: list[int] = []
    for prompt, each in zip(prompts, answers, strict=True):
        root = len(runs)
        runs += [prompt, *each]
        parents += [-1, *[root] * len(each)]
        scored += range(root + 1, len(runs))
    segments = Segments(tuple(map(len, runs)), tuple(parents))
    ids = torch.tensor([token for run in runs for token in run])
    return _AnswerBatch(ids.to(device), segments.positions().to(device), segments, torch.tensor(scored, device=device))


def best_of(
    generator: Generator, scorer: RewardScorer, prompts: Sequence[Sequence[int]], sampling: Sampling, num_samples: int
) -> list[tuple[Completion, float]]:
    """For each prompt the best of `num_samples` completions, and its score.

    Completions that reached their end come before those that were cut off: a score at a cut says nothing.
    """
    repeated = [prompt for prompt in prompts for _ in range(num_samples)]
    names = [f"{index}/{sample}" for index in range(len(prompts)) for sample in range(num_samples)]
    every = generate(generator, repeated, sampling, names)
    groups = [every[index * num_samples : (index + 1) * num_samples] for index in range(len(prompts))]
    scores = scorer.score_ids(prompts, [[completion.ids for completion in group] for group in groups])

    def rank(pair: tuple[Completion, float]) -> tuple[bool, float]:
        return pair[0].finish_reason is FinishReason.STOP, pair[1]

    return [max(zip(group, each, strict=True), key=rank) for group, each in zip(groups, scores, strict=True)]
