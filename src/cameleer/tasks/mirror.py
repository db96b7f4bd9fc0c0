"""The mirror: hub datasets as files in a folder of this machine, which is all that benchmarks are read from.

    MIRROR/OWNER/NAME/CONFIG/SPLIT.EXT   or   MIRROR/OWNER/NAME/CONFIG/SPLIT/*.EXT

EXT is parquet, jsonl, json (an array), csv or tsv, gzipped or not. MIRROR is the environment's CAMELEER_MIRROR, else
`mirror` in Cameleer's cache. `cameleer fetch` fills it with the Parquet files that the hub keeps of every dataset, and
beside them SOURCE.json says which revision they are of. A publisher's own files in the same places are read alike: one
dict a row, with the publisher's field names.
"""

import csv
import gzip
import io
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cameleer.core.cache import cache_folder
from cameleer.core.digest import digest_path, read_digest
from cameleer.core.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    from cameleer.core.log import Ticker
    from cameleer.tasks.task import Task

FORMATS = (".parquet", ".jsonl", ".json", ".csv", ".tsv")
CONVERTED = "refs/convert/parquet"
"""The branch in which the hub keeps every dataset as Parquet files, CONFIG/SPLIT/0000.parquet and on."""
SOURCE = "SOURCE.json"
MEBIBYTE = 1 << 20
SHOWN_BYTES = 16 * MEBIBYTE
"""From this size on, the progress of a fetch is shown."""
MAX_FIELD_CHARACTERS = 1 << 30
"""Of a csv file; Python's own limit, 2^17, is less than the longest prompts."""


@dataclass(frozen=True, slots=True)
class DatasetSplit:
    """One split of one configuration of a hub dataset, `repo` being OWNER/NAME."""

    repo: str
    config: str
    split: str

    def __str__(self) -> str:
        return f"{self.repo} ({self.config}, {self.split})"

    @property
    def folder(self) -> Path:
        """Where in the mirror the configuration's files are."""
        return mirror_folder() / self.repo / self.config

    @property
    def draft(self) -> Path:
        """Where an unfinished fetch keeps what it has."""
        return self.folder / f".{self.split}.draft"


def mirror_folder() -> Path:
    """`$CAMELEER_MIRROR`, else `mirror` in Cameleer's cache."""
    given = os.environ.get("CAMELEER_MIRROR")
    return Path(given).expanduser() if given else cache_folder() / "mirror"


def find_files(split: DatasetSplit) -> list[Path]:
    """The files of a split in the mirror, in order; none if the mirror does not have it.

    A UserError where a split is there twice, in two formats or as a file and a folder: nothing says which one is meant.
    """
    if not split.folder.is_dir():
        return []
    single = [path for path in sorted(split.folder.iterdir()) if _stem(path) == split.split and path.is_file()]
    parts = split.folder / split.split
    inside = sorted(parts.iterdir()) if parts.is_dir() else []
    several = [path for path in inside if _stem(path) and path.is_file() and path.name != SOURCE]
    if len(single) + bool(several) > 1:
        places = ", ".join(str(path) for path in (*single, *([parts] if several else [])))
        raise UserError(f"The mirror has {split} more than once: {places}.", "Leave one of them.")
    return single or several


def read_source(split: DatasetSplit) -> dict[str, Any] | None:
    """What SOURCE.json says of a fetched split: repo, config, split, revision, and bytes and SHA-256 of its files.

    None for files that were put there by hand.
    """
    path = split.folder / split.split / SOURCE
    return json.loads(path.read_text("utf-8")) if path.is_file() else None


def content_digest(split: DatasetSplit) -> str:
    """The digest of a split's files, by which results say what they were measured on."""
    return "-".join(digest_path(path)[:16] for path in _files(split))


