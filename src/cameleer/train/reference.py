"""Log-probabilities of a frozen model, computed once, before training: the model need not be in memory after that.

    trees + model -> the same trees with the column "reference": log pi_ref of each target

The same head and layout as in training, so a prompt is computed once for all of its answers and a policy that equals
the reference has log ratios of 0. Trees are taken in runs of ROWS_PER_SHARD, and each run's numbers are kept in the
cache under a digest of all that they depend on: the model's content, the tokens, precision, layout and versions. So a
pass that was killed goes on after its last run, and a later run over the same pairs with other settings of the
objective computes nothing.
"""

import hashlib
import importlib.metadata
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from cameleer.core.artifact import content_digest, package_versions
from cameleer.core.cache import cache_folder
from cameleer.core.digest import digest_json
from cameleer.core.log import console, ticker
from cameleer.model.policy import Policy
from cameleer.train.distributed import World
from cameleer.train.layout import Tree, collate, pack, tree_size

REFERENCE = "reference"
"""The name of the column."""

ROWS_PER_SHARD = 128


@dataclass(frozen=True)
class Reference:
    """A frozen model: its folder, by whose content its numbers are known, and how to get it when they are not.

    `policy` is called on all ranks, and only where something has to be computed.
    """

    folder: Path
    policy: Callable[[], Policy]
    dtype: torch.dtype
    tokens_per_batch: int


def with_reference(trees: Sequence[Tree], reference: Reference, world: World) -> list[Tree]:
    """The trees with the column REFERENCE; on every rank, each of which computes its share."""
    identity = _identity(reference, world) if world.leads else ""
    done: list[Tree] = []
    with ticker("reference", len(trees), shown=world.leads) as progress:
        for start in range(0, len(trees), ROWS_PER_SHARD):
            shard = trees[start : start + ROWS_PER_SHARD]
            file = _file(identity, shard)
            values = world.broadcast(_read(file) if world.leads else None)
            if values is None:
                values = _compute(reference, shard, world)
                if world.leads:
                    _write(file, values)
            done += [_attach(tree, values[part]) for tree, part in zip(shard, _parts(shard), strict=True)]
            progress.advance(len(shard))
    return done


def _identity(reference: Reference, world: World) -> str:
    """What numbers depend on beside the tokens. Layout and versions can move their last digits."""
    return digest_json(
        {
            "model": content_digest(reference.folder),
            "dtype": str(reference.dtype),
            "device": world.device.type,
            "tokens_per_batch": reference.tokens_per_batch,
            "ranks": world.size,
            "versions": {**package_versions(), "cameleer": importlib.metadata.version("cameleer")},
        }
    )


def _file(identity: str, shard: Sequence[Tree]) -> Path:
    digest = hashlib.sha256(identity.encode())
    for tree in shard:
        digest.update(str([(segment.parent, len(segment.ids)) for segment in tree]).encode())
        for segment in tree:
            digest.update(segment.ids.tobytes())
            digest.update(segment.weights.tobytes())
    return cache_folder() / "reference" / f"{digest.hexdigest()}.parquet"


def _parts(shard: Sequence[Tree]) -> Iterator[slice]:
    """Where each tree's targets are among those of the shard."""
    ends = np.cumsum([0] + [_num_targets(tree) for tree in shard]).tolist()
    return (slice(start, end) for start, end in pairwise(ends))


def _num_targets(tree: Tree) -> int:
    return sum(int(np.count_nonzero(segment.weights)) for segment in tree)


@torch.no_grad()
def _compute(reference: Reference, shard: Sequence[Tree], world: World) -> NDArray[np.float32]:
    """Log-probabilities of the shard's targets, tree by tree in their order, the same on every rank."""
    policy = reference.policy()
    training = policy.training
    policy.eval()
    parts = list(_parts(shard))
    values = np.zeros(parts[-1].stop, np.float64)
    bins = pack([tree_size(tree) for tree in shard], reference.tokens_per_batch, multiple_of=world.size)
    for items in bins[world.rank :: world.size]:
        # A rank without trees runs the model all the same: sharded weights are gathered by all ranks together.
        batch = collate([shard[item] for item in items] or shard[:1], 128 if world.device.type == "cuda" else 1)
        logprob_N = policy(batch.to(world.device)).cpu().numpy()
        for item in items:
            count = parts[item].stop - parts[item].start
            values[parts[item]], logprob_N = logprob_N[:count], logprob_N[count:]
    policy.train(training)
    # A sum is what ranks have for gathering: every number is there once, among zeros.
    return np.asarray(world.sum(values.tolist()), np.float32)


def _attach(tree: Tree, values: NDArray[np.float32]) -> Tree:
    """The tree with its targets' values in the column."""
    segments = list(tree)
    for number, segment in enumerate(tree):
        (targets,) = np.nonzero(segment.weights)
        column = np.zeros(len(segment.ids), np.float32)
        column[targets], values = values[: len(targets)], values[len(targets) :]
        segments[number] = replace(segment, columns={**segment.columns, REFERENCE: column})
    return tuple(segments)


def _read(file: Path) -> NDArray[np.float32] | None:
    """The numbers of a shard; None where there are none yet, or a damaged file, which is worth no more than that."""
    try:
        table = pq.read_table(file, page_checksum_verification=True)
    except FileNotFoundError:
        return None
    except (pa.ArrowException, OSError) as failure:
        console.print(f"{file}: damaged, computed again: {failure}", style="yellow")
        return None
    return table["logprobs"].to_numpy()


def _write(file: Path, values: NDArray[np.float32]) -> None:
    """Whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    pq.write_table(pa.table({"logprobs": pa.array(values)}), draft, write_page_checksum=True)
    draft.replace(file)
