"""Generation: prompts as token ids in, completions as token ids with their log-probabilities out.

`Generator` is the protocol that evaluation, judges, preference synthesis and reinforcement learning sample through.
`LocalGenerator` samples in this process from a model in memory, the trainer's own. Token ids are the record: nothing
here encodes text, and decodes it only to look for stop texts.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from transformers import PreTrainedModel

from cameleer.core.errors import UserError
from cameleer.core.render import Renderer
from cameleer.model.load import SEGMENTS, context_length, load_model
from cameleer.model.policy import Policy
from cameleer.model.rows import FinishReason
from cameleer.model.sampling import Sampling
from cameleer.model.scheduler import Completion, Limits, Session

__all__ = ["Completion", "FinishReason", "Generator", "LocalGenerator", "Sampling", "generate", "load_generator"]

BATCH_SIZE = 128
MEMORY_GIB = 4.0
"""What keys and values may take, unless said otherwise."""


class Generator(Protocol):
    """A source of completions."""

    def stream(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, names: Sequence[str] | None = None
    ) -> Iterator[tuple[int, Completion]]:
        """One completion for each prompt, with the prompt's index, in the order in which they finish.

        A prompt's draws depend on the sampling's seed and on its name (by default its index), not on its batch. Prompts
        may repeat: equal ones, and beginnings that all share, are computed once.
        """
        ...


def generate(
    generator: Generator, prompts: Sequence[Sequence[int]], sampling: Sampling, names: Sequence[str] | None = None
) -> list[Completion]:
    """The completions of `prompts`, in their order."""
    finished = dict(generator.stream(prompts, sampling, names))
    return [finished[index] for index in range(len(prompts))]


@dataclass
class LocalGenerator:
    """Samples from `model` where it is, without changing it; it was loaded with `attention="segments"`.

    At most `batch_size` sequences run at once, and the keys and values of all take at most `memory_gib`: what does not
    fit waits, or is computed again later. Whoever updates the weights raises `weight_version`, which is copied into
    completions; keys and values of older weights are never used with newer ones. `decode` turns ids into text; only
    stop texts need it. Nothing is kept from one call to the next.
    """

    model: PreTrainedModel
    stop_ids: Collection[int]
    decode: Callable[[Sequence[int]], str] | None = None
    batch_size: int = BATCH_SIZE
    memory_gib: float = MEMORY_GIB
    weight_version: int = 0

    def __post_init__(self) -> None:
        assert self.batch_size > 0 and self.memory_gib > 0, (self.batch_size, self.memory_gib)
        attention = self.model.config._attn_implementation  # pyright: ignore[reportPrivateUsage]
        assert attention == SEGMENTS, f"load the model with attention='{SEGMENTS}', not '{attention}'"
        self._policy = Policy(self.model)

    @property
    def context_length(self) -> int | None:
        """See `cameleer.model.load.context_length`."""
        return context_length(self.model.config)

    def stream(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, names: Sequence[str] | None = None
    ) -> Session:
        """See `Generator`; the session can also abort single sequences.

        Raises UserError for a prompt that is empty, does not fit or holds an id that the model does not have, before
        any work is done; later for logits that are not finite.
        """
        self._check(prompts, sampling)
        limits = Limits(self.batch_size, int(self.memory_gib * 2**30), frozenset(self.stop_ids), self.decode)
        return Session(self._policy, prompts, sampling, names, limits, lambda: self.weight_version)

    def tokens(self, prompt: Sequence[int], sampling: Sampling) -> Iterator[int]:
        """The ids of one completion as they are sampled, the stop id included."""
        session = self.stream([prompt], sampling)
        yield from session.tokens(0)

    def _check(self, prompts: Sequence[Sequence[int]], sampling: Sampling) -> None:
        if sampling.stop and self.decode is None:
            raise UserError("stop texts need a generator that can decode ids.")
        limit, vocabulary = self.context_length, len(self._policy.head_weight)
        for index, prompt in enumerate(prompts):
            if not prompt:
                raise UserError(f"prompt {index} has no tokens.")
            wrong = next((token for token in prompt if not 0 <= token < vocabulary), None)
            if wrong is not None:
                raise UserError(f"prompt {index} holds the id {wrong}; the model has ids from 0 to {vocabulary - 1}.")
            if limit is not None and len(prompt) + sampling.max_new_tokens > limit:
                what = f"prompt {index} has {len(prompt)} tokens; with {sampling.max_new_tokens} new ones it exceeds"
                raise UserError(
                    f"{what} the model's context of {limit}.", "Lower max_new_tokens or shorten the prompt."
                )


def load_generator(folder: Path, renderer: Renderer, batch_size: int = BATCH_SIZE) -> LocalGenerator:
    """A generator on the model in `folder`: bf16 on the GPU where there is one, else fp32 on the CPU."""
    on_gpu = torch.cuda.is_available()
    dtype, device = (torch.bfloat16, torch.device("cuda")) if on_gpu else (torch.float32, torch.device("cpu"))
    model = load_model(folder, dtype, device)
    # On a GPU most of what the weights leave; a CPU's memory is shared with whatever else runs there.
    memory_gib = 0.8 * torch.cuda.mem_get_info()[0] / 2**30 if on_gpu else MEMORY_GIB
    return LocalGenerator(model, renderer.stop_ids, renderer.decode, batch_size, memory_gib)
