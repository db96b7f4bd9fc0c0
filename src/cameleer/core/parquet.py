"""Parquet files that others wrote: told by their first bytes, read row by row in bounded memory."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cameleer.core.errors import UserError

PARQUET_MAGIC = b"PAR1"
ROWS_PER_READ = 1024


def is_parquet(path: Path) -> bool:
    """Whether a file begins as Parquet does, whatever its name is."""
    with path.open("rb") as file:
        return file.read(len(PARQUET_MAGIC)) == PARQUET_MAGIC


def parquet_rows(path: Path, where: str) -> Iterator[dict[str, Any]]:
    """The rows as plain values. Raises UserError, which begins with `where`, for a damaged file."""
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(ROWS_PER_READ):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as failure:
        raise UserError(f"{where}: not a readable Parquet file: {failure}") from None
