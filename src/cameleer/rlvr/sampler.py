"""The weights that sample: the learner's own where they are whole in this process, else a copy kept equal to them.

Sharded weights (several ranks, or a GPU, where FSDP2 keeps fp32 masters) cannot be sampled from directly. The copy is
in the dtype that training computes in, and follows after every step.
"""

from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from cameleer.core.render import Renderer
from cameleer.model.generate import MEMORY_GIB, LocalGenerator
from cameleer.model.policy import Policy
from cameleer.rlvr.config import RLVRConfig
from cameleer.train.distributed import is_sharded, send
from cameleer.train.learner import Learner, compute_dtype


class Sampler:
    """A generator on a learner's weights."""

    def __init__(self, config: RLVRConfig, learner: Learner[Policy], renderer: Renderer) -> None:
        self._learner = learner
        self._copy = self._made_copy(config) if is_sharded(learner.model) else None
        on_gpu = learner.world.device.type == "cuda"
        memory_gib = 0.4 * torch.cuda.mem_get_info()[0] / 2**30 if on_gpu else MEMORY_GIB
        self.generator = LocalGenerator(
            self._copy if self._copy is not None else learner.model.model,
            renderer.stop_ids,
            renderer.decode,
            config.sampling_batch_size,
            memory_gib,
        )

    def follow(self, version: int) -> None:
        """Sample from the learner's present weights from now on; `version` counts its steps."""
        if self._copy is not None:
            masters = self._learner.model.model.parameters()
            with torch.no_grad():
                for mine, master in zip(self._copy.parameters(), masters, strict=True):
                    if master.requires_grad:
                        mine.copy_(_whole(master))
        self.generator.weight_version = version

    def _made_copy(self, config: RLVRConfig) -> PreTrainedModel:
        model, world = self._learner.new_model(), self._learner.world
        send(model, world, compute_dtype(config, world))
        return model.eval()


def _whole(parameter: Tensor) -> Tensor:
    return parameter.full_tensor() if isinstance(parameter, DTensor) else parameter


@contextmanager
def sampling_mode(model: nn.Module) -> Generator[None]:
    """The learner's model without dropout, while it samples."""
    model.eval()
    try:
        yield
    finally:
        model.train()
