"""Ranks: one process per device, which agree through torch.distributed and shard the model by FSDP2.

A process is rank 0 of 1, or it was started by torchrun (the environment says RANK, WORLD_SIZE, …), or by
`start_ranks`. The losses divide by global counts, so FSDP's mean over ranks is undone by multiplying with their number.
"""

import os
import pickle
import socket
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from cameleer.core.errors import UserError
from cameleer.model.policy import SegmentModel

DEADLINE = timedelta(minutes=30)
"""How long a rank waits for the others inside training before it fails and names the operation."""
STAGE_DEADLINE = timedelta(days=7)
"""How long ranks wait for rank 0 while it alone runs a stage such as curation."""
USER_ERROR_STATUS = 2
T = TypeVar("T")
Model = TypeVar("Model", bound=SegmentModel)


@dataclass(frozen=True)
class World:
    """This process among the ranks of the launch. With one rank every operation is the identity."""

    rank: int
    size: int
    device: torch.device

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def sum(self, values: Sequence[float]) -> list[float]:
        """Each value summed over ranks, in fp64, the same bits on every rank."""
        if self.size == 1:
            return [float(value) for value in values]
        # fp64 travels by gloo, whose group also exists beside NCCL's.
        total = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(total, group=_cpu_group())
        return cast(list[float], total.tolist())

    def broadcast(self, value: Any) -> Any:
        """Rank 0's value on every rank; it is pickled."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=_cpu_group())
        return box[0]

    def gather(self, value: T) -> list[T]:
        """Every rank's value, by rank, on every rank; they are pickled."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value, group=_cpu_group())
        return found

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on any rank, the same answer on all."""
        return self.sum([float(flag)])[0] > 0

    def barrier(self) -> None:
        """Wait for all ranks; after DEADLINE fail with the ranks that did not come."""
        if self.size > 1:
            dist.monitored_barrier(group=_cpu_group(), timeout=DEADLINE, wait_all_ranks=True)


_groups: dict[str, dist.ProcessGroup] = {}


def _cpu_group() -> dist.ProcessGroup:
    return _groups["cpu"]


def in_launch() -> bool:
    """Whether the environment describes a launch of several ranks."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def current_world() -> World:
    """The world this process belongs to; joins the launch that the environment describes, if there is one."""
    return join_launch() if in_launch() else World(0, 1, _device(0))


def join_launch() -> World:
    """Join the ranks that the environment describes (once; later calls return the same world)."""
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    device = _device(int(os.environ.get("LOCAL_RANK", rank)))
    if "cpu" not in _groups:
        if device.type == "cuda":
            torch.cuda.set_device(device)
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, rank=rank, world_size=size, timeout=DEADLINE)
        _groups["cpu"] = cast(dist.ProcessGroup, dist.new_group(backend="gloo", timeout=STAGE_DEADLINE))
    return World(rank, size, device)


def _device(local_rank: int) -> torch.device:
    return torch.device("cuda", local_rank) if torch.cuda.is_available() else torch.device("cpu")


def sharded(build: Callable[[torch.device], Model], world: World, compute_dtype: torch.dtype) -> Model:
    """What `build` makes, sharded over the ranks (see `shard`), or whole on the device of a lone rank in fp32.

    Only rank 0 reads weights, into the memory of its host; the others build without any and are sent theirs. So a
    device holds at most its shards and one layer, or embedding and head, whole; and one host the model.
    """
    if world.size == 1 and compute_dtype == torch.float32:
        return build(world.device)
    model = build(source_device(world))
    shard(model, world, compute_dtype)
    return model


def source_device(world: World) -> torch.device:
    """Where a rank builds a model that `send` is to bring to the devices: with weights on rank 0 alone."""
    return torch.device("cpu" if world.leads else "meta")


@torch.no_grad()
def send(module: nn.Module, world: World, dtype: torch.dtype | None = None) -> None:
    """Bring rank 0's parameters (in `dtype`; None: as they are) and buffers to every rank's device; ties stay.

    Buffers keep their dtype: frequencies of positions rounded to bf16 would turn far positions by whole radians.
    """
    # Rank 0 may have read for longer than a collective on devices waits.
    world.broadcast(None)
    sent: dict[Tensor, Tensor] = {}
    for owner in module.modules():
        kinds: list[Any] = [owner._parameters, owner._buffers]  # pyright: ignore[reportPrivateUsage]
        for held in cast(list[dict[str, Tensor | None]], kinds):
            for name, tensor in held.items():
                if tensor is None or isinstance(tensor, DTensor):
                    continue
                if tensor not in sent:
                    wanted = dtype if isinstance(tensor, nn.Parameter) else None
                    sent[tensor] = _sent(tensor, world, wanted or tensor.dtype)
                held[name] = sent[tensor]


