"""What several tests share: seeded random trees, and the loss and gradients of a step computed in a stated way."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.overrides import TorchFunctionMode

from cameleer.core.errors import UserError
from cameleer.core.log import read_metrics
from cameleer.core.mixture import MIXTURE
from cameleer.core.stage import StageRun
from cameleer.core.types import Example, Message
from cameleer.model import attention
from cameleer.model.load import save_model
from cameleer.model.policy import Policy
from cameleer.model.tiny import TinyKind, tiny_model, tiny_tokenizer
from cameleer.sft.train import loss_function
from cameleer.train.accumulate import accumulate, split_step
from cameleer.train.distributed import World, current_world, shard
from cameleer.train.layout import Segment, Tree

VOCABULARY = 97
ALONE = World(0, 1, torch.device("cpu"))
Gradients = dict[str, Tensor]
T = TypeVar("T")


class WholeDouble(TorchFunctionMode):
    """Lifts the casts to fp32 inside transformers' norms, so that a model in fp64 is fp64 throughout.

    With them, a difference of 1e-16 in a norm's input can round to the neighbouring fp32 number, 6e-8 away.
    """

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in (Tensor.float, Tensor.to) and args[0].dtype == torch.float64 and args[0].requires_grad:
            target = torch.float32 if function is Tensor.float else args[1] if len(args) > 1 else None
            if target == torch.float32:
                return args[0]
        return function(*args, **(kwargs or {}))


def random_segment(random: np.random.Generator, length: int, parent: int = -1, trained: float = 0.6) -> Segment:
    """`trained`: the share of tokens with a loss weight; a root's first token never has one."""
    weights = (random.random(length) < trained).astype(np.float32)
    if parent < 0:
        weights[0] = 0.0
    return Segment(random.integers(0, VOCABULARY, length).astype(np.int32), weights, parent)


def random_rows(seed: int, count: int = 8) -> list[Tree]:
    """Rows of uneven lengths, so that means over rows and means over tokens differ."""
    random = np.random.default_rng(seed)
    return [(random_segment(random, int(random.integers(3, 29))),) for _ in range(count)]


def random_forest(seed: int, count: int = 4) -> list[Tree]:
    """Prompts with two to four children, some with grandchildren; loss weights on the children only."""
    random = np.random.default_rng(seed)
    trees: list[Tree] = []
    for number in range(count):
        prompt = random_segment(random, int(random.integers(2, 15)), trained=0.0)
        children = [random_segment(random, int(random.integers(1, 12)), 0) for _ in range(2 + number % 3)]
        grandchild = random_segment(random, 5, parent=1)
        trees.append((prompt, *children, grandchild))
    return trees


def unshared(trees: Sequence[Tree]) -> list[Tree]:
    """Each weighted segment as a row of its own with the tokens of its ancestors repeated before it."""
    rows: list[Tree] = []
    for tree in trees:
        for number, segment in enumerate(tree):
            path = [number]
            while tree[path[0]].parent >= 0:
                path.insert(0, tree[path[0]].parent)
            before = [tree[each].ids for each in path[:-1]]
            context = np.concatenate(before) if before else np.zeros(0, np.int32)
            weights = np.concatenate([np.zeros(len(context), np.float32), segment.weights])
            if weights.any():
                rows.append((Segment(np.concatenate([context, segment.ids]), weights),))
    return rows


def total_weight(trees: Sequence[Tree]) -> float:
    return float(sum(segment.weights.sum() for tree in trees for segment in tree))


def tiny_policy(kind: TinyKind, dtype: torch.dtype, seed: int = 0) -> Policy:
    return Policy(tiny_model(kind, VOCABULARY, seed, dtype, attention=attention.NAME))


def step_gradients(policy: Policy, batches: Sequence[Sequence[Tree]], world: World = ALONE) -> tuple[float, Gradients]:
    """Loss and gradients of the token-mean SFT objective over these micro-batches."""
    denominator = sum(total_weight(trees) for trees in batches)
    policy.zero_grad(set_to_none=True)
    with WholeDouble():
        loss, _ = accumulate(policy, batches, loss_function(denominator), world)
    return loss, whole_gradients(policy)


def whole_gradients(policy: Policy) -> Gradients:
    gradients: Gradients = {}
    for name, parameter in policy.named_parameters():
        assert parameter.grad is not None, f"{name} got no gradient"
        gradients[name] = (
            parameter.grad.full_tensor() if isinstance(parameter.grad, DTensor) else parameter.grad.clone()
        )
    return gradients


def gradients_on_ranks(
    kind: TinyKind, dtype: torch.dtype, trees: Sequence[Tree], budget: int
) -> tuple[float, Gradients]:
    """What one rank of a launch does with a step: shard, take its micro-batches, accumulate."""
    world = current_world()
    policy = tiny_policy(kind, dtype)
    shard(policy, world, torch.float32)
    denominator = total_weight(trees)
    mine = split_step(trees, budget, world)
    with WholeDouble():
        loss, _ = accumulate(policy, mine, loss_function(denominator), world)
    return loss, {name: gradient.clone() for name, gradient in whole_gradients(policy).items()}


def of_each(function: Callable[..., T], cases: Sequence[tuple[Any, ...]]) -> list[T]:
    """A function's values: several cases for one launch of ranks, whose start takes far longer than they do."""
    return [function(*case) for case in cases]


def largest_relative_difference(one: Gradients, other: Gradients) -> float:
    """max over parameters of |a - b| / |b| in the 2-norm."""
    assert one.keys() == other.keys()
    return max(((one[name] - other[name]).norm() / other[name].norm()).item() for name in other)


def conversations(count: int, seed: int = 0) -> list[Example]:
    """Short sums of uneven lengths."""
    random = np.random.default_rng(seed)
    rows: list[Example] = []
    for number in range(count):
        numbers = random.integers(0, 100, int(random.integers(2, 9))).tolist()
        question = Message("user", "Add " + ", ".join(map(str, numbers)) + ".")
        rows.append(Example(str(number), "sums", (question, Message("assistant", f"It is {sum(numbers)}."))))
    return rows


def write_inputs(folder: Path, num_rows: int = 20, kind: TinyKind = "llama") -> dict[str, Path]:
    """A tiny base model and a mixture on disk, as the inputs of an SFT stage."""
    save_model(tiny_model(kind), tiny_tokenizer(), folder / "base")
    (folder / "mixture").mkdir()
    MIXTURE.write(folder / "mixture", conversations(num_rows))
    return {"model": folder / "base", "mixture": folder / "mixture"}


def sft_stage(folder: Path, inputs: dict[str, Path], seed: int = 3) -> StageRun:
    folder.mkdir(parents=True, exist_ok=True)
    return StageRun("sft", folder, inputs, "model", seed)


TIMINGS = ("seconds", "tokens_per_second", "peak_memory_gib")


def untimed_metrics(folder: Path) -> list[dict[str, Any]]:
    """The metrics of a run without what a clock or the machine's memory says."""
    return [{k: v for k, v in line.items() if k not in TIMINGS} for line in read_metrics(folder / "metrics.jsonl")]


def fail_on_rank_1() -> None:
    """What a rank does whose data is wrong, while the other waits for it."""
    world = current_world()
    if world.rank == 1:
        raise UserError("what was wrong", "what to do")
    world.barrier()
