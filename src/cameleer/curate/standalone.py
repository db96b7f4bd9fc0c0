"""`cameleer decontaminate`: files and hub datasets against files and tasks, without a recipe.

    overlaps.jsonl    every overlap (`decontaminate`)
    clean.NAME.*      the rows of a training source that may stay, with all columns: Parquet of Parquet, else JSONL
    summary.json      the certificate (`decontaminate.certificate`), and the rows that could not be read

The user turns of a row are those of its list of turns (`messages`, `conversations`, `conversation`, `prompt` or
`chosen`), else the text of its `prompt`, `instruction`, `question`, `problem` or `query`, to an instruction or a
question that of its `input` or `context` too. Columns that are named take the place of all that; of an evaluation each
is a field. A row without any is no row to vouch for: it is named in the summary and not in `clean`.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path, PurePath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cameleer.core.artifact import write_json
from cameleer.core.errors import UserError
from cameleer.core.log import console
from cameleer.core.parquet import ROWS_PER_READ, is_parquet
from cameleer.core.processes import Executor
from cameleer.core.web import fetch, is_address
from cameleer.curate.config import Decontaminate, MatchMode, Policy, Source
from cameleer.curate.decontaminate import (
    OVERLAPS,
    Evaluations,
    Overlaps,
    TrainingRow,
    add_task,
    announce,
    certificate,
    compare,
    exclusions,
    make_finder,
    whole_exclusion,
)
from cameleer.curate.formats import INPUT_COLUMNS, ROLE_NAMES, Format, RowError, own_id
from cameleer.curate.overlap import Item
from cameleer.curate.sources import Row, open_source
from cameleer.curate.take import default_id

SUMMARY = "summary.json"
TURN_COLUMNS = ("messages", "conversations", "conversation", "prompt", "chosen")
TEXT_COLUMNS = ("prompt", "instruction", "question", "problem", "query")
MAX_NAMED_ROWS = 5


@dataclass(frozen=True)
class Request:
    """What to compare: files or hub datasets (org/name, org/name@revision), against those or tasks.

    Files and datasets are named by themselves, or as in NAME=FILE.
    """

    train: Sequence[str]
    evaluations: Sequence[str]
    train_columns: Sequence[str] = ()
    eval_columns: Sequence[str] = ()
    num_workers: int = 1
    executor: Executor = Executor.LOCAL


@dataclass
class _Unreadable:
    """Rows without a prompt: how many by reason, and the numbers of the first."""

    rows: defaultdict[str, list[int]] = field(default_factory=lambda: defaultdict(list))

    def facts(self) -> dict[str, Any]:
        return {
            reason: {"rows": len(numbers), "first": numbers[:MAX_NAMED_ROWS]} for reason, numbers in self.rows.items()
        }


def decontaminate(request: Request, rules: Decontaminate, out: Path) -> dict[str, Any]:
    """Compare, write the three kinds of file to `out`, and return the summary.

    Raises UserError for what cannot be opened, and for a source or an evaluation without a row that can be read.
    """
    sources = _sources(request.train)
    evaluations = Evaluations()
    for name, source in _evaluations(request.evaluations).items():
        if source is None:
            add_task(evaluations, name, rules.num_generated, 0)
        else:
            evaluations.add(name, list(_items(name, source, request.eval_columns)), {"file": source.file})
    finder = make_finder(rules, evaluations, _embedding_model(rules), request.num_workers, request.executor)
    index = finder.index
    out.mkdir(parents=True, exist_ok=True)
    found: list[Overlaps] = []
    unreadable: dict[str, dict[str, Any]] = {}
    with (out / OVERLAPS).open("w", encoding="utf-8") as file, finder:
        for source in sources:
            bad = _Unreadable()
            rows = _training_rows(source, request.train_columns, bad)
            overlaps = compare(source.name, rows, finder, rules.max_overlap, file)
            _require_rows(source, overlaps.num_rows, bad)
            announce(overlaps, index, rules.policy)
            found.append(overlaps)
            unreadable[source.name] = bad.facts()
            gone = {*exclusions(overlaps, index, rules.policy), *chain.from_iterable(bad.rows.values())}
            whole = whole_exclusion(overlaps, index, rules.policy) is not None
            if rules.policy is not Policy.REPORT and not whole:
                write_clean(source, out, lambda number, gone=gone: number not in gone)
    summary = {**certificate(rules, evaluations, index, found), "unreadable": unreadable}
    write_json(out / SUMMARY, summary)
    console.print(f"{OVERLAPS}, {SUMMARY}: {out}", markup=False)
    return summary


def _embedding_model(rules: Decontaminate) -> Path | None:
    if rules.mode is not MatchMode.EMBEDDING:
        return None
    from cameleer.model.source import resolve_model

    return resolve_model(rules.embedding_model)


def _sources(specs: Sequence[str]) -> list[Source]:
    sources = [source_of(spec) for spec in specs]
    names = [source.name for source in sources]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"two training sources are named '{twice}'.", "Name them yourself: NAME=FILE.")
    return sources


def _evaluations(specs: Sequence[str]) -> dict[str, Source | None]:
    """The evaluations by name; None stands for a task."""
    found: dict[str, Source | None] = {}
    for spec in specs:
        source = source_of(spec) if _is_data(spec) else None
        name = source.name if source else spec
        if name in found:
            raise UserError(f"two evaluations are named '{name}'.", "Name them yourself: NAME=FILE.")
        found[name] = source
    return found


def _is_data(spec: str) -> bool:
    """Whether a spec means a file or a hub dataset, not a task."""
    return "=" in spec or Path(spec).exists() or "/" in spec or PurePath(spec).suffix != ""


def source_of(spec: str) -> Source:
    """The file or hub dataset that a spec means. Raises UserError for what is neither."""
    name, place = _named_place(spec)
    if Path(place).is_file() or is_address(place):
        return Source.parse({"file": place, "name": name or None}, where=spec)
    dataset, _, revision = place.partition("@")
    if dataset.count("/") == 1 and PurePath(place).suffix == "" and not Path(place).exists():
        return Source.parse({"dataset": dataset, "revision": revision or None, "name": name or None}, where=spec)
    raise UserError(f"{spec}: no such file.", "A hub dataset is given as org/name or org/name@revision.")


def _named_place(spec: str) -> tuple[str, str]:
    """Both parts of NAME=PLACE; the name is empty where there is none. Paths and addresses may hold such signs too."""
    name, sign, place = spec.partition("=")
    return (name, place) if sign and not Path(spec).exists() and not is_address(spec) else ("", spec)


def _rows(source: Source) -> Iterator[Row]:
    return open_source(source, _local(source), None, 0).rows


def _local(source: Source) -> Path | None:
    """The file of a source on this machine; None for a hub dataset."""
    if source.file is None:
        return None
    return fetch(source.file) if is_address(source.file) else Path(source.file)


def _training_rows(source: Source, columns: Sequence[str], bad: _Unreadable) -> Iterator[TrainingRow]:
    for row in _rows(source):
        try:
            turns = _texts(row, columns)
        except RowError as error:
            bad.rows[error.reason].append(row.number)
            continue
        yield TrainingRow(row.number, _id(source, row), turns)


def _items(name: str, source: Source, columns: Sequence[str]) -> Iterator[Item]:
    """The items of a file; every row must be one, for none may go unchecked."""
    for row in _rows(source):
        try:
            yield Item(name, _id(source, row), tuple(_texts(row, columns)))
        except RowError as error:
            raise UserError(
                f"{source.file or source.dataset}: row {row.number}: {error.reason}.",
                "Say which columns hold the item's texts: --eval-field COLUMN, once for each.",
            ) from None


def _id(source: Source, row: Row) -> str:
    return own_id(row.value or {}, Format()) or default_id(source.name, row.number)


def _texts(row: Row, columns: Sequence[str]) -> list[str]:
    """The texts of a row that are compared. Raises RowError where it has none."""
    if row.value is None:
        raise RowError(row.problem)
    texts = _named(row.value, columns) if columns else user_turns(row.value)
    if not any(text.strip() for text in texts):
        raise RowError("no prompt")
    return texts


def _named(row: Mapping[str, Any], columns: Sequence[str]) -> list[str]:
    """The texts of some columns; of a list of turns those of the user. Null counts as empty."""
    texts: list[str] = []
    for column in columns:
        if column not in row:
            raise RowError(f"no column '{column}'")
        value = row[column] if row[column] is not None else ""
        texts += [value] if isinstance(value, str) else _of_turns(value, column)
    return texts


def user_turns(row: Mapping[str, Any]) -> list[str]:
    """The user turns of a row in one of the common formats. Raises RowError where it has none."""
    for column in TURN_COLUMNS:
        if isinstance(row.get(column), list):
            return _of_turns(row[column], column)
    for column in TEXT_COLUMNS:
        if isinstance(row.get(column), str):
            beside = INPUT_COLUMNS if column in ("instruction", "question") else ()
            extra = next((value for name in beside if isinstance(value := row.get(name), str) and value), None)
            return [row[column] if extra is None else f"{row[column]}\n\n{extra}"]
    raise RowError("no column with a prompt")


def _of_turns(turns: Any, column: str) -> list[str]:
    texts: list[str] = []
    for turn in turns if isinstance(turns, list) else [None]:
        if not isinstance(turn, dict):
            raise RowError(f"'{column}' is not a list of turns")
        role, text = turn.get("role") or turn.get("from"), turn.get("content", turn.get("value"))
        if ROLE_NAMES.get(str(role).lower()) == "user":
            if not isinstance(text, str):
                raise RowError("content is not text")
            texts.append(text)
    return texts


def _require_rows(source: Source, num_rows: int, bad: _Unreadable) -> None:
    """Name the rows that could not be read; a source without any other is an error."""
    where = source.file or source.dataset
    for reason, numbers in bad.rows.items():
        first = ", ".join(map(str, numbers[:MAX_NAMED_ROWS]))
        console.print(f"{where}: {len(numbers)} rows left out: {reason} (row {first})", markup=False)
    if num_rows == 0:
        raise UserError(
            f"{where}: no row has a prompt.", "Say which columns hold it: --train-field COLUMN, once for each."
        )


# --- clean ---


def write_clean(source: Source, out: Path, stays: Callable[[int], bool]) -> Path:
    """Write the rows of a source whose numbers may stay, whole or not at all."""
    path = _local(source)
    parquet = path if path is not None and is_parquet(path) else None
    target = out / f"clean.{source.name.replace('/', '-')}.{'jsonl' if parquet is None else 'parquet'}"
    draft = target.with_name(f".{target.name}.draft")
    if parquet is not None:
        _copy_parquet(parquet, draft, stays)
    else:
        with draft.open("w", encoding="utf-8") as file:
            for row in _rows(source):
                if row.value is not None and stays(row.number):
                    # Times, which hub datasets may hold, as text: JSON has none.
                    file.write(json.dumps(row.value, ensure_ascii=False, default=str) + "\n")
    draft.replace(target)
    return target


def _copy_parquet(path: Path, draft: Path, stays: Callable[[int], bool]) -> None:
    number = 0
    with pq.ParquetFile(path) as file, pq.ParquetWriter(draft, file.schema_arrow, compression="zstd") as writer:
        for batch in file.iter_batches(ROWS_PER_READ):
            mask = [stays(number + place) for place in range(1, batch.num_rows + 1)]
            number += batch.num_rows
            writer.write_batch(batch.filter(pa.array(mask, pa.bool_())))