def _sent(tensor: Tensor, world: World, dtype: torch.dtype) -> Tensor:
    if tensor.is_meta:
        there = torch.empty_like(tensor, dtype=dtype, device=world.device)
    else:
        there = tensor.detach().to(world.device, dtype)
    if world.size > 1:
        dist.broadcast(there, src=0)
    return nn.Parameter(there, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else there


def shard(policy: SegmentModel, world: World, compute_dtype: torch.dtype) -> None:
    """Shard rank 0's policy over the ranks by FSDP2, layer by layer; weights stay in their dtype, compute in
    `compute_dtype`.

    On a GPU this is also how a single rank computes in bf16 over fp32 weights: a layer's copy lives while it is used.
    """
    if world.size == 1 and compute_dtype == torch.float32:
        return
    if not dist.is_initialized():
        store = dist.HashStore()
        dist.init_process_group("nccl" if world.device.type == "cuda" else "gloo", store=store, rank=0, world_size=1)
    mesh = dist.init_device_mesh(world.device.type, (world.size,))
    low = None if compute_dtype == torch.float32 else compute_dtype
    precision = MixedPrecisionPolicy(param_dtype=low, reduce_dtype=torch.float32 if low else None)
    for layer in decoder_layers(policy):
        send(layer, world)
        fully_shard(layer, mesh=mesh, mp_policy=precision)
    send(policy, world)
    fully_shard(policy, mesh=mesh, mp_policy=precision, reshard_after_forward=False)


def is_sharded(policy: SegmentModel) -> bool:
    """Whether the policy's parameters are FSDP2's."""
    return any(isinstance(parameter, DTensor) for parameter in policy.parameters())


def gather_weights(policy: SegmentModel) -> dict[str, Tensor]:
    """The sharded model's parameters, whole, on the CPU of rank 0 by their names in the model; empty elsewhere."""
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    state = cast(dict[str, Tensor], get_model_state_dict(policy, options=options))
    return {name.removeprefix("model."): value for name, value in state.items()}


def decoder_layers(policy: SegmentModel) -> list[nn.Module]:
    """The repeated blocks of the model, by the class names that transformers keeps whole when it splits a model."""
    model = policy.causal_model
    names: set[str] = set(getattr(model, "_no_split_modules", None) or [""])
    layers = [module for module in model.modules() if type(module).__name__ in names]
    assert layers, f"{type(model).__name__} does not name its decoder layers"
    return layers


def on_ranks(num_ranks: int, function: Callable[..., T], *arguments: Any) -> T:
    """`function(*arguments)` on this rank of a launch; without one in `num_ranks` that are started for it."""
    if num_ranks > 1 and not in_launch():
        found: T = start_ranks(num_ranks, function, *arguments)
        return found
    return function(*arguments)


def start_ranks(num_ranks: int, function: Callable[..., Any], *arguments: Any) -> Any:
    """Run `function(*arguments)` in `num_ranks` processes of this machine as ranks of one world; rank 0's return value.

    A UserError of any rank is raised here as it is. When one rank dies, the others are ended.
    """
    threads = max(1, torch.get_num_threads() // num_ranks)
    # Through files: a pipe that nobody reads before the ranks end would hold a large result, and so the ranks, forever.
    with tempfile.TemporaryDirectory() as folder:
        call = (num_ranks, _free_port(), threads, Path(folder), function, arguments)
        started = torch.multiprocessing.start_processes(
            _rank_main, call, nprocs=num_ranks, join=False, start_method="spawn"
        )
        assert started is not None
        interrupted = False
        while True:
            try:
                if started.join():
                    break
            except KeyboardInterrupt:
                # The ranks got the signal too: they finish their step and save.
                interrupted = True
            except torch.multiprocessing.ProcessExitedException as failure:
                raise _failure(Path(folder), failure) from None
        if interrupted:
            raise KeyboardInterrupt
        return pickle.loads(_result_file(Path(folder), 0).read_bytes())


def _result_file(folder: Path, rank: int) -> Path:
    return folder / f"rank-{rank}"


def _failure(folder: Path, failure: Exception) -> Exception:
    for file in sorted(folder.iterdir()):
        result = pickle.loads(file.read_bytes())
        if isinstance(result, UserError):
            return result
    return RuntimeError(f"a rank died: {failure}. What it printed is above.")


def _rank_main(
    rank: int, size: int, port: int, threads: int, folder: Path, function: Callable[..., Any], arguments: Any
) -> None:
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(size), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    torch.set_num_threads(threads)
    try:
        result = function(*arguments)
        # As plain bytes: tensors would otherwise travel as handles that die with this process.
        if rank == 0:
            _result_file(folder, rank).write_bytes(pickle.dumps(result))
    except UserError as error:
        _result_file(folder, rank).write_bytes(pickle.dumps(error))
        os._exit(USER_ERROR_STATUS)
    except KeyboardInterrupt:
        os._exit(0)
    except BaseException:
        traceback.print_exc(file=sys.stderr)
        sys.stderr.flush()
        os._exit(1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
