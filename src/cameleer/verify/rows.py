"""`cameleer verify`: responses in a JSONL file in, verdicts in another out, line for line."""

import json
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from cameleer.core.errors import UserError, did_you_mean
from cameleer.core.log import console, ticker
from cameleer.verify.pool import Judged, VerifierPool
from cameleer.verify.sandbox.run import announce_protections
from cameleer.verify.verifiers import VERIFIERS

KEYS = ("id", "verifier", "target", "response")
MAX_AHEAD_PER_WORKER = 16
"""Rows read ahead of the slowest: verdicts are written in the order of the rows."""

Row = dict[str, Any]


def verify_rows(
    source: Path, out: Path, num_workers: int | None = None, deadline_seconds: float = 60.0
) -> dict[str, int]:
    """Judge the rows of `source` and write `out`; the number of rows of each outcome.

    A row is {"id", "verifier", "target", "response"}; further keys are ignored. A verdict is {"id", "outcome",
    "score", "detail", "seconds"}, in the order of the rows. All rows are read before the first is judged, a target is
    checked by its verifier when its row's turn comes, and `out` appears whole or not at all. Memory does not grow with
    the number of rows. Raises UserError, with file and line, for a row that is malformed, names no known verifier, or
    has a target that its verifier refuses; and for settings that mean nothing.
    """
    _check(source, out, num_workers, deadline_seconds)
    verifiers = Counter(row["verifier"] for _, row in _read_rows(source))
    if "code" in verifiers:
        announce_protections()
    num_rows = verifiers.total()
    draft = out.with_name(f".{out.name}.draft")
    counts: Counter[str] = Counter()
    try:
        with (
            draft.open("w", encoding="utf-8") as file,
            VerifierPool(num_workers, deadline_seconds) as pool,
            ticker("verify", num_rows) as progress,
        ):
            for row, judged in _judge_in_order(pool, source):
                verdict = judged.verdict
                parts = (row["id"], verdict.outcome.value, verdict.score, verdict.detail, round(judged.seconds, 6))
                line = dict(zip(("id", "outcome", "score", "detail", "seconds"), parts, strict=True))
                file.write(json.dumps(line, default=str) + "\n")
                counts[verdict.outcome.value] += 1
                progress.advance(note=_summary(counts))
        draft.replace(out)
    finally:
        draft.unlink(missing_ok=True)
    console.print(f"{num_rows} rows: {_summary(counts)}; verdicts: {out}", markup=False)
    return dict(counts)


def _check(source: Path, out: Path, num_workers: int | None, deadline_seconds: float) -> None:
    """A UserError for what would only fail once the work is done; makes the folder of `out`."""
    if num_workers is not None and num_workers < 1:
        raise UserError(
            f"The number of workers must be at least 1, but is {num_workers}.", "Leave it out: one per core."
        )
    if not deadline_seconds > 0:
        raise UserError(f"The deadline must be more than 0 seconds, but is {deadline_seconds:g}.")
    if out.resolve() == source.resolve():
        raise UserError(f"{out} would replace the rows that it is made from.", "Name another file with --out.")
    if not source.is_file():
        hint = f"It holds a row in each line, with {', '.join(KEYS)}, and is read twice, so it cannot be a pipe."
        raise UserError(f"There is no file {source}.", hint)
    if out.is_dir():
        raise UserError(f"{out} is a folder.", "Name with --out the file that is to hold the verdicts.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as failure:
        raise UserError(f"{out} cannot be written: {failure}", "Name another file with --out.") from None


def _summary(counts: Counter[str]) -> str:
    return ", ".join(f"{outcome} {count}" for outcome, count in counts.most_common())


def _judge_in_order(pool: VerifierPool, source: Path) -> Iterator[tuple[Row, Judged]]:
    ahead: deque[tuple[int, Row, Future[Judged]]] = deque()
    for number, row in _read_rows(source):
        ahead.append((number, row, pool.submit(row["response"], row["verifier"], row["target"])))
        while ahead and (ahead[0][2].done() or len(ahead) > MAX_AHEAD_PER_WORKER * pool.num_workers):
            yield _next_judged(source, ahead)
    while ahead:
        yield _next_judged(source, ahead)


def _next_judged(source: Path, ahead: deque[tuple[int, Row, Future[Judged]]]) -> tuple[Row, Judged]:
    number, row, future = ahead.popleft()
    try:
        return row, future.result()
    except UserError as error:
        raise UserError(f"{source}, line {number}: {error.what}", error.hint) from None


def _read_rows(source: Path) -> Iterator[tuple[int, Row]]:
    """The rows with their line numbers; empty lines are passed over."""
    try:
        with source.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, _parse_row(line, f"{source}, line {number}")
    except UnicodeDecodeError as error:
        raise UserError(f"{source} is not UTF-8 text: {error}", "Verdicts are made from JSONL files.") from None


def _parse_row(line: str, where: str) -> Row:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where} is not JSON: {error}") from None
    if not isinstance(row, dict):
        raise UserError(f"{where} is no JSON object.", f"A row is an object with {', '.join(KEYS)}.")
    if missing := [key for key in KEYS if key not in row]:
        raise UserError(f"{where} lacks {', '.join(missing)}.", f"A row is an object with {', '.join(KEYS)}.")
    if not isinstance(row["response"], str) or not isinstance(row["verifier"], str):
        raise UserError(f"{where}: response and verifier must be texts.")
    if row["verifier"] not in VERIFIERS:
        known = ", ".join(VERIFIERS)
        hint = did_you_mean(row["verifier"], VERIFIERS)
        raise UserError(f"{where}: unknown verifier '{row['verifier']}'.{hint}", f"Known: {known}.")
    return row
