"""Checkpoints: parameters, optimizer state and the step, whole or absent, verified when read.

    <folder>/step-000040/  data of torch.distributed.checkpoint   digests.json

Nothing else is needed to go on exactly: the order of rows is a function of seed and step, and each step seeds its
own random numbers. The format is sharded, so a run may go on with another number of ranks. Only trained parameters are
kept.
"""

import json
import os
import shutil
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict

from cameleer.core.artifact import write_json
from cameleer.core.digest import read_digest
from cameleer.core.errors import UserError
from cameleer.train.distributed import World

DIGESTS = "digests.json"
Optimizers = list[torch.optim.Optimizer]
_OPTIONS = StateDictOptions(ignore_frozen_params=True, strict=False)


def save_checkpoint(folder: Path, step: int, model: nn.Module, optimizers: Optimizers, world: World) -> None:
    """Write the checkpoint of `step` finished steps beside its place, rename it in, then remove the others."""
    target, draft = folder / f"step-{step:06d}", folder / ".draft"
    if world.leads:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
    world.barrier()
    with _quiet():
        dcp.save(_state(model, optimizers), checkpoint_id=draft, no_dist=world.size == 1)
    world.barrier()
    if world.leads:
        write_json(draft / DIGESTS, {file.name: read_digest(file) for file in sorted(draft.iterdir())})
        shutil.rmtree(target, ignore_errors=True)
        os.replace(draft, target)
        for other in _checkpoints(folder):
            if other != target:
                shutil.rmtree(other)
    world.barrier()


def load_checkpoint(folder: Path, model: nn.Module, optimizers: Optimizers, world: World) -> int:
    """Restore the newest checkpoint in place; the number of finished steps, 0 where there is none.

    Raises UserError for a checkpoint whose bytes are not those that were written.
    """
    found = _checkpoints(folder)
    if not found:
        return 0
    newest = found[-1]
    problem = world.broadcast(_damage(newest) if world.leads else None)
    if problem:
        raise UserError(
            f"{newest}: corrupted checkpoint: {problem}.", f"Delete {newest.parent} to train this stage anew."
        )
    state = _state(model, optimizers)
    with _quiet():
        dcp.load(state, checkpoint_id=newest, no_dist=world.size == 1)
    set_state_dict(
        model, optimizers, model_state_dict=state["model"], optim_state_dict=state["optimizer"], options=_OPTIONS
    )
    return int(newest.name.removeprefix("step-"))


@contextmanager
def _quiet() -> Generator[None]:
    """Without the warning that a single process is a single process."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield


def _state(model: nn.Module, optimizers: Optimizers) -> dict[str, Any]:
    fresh = [optimizer for optimizer in optimizers if not optimizer.state]
    model_state, optimizer_state = get_state_dict(model, optimizers, options=_OPTIONS)
    if fresh:
        # An optimizer that has taken no step was made to take one, which moves nothing but is counted: its next would
        # be corrected for a bias that it does not have.
        for kept in (kept for optimizer in fresh for kept in optimizer.state.values()):
            kept["step"].zero_()
        model_state, optimizer_state = get_state_dict(model, optimizers, options=_OPTIONS)
    return {"model": model_state, "optimizer": optimizer_state}


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"))


def _damage(checkpoint: Path) -> str | None:
    """What is wrong with the files of a checkpoint, or None."""
    try:
        digests: dict[str, str] = json.loads((checkpoint / DIGESTS).read_text())
    except (OSError, ValueError) as failure:
        return f"{DIGESTS} cannot be read ({failure})"
    for name, digest in digests.items():
        file = checkpoint / name
        if not file.exists():
            return f"{name} is missing"
        if read_digest(file) != digest:
            return f"{name} has other bytes than were written"
    return None
