"""Mixing at scale: counts exact to the row, the same bytes under any number of processes, time and peak memory.

    .venv/bin/python benchmarks/mixing.py [--rows 1000000] [--sources 20] [--processes 1 2] [--folder FOLDER]

The sources are made here: conversations of pseudo-random words, about `--characters` each, in JSONL and Parquet by
turns, some rows of each equal to earlier ones, some broken, some changed by a rule. One mixture is shared out by
weights, one source is upsampled and one stratified. Every curation runs in a process of its own, whose largest resident
set is reported; with several processes the sum of all of them at their largest too. Fails where

    a source does not give exactly the rows of its share, by `share_out` and by the file that was written
    two numbers of processes do not give the same mixture, byte for byte
    the memory reaches 2 GB
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cameleer.core.digest import read_digest
from cameleer.core.mixture import MIXTURE
from cameleer.core.stage import StageRun
from cameleer.curate.config import CurateConfig
from cameleer.curate.run import run
from protocol import peak_rss_bytes

MAX_BYTES = 2_000_000_000
ROWS_PER_GROUP = 10_000
POOL = 20_000
SPARE = 1.25
"""Rows made for each that is asked for, so that samples are samples."""


def conversations(name: str, count: int, characters: int) -> Iterator[dict[str, Any]]:
    draw = random.Random(name)
    words = [f"{name[-1]}{draw.randrange(10**6):x}" for _ in range(POOL)]
    size = max(characters // 16, 4)
    turns: list[tuple[str, str]] = []
    for number in range(count):
        kind = number % 50
        if kind != 7:
            place = draw.randrange(POOL - size)
            answer = " ".join(words[place : place + size])
            turns = [("user", f"{name} {number} {answer}"), ("assistant", answer)]
        if kind == 9:
            turns[1] = ("assistant", "")
        if kind == 11:
            turns[1] = ("assistant", f"cafe\u0301 {turns[1][1]}")
        messages = [{"role": role, "content": content} for role, content in turns]
        yield {"id": f"{name}-{number}", "skill": ("maths", "code", "chat")[number % 3], "messages": messages}


def make_sources(folder: Path, num_sources: int, num_rows: int, characters: int) -> list[dict[str, Any]]:
    """Files, and the tables that curate them by weights 1, 2, 3, 1, 2, 3, ..."""
    weights = [1 + place % 3 for place in range(num_sources)]
    tables: list[dict[str, Any]] = []
    for place, weight in enumerate(weights):
        name = f"source{place:02}"
        count = round(num_rows * weight / sum(weights) * (0.6 if place == 0 else SPARE)) + 10
        path = folder / f"{name}.{'jsonl' if place % 2 else 'parquet'}"
        table: dict[str, Any] = {"name": name, "file": path.name, "weight": weight}
        if place == 0:
            table["upsample"] = True
        if place == 1:
            table["stratify"] = "skill"
        tables.append(table)
        if not path.exists():
            write(path, conversations(name, count, characters))
    return tables


def write(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    if path.suffix == ".jsonl":
        with path.open("w") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
        return
    schema = pa.schema(
        [("id", pa.string()), ("skill", pa.string()), ("messages", MIXTURE.schema.field("messages").type)]
    )
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        group: list[dict[str, Any]] = []
        for row in rows:
            group.append(row)
            if len(group) == ROWS_PER_GROUP:
                writer.write_batch(pa.RecordBatch.from_pylist(group, schema))
                group = []
        if group:
            writer.write_batch(pa.RecordBatch.from_pylist(group, schema))


def config_of(tables: list[dict[str, Any]], num_rows: int, num_processes: int) -> CurateConfig:
    settings = {"num_rows": num_rows, "num_processes": num_processes, "rules": {"unicode": True, "max_words": 10_000}}
    return CurateConfig.parse({"sources": tables, **settings}, "curate")


def curate(folder: Path, out: Path, tables: list[dict[str, Any]], num_rows: int, num_processes: int) -> None:
    """One curation in this process; prints what it took."""
    config = config_of(tables, num_rows, num_processes)
    files = {each.role: folder / each.reference for each in config.inputs()}
    started = time.monotonic()
    outcome = run(config, StageRun("curate", out, files, "model", 0))
    facts = {"seconds": time.monotonic() - started, "bytes": peak_rss_bytes(), "read": 0}
    facts["read"] = sum(each["read"] for each in outcome.counts["sources"].values())
    facts["dropped"] = outcome.counts["dropped"]
    print(json.dumps(facts))


def tree_bytes(pid: int) -> int:
    """The resident sets of a process and of those below it; memory that they share is counted for each."""
    total = 0
    for process in (pid, *children(pid)):
        try:
            total += int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError):
            continue
    return total


def children(pid: int) -> list[int]:
    try:
        direct = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return direct + [further for child in direct for further in children(child)]


def measured(arguments: list[str]) -> dict[str, Any]:
    """What a curation in a process of its own took."""
    most = 0
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        while process.poll() is None:
            most = max(most, tree_bytes(process.pid))
            time.sleep(0.2)
        assert process.stdout is not None
        text = process.stdout.read()
    if process.returncode != 0:
        sys.exit(f"a curation failed: {' '.join(arguments)}")
    return {**json.loads(text), "all_bytes": most}


def check_counts(folder: Path, tables: list[dict[str, Any]], num_rows: int) -> bool:
    config = config_of(tables, num_rows, 1)
    expected = {each.name: share for each, share in zip(config.sources, config.row_counts(), strict=True)}
    column = pq.ParquetFile(folder / MIXTURE.name).read(["source"]).column("source")
    found = Counter({each["values"]: each["counts"] for each in column.value_counts().to_pylist()})
    return found == expected and found.total() == num_rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--sources", type=int, default=20)
    parser.add_argument("--characters", type=int, default=800)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--folder", type=Path, help="where files go and stay; a temporary folder without")
    parser.add_argument("--once", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        tables = make_sources(folder, options.sources, options.rows, options.characters)
        if options.once is not None:
            curate(folder, folder / str(options.once), tables, options.rows, options.once)
            return
        print(f"{options.sources} sources made in {time.monotonic() - started:.0f} s", flush=True)
        given = ["--rows", options.rows, "--sources", options.sources, "--characters", options.characters]
        digests: set[str] = set()
        for count in options.processes:
            (folder / str(count)).mkdir(exist_ok=True)
            arguments = [sys.executable, __file__, *map(str, given), "--folder", str(folder), "--once", str(count)]
            facts = measured(arguments)
            digest = read_digest(folder / str(count) / MIXTURE.name)
            digests.add(digest)
            print(f"{count} process{'es' * (count > 1)}: {facts['read']:,} rows read, {facts['dropped']:,} dropped, "
                  f"{options.rows:,} mixed in {facts['seconds']:.0f} s, at most {facts['bytes'] / 1e6:,.0f} MB, "
                  f"all together {facts['all_bytes'] / 1e6:,.0f} MB; SHA-256 {digest[:12]}", flush=True)  # fmt: skip
            if not check_counts(folder / str(count), tables, options.rows):
                sys.exit("counts are not what was asked for")
            if max(facts["bytes"], facts["all_bytes"]) >= MAX_BYTES:
                sys.exit("more than 2 GB")
        if len(digests) > 1:
            sys.exit("mixtures differ")
        print("counts exact, mixtures equal byte for byte")


if __name__ == "__main__":
    main()
