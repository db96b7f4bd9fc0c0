"""What tests of sharded models run on each rank."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from cameleer.core.training import LoraConfig
from cameleer.model.load import load_model
from cameleer.model.policy import Policy, SegmentModel
from cameleer.model.reward import RewardModel, load_reward_model, new_reward_model
from cameleer.rlvr.config import RLVRConfig
from cameleer.train.distributed import current_world, sharded
from cameleer.train.learner import with_options

BUILDERS: dict[str, Callable[[Path, torch.device], SegmentModel]] = {
    "policy": lambda folder, device: Policy(load_model(folder, torch.float32, device)),
    "adapted": lambda folder, device: Policy(
        with_options(load_model(folder, torch.float32, device), RLVRConfig(lora=LoraConfig(rank=2)), 0)
    ),
    "new reward model": lambda folder, device: RewardModel(new_reward_model(folder, 3, device)),
    "reward model": lambda folder, device: RewardModel(load_reward_model(folder / "rm", torch.float32, device)),
}


def tensors(model: SegmentModel) -> dict[str, Tensor]:
    """Parameters and buffers, whole; tied ones under each of their names."""
    named = [*model.named_parameters(remove_duplicate=False), *model.named_buffers()]
    return {name: value.full_tensor() if isinstance(value, DTensor) else value for name, value in named}


@dataclass(frozen=True)
class Arrived:
    """One model on a launch of ranks: where each rank built it, what each holds, its elements on rank 0 and in all."""

    built: list[str]
    tensors: list[dict[str, Tensor]]
    here: int
    every: int


def arrived(folder: Path, kind: str) -> Arrived:
    world = current_world()
    built: list[str] = []

    def build(device: torch.device) -> SegmentModel:
        built.append(device.type)
        return BUILDERS[kind](folder, device)

    model = sharded(build, world, torch.float32)
    here = sum(each.to_local().numel() for each in model.parameters() if isinstance(each, DTensor))
    whole = {name: value.detach().clone() for name, value in tensors(model).items()}
    every = sum(each.numel() for each in model.parameters())
    return Arrived([device for each in world.gather(built) for device in each], world.gather(whole), here, every)


def all_arrived(folders: Sequence[Path]) -> list[Arrived]:
    """What one rank of a launch does: every kind of model of each folder, in the order of `BUILDERS`."""
    return [arrived(folder, kind) for folder in folders for kind in BUILDERS]
