"""Splits of datasets of the Hugging Face hub: downloaded into the hub's cache or found there, of a commit that is told.

A revision means the commit that the hub says, and no other is read for it: where the hub refuses one, its library takes
any that it has in its cache, which is an error here.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from cameleer.core.errors import UserError

ROWS_PER_READ = 1024
COMMIT = re.compile("[0-9a-f]{40}")


@dataclass(frozen=True)
class HubSplit:
    """A split to read once. `commit` is what its rows are of; it and `license` are None where nothing says them."""

    num_rows: int
    batches: Iterator[pa.RecordBatch]
    commit: str | None
    license: str | None

    @property
    def rows(self) -> Iterator[dict[str, Any]]:
        return (row for batch in self.batches for row in batch.to_pylist())


def open_split(
    where: str, dataset: str, split: str, revision: str | None = None, config: str | None = None
) -> HubSplit:
    """Open a split of `dataset`, "org/name"; `where` names it in errors.

    Raises UserError for a dataset that the hub does not give, and for a revision in whose place there is another.
    """
    # Here and not above: it takes seconds to load, and only who reads from the hub needs it.
    from datasets import Dataset, load_dataset

    commit, license = _commit_and_license(dataset, revision)
    try:
        table = load_dataset(dataset, config, split=split, revision=commit or revision)
    except Exception as failure:  # The hub's failures have many types and no common one; none of them is ours.
        raise UserError(
            f"{where}: cannot be loaded: {str(failure).strip() or type(failure).__name__}",
            "Check the name, split, config and revision, the network and, for a gated dataset, `hf auth login`. "
            "Without a network, set HF_HUB_OFFLINE=1 to use what was downloaded before at once.",
        ) from None
    assert isinstance(table, Dataset), type(table)
    read = _read_commit(table)
    if read is not None and not (read == commit if commit else _means(dataset, revision, read)):
        name = f"{revision or 'main'} ({commit})" if commit else str(revision)
        raise UserError(
            f"{where}: revision {name} cannot be had; the cache holds {read}.",
            "The hub may have lost it, or the network may be down. Name a revision that is there, best a whole commit.",
        )
    batches = _compact(table.with_format("arrow").iter(batch_size=ROWS_PER_READ))
    return HubSplit(table.num_rows, batches, commit or read, license or table.info.license or None)


def _means(dataset: str, revision: str | None, read: str) -> bool:
    """Whether a revision is known to mean the commit that was read, while the hub cannot be asked."""
    if revision is None or read.startswith(revision):
        return True
    from huggingface_hub.constants import HF_HUB_CACHE

    noted = Path(HF_HUB_CACHE, f"datasets--{dataset.replace('/', '--')}", "refs", revision)
    return noted.is_file() and noted.read_text().strip() == read


def _compact(tables: Iterable[pa.Table]) -> Iterator[pa.RecordBatch]:
    """The batches of tables that are windows on a larger one: another process would be sent all that is behind them."""
    for table in tables:
        for batch in table.to_batches():
            yield pa.ipc.read_record_batch(batch.serialize(), batch.schema)


def _read_commit(table: Any) -> str | None:
    """The commit of the files that a dataset was made from, by where the cache keeps it; None where it does not say."""
    parts = [part for file in table.cache_files for part in Path(file["filename"]).parts]
    return next((part for part in reversed(parts) if COMMIT.fullmatch(part)), None)


def _commit_and_license(dataset: str, revision: str | None) -> tuple[str | None, str | None]:
    """The commit that a dataset's revision means now, and its card's licence; both None where the hub does not say."""
    from huggingface_hub import HfApi

    try:
        info = HfApi().dataset_info(dataset, revision=revision)
    except Exception:  # Offline or refused: loading says which, or finds the dataset in the cache.
        return None, None
    license = info.card_data.get("license") if info.card_data else None
    return info.sha, ", ".join(license) if isinstance(license, list) else license