def read_rows(split: DatasetSplit, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows of a split in order. Every one has the `columns`; more may be there.

    Raises UserError for a split that the mirror lacks, has in part or has without a row, for a file that cannot be read
    and for a row without a column, with file and row.
    """
    empty = True
    for path in _files(split):
        number = 0
        try:
            for number, row in enumerate(_READERS[_format(path)](path), start=1):
                lacking = [column for column in columns if column not in row]
                if lacking:
                    raise UserError(
                        f"{path}: row {number} has no column '{lacking[0]}'; it has {', '.join(row) or 'none'}.",
                        f"It should be {split} as the hub has it: cameleer fetch brings it.",
                    )
                empty = False
                yield row
        except (ValueError, OSError, EOFError, zlib.error, csv.Error) as failure:
            raise UserError(f"{path}: cannot be read after row {number}: {failure}") from None
    if empty:
        raise UserError(f"The mirror's {split} has no rows.", "Delete its files and fetch it again.")


def _files(split: DatasetSplit) -> list[Path]:
    """The files of a split, of which there is at least one and, if they were fetched, none too few or too short."""
    found = find_files(split)
    if not found:
        hint = "Fetch it with `cameleer fetch TASK`, or set CAMELEER_MIRROR to a folder that has it."
        if split.draft.exists():
            hint = "A fetch of it was broken off; `cameleer fetch TASK` takes it up again."
        raise UserError(f"The mirror has no {split}: nothing at {split.folder / split.split}.*", hint)
    source = read_source(split)
    sizes = {path.name: path.stat().st_size for path in found}
    for name, fetched in source["files"].items() if source else ():
        if sizes.get(name) != fetched["bytes"]:
            fault = f"has {sizes[name]:,} bytes in place of {fetched['bytes']:,}" if name in sizes else "is missing"
            raise UserError(
                f"The mirror has only a part of {split}: {found[0].parent / name} {fault}.",
                "Delete the folder and fetch it again.",
            )
    return found


def _format(path: Path) -> str:
    return Path(path.name.removesuffix(".gz")).suffix


def _stem(path: Path) -> str:
    """The name without the ending of a format that can be read; empty for other files."""
    name = path.name.removesuffix(".gz")
    return Path(name).stem if Path(name).suffix in FORMATS and not name.startswith(".") else ""


def _text(path: Path) -> io.TextIOWrapper:
    stream = gzip.GzipFile(path) if path.suffix == ".gz" else path.open("rb")
    # The text stream closes it. csv wants line ends as they are; a byte order mark is no part of the first name.
    return io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")


def _parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(1024):
                yield from batch.to_pylist()
    except pa.ArrowException as failure:
        raise ValueError(str(failure)) from None


def _jsonl_rows(path: Path) -> Iterator[dict[str, Any]]:
    with _text(path) as lines:
        for line in lines:
            if line.strip():
                yield _object(json.loads(line))


def _json_rows(path: Path) -> Iterator[dict[str, Any]]:
    with _text(path) as text:
        rows = json.load(text)
    if not isinstance(rows, list):
        raise ValueError("not a JSON array of rows")
    yield from map(_object, rows)


def _object(row: Any) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise ValueError(f"a row is {type(row).__name__}, not a JSON object")
    return row


def _csv_rows(path: Path, delimiter: str = ",") -> Iterator[dict[str, Any]]:
    csv.field_size_limit(MAX_FIELD_CHARACTERS)
    with _text(path) as text:
        for row in csv.DictReader(text, delimiter=delimiter, strict=True):
            if None in row or None in row.values():
                raise ValueError("a row has more or fewer fields than the first line has names")
            yield row


def _tsv_rows(path: Path) -> Iterator[dict[str, Any]]:
    return _csv_rows(path, "\t")


_READERS: dict[str, Callable[[Path], Iterator[dict[str, Any]]]] = {
    ".parquet": _parquet_rows,
    ".jsonl": _jsonl_rows,
    ".json": _json_rows,
    ".csv": _csv_rows,
    ".tsv": _tsv_rows,
}


def fetch_task(task: "Task") -> list[Path]:
    """Bring all datasets of a task into the mirror and return their files; none for a generated task."""
    return [path for split in task.datasets for path in fetch(split)]


def fetch(split: DatasetSplit) -> list[Path]:
    """Bring a split from the hub into the mirror, whole or not at all, and return its files; those there already stay.

    The hub is that of the environment's HF_ENDPOINT. All files are of one revision. Those that arrived before a failure
    are not brought again. Raises UserError where the hub does not give the split.
    """
    if find_files(split):
        return _files(split)
    from huggingface_hub import HfApi

    hub = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None)
    try:
        revision, entries = _listed(hub, split)
        files = _download(hub, split, revision, entries)
    except UserError:
        raise
    except Exception as failure:  # The hub's failures have many types and no common one; none of them is ours.
        raise _hub_failure(split, failure, hub.endpoint) from None
    return _put(split, revision, files)


def _listed(hub: "HfApi", split: DatasetSplit) -> "tuple[str, list[RepoFile]]":
    """The hub's present revision of a dataset's Parquet files, and those of the split in order."""
    from huggingface_hub.hf_api import RepoFile

    revision = hub.repo_info(split.repo, repo_type="dataset", revision=CONVERTED).sha
    assert revision is not None, split
    tree = hub.list_repo_tree(split.repo, repo_type="dataset", revision=revision, recursive=True)
    found = {entry.path: entry for entry in tree if isinstance(entry, RepoFile) and entry.path.endswith(".parquet")}
    wanted = sorted(path for path in found if path.startswith(f"{split.config}/{split.split}/"))
    if not wanted:
        raise _absence(split, sorted(found))
    return revision, [found[path] for path in wanted]


def _absence(split: DatasetSplit, paths: Sequence[str]) -> UserError:
    """Why none of the hub's Parquet files is of a split, with the names that there are."""
    parts = [path.split("/") for path in paths]
    configs = sorted({part[0] for part in parts})
    splits = sorted({part[1] for part in parts if part[0] == split.config})
    if f"partial-{split.split}" in splits:
        return UserError(
            f"The hub keeps only a part of {split} as Parquet files.",
            f"Put the publisher's own files at {split.folder / split.split}.jsonl (or .csv, .parquet).",
        )
    kind, wanted, known = ("split", split.split, splits) if splits else ("configuration", split.config, configs)
    return UserError(
        f"The hub's Parquet files of {split.repo} have no {kind} '{wanted}'.{did_you_mean(wanted, known)}",
        f"They have: {', '.join(known) or 'none'}.",
    )


def _download(hub: "HfApi", split: DatasetSplit, revision: str, entries: "Sequence[RepoFile]") -> list[Path]:
    """The files in the split's draft folder, with the sizes and, where the hub states them, the digests of the hub."""
    from cameleer.core.log import ticker

    total = sum(entry.size for entry in entries)
    files: list[Path] = []
    with ticker(f"fetch {split}", _mebibytes(total), shown=total >= SHOWN_BYTES) as shown:
        progress = _Progress(shown)
        for entry in entries:
            name = hub.hf_hub_download(
                split.repo,
                entry.path,
                repo_type="dataset",
                revision=revision,
                local_dir=split.draft,
                tqdm_class=_bar(progress),
            )
            files.append(_checked(Path(name), entry))
            progress.reach(sum(file.stat().st_size for file in files))
    return files


def _checked(file: Path, entry: "RepoFile") -> Path:
    size = file.stat().st_size
    if size != entry.size or (entry.lfs is not None and read_digest(file) != entry.lfs.sha256):
        file.unlink()
        raise UserError(f"{entry.path} arrived damaged, with {size:,} of {entry.size:,} bytes.", "Fetch it again.")
    return file


def _mebibytes(count: int) -> int:
    return -(-count // MEBIBYTE)


class _Progress:
    """Bytes that arrive, shown in MiB."""

    def __init__(self, shown: "Ticker") -> None:
        self._shown, self._bytes = shown, 0

    def add(self, count: int) -> None:
        self.reach(self._bytes + count)

    def reach(self, count: int) -> None:
        """So many bytes are there, fetched now or before."""
        self._shown.advance(_mebibytes(count) - _mebibytes(self._bytes))
        self._bytes = count


def _bar(progress: _Progress) -> type:
    """A progress bar for the hub's library that shows nothing itself and passes on what arrives."""
    from tqdm.auto import tqdm

    class Bar(tqdm):  # type: ignore[type-arg]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "disable": True})

        def update(self, n: float | None = 1) -> bool | None:
            progress.add(int(n or 0))

    return Bar


def _hub_failure(split: DatasetSplit, failure: Exception, endpoint: str) -> UserError:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    if isinstance(failure, GatedRepoError):
        return UserError(
            f"{split} is gated: the hub gives it to those who accepted its terms.",
            f"Accept them at {endpoint}/datasets/{split.repo}, then run `hf auth login` or set HF_TOKEN.",
        )
    if isinstance(failure, RepositoryNotFoundError):
        return UserError(
            f"The hub has no dataset {split.repo} for you.", "It may be private: run `hf auth login` or set HF_TOKEN."
        )
    if isinstance(failure, RevisionNotFoundError):
        return UserError(
            f"The hub keeps no Parquet files of {split.repo}.",
            f"Put the publisher's own files at {split.folder / split.split}.jsonl (or .csv, .parquet).",
        )
    return UserError(
        f"{split} cannot be fetched from {endpoint}: {str(failure).strip() or type(failure).__name__}",
        "What has arrived is kept. Check the network and run the same command again.",
    )


def _put(split: DatasetSplit, revision: str, files: Sequence[Path]) -> list[Path]:
    """Move the files into the mirror with a record of where they come from, in one step."""
    whole = split.draft / "whole"
    shutil.rmtree(whole, ignore_errors=True)
    whole.mkdir()
    contents = {file.name: {"bytes": file.stat().st_size, "sha256": read_digest(file)} for file in files}
    source = {**asdict(split), "revision": revision, "files": contents}
    (whole / SOURCE).write_text(json.dumps(source, indent=2) + "\n", "utf-8")
    for file in files:
        file.rename(whole / file.name)
    # What is left of a copy whose files were deleted: only its record.
    shutil.rmtree(split.folder / split.split, ignore_errors=True)
    whole.rename(split.folder / split.split)
    shutil.rmtree(split.draft)
    return _files(split)
