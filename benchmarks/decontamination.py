"""Decontamination: what it finds beside the definition, and how fast, beside plain Python.

    .venv/bin/python benchmarks/decontamination.py --data FOLDER [--parts exact speed memory chats]

FOLDER holds the publishers' own files, a folder for each (gsm8k, math, mmlu, ...). Four parts:

    exact    every pair of a training set and an evaluation below, with planted copies of the evaluation's items in the
             training set (verbatim, a number edited, halves in another order, other case and punctuation, cut at the
             border of two turns): overlaps found against those that a straightforward check of the definition finds.
             Anything but the same pairs with the same shares fails.
    speed    tokens of training text per second, one process and two, against an index of all evaluations; the
             training sets repeated with their words shuffled within sentences, so that the text is as natural text is
             and little of it overlaps. The check of `exact` beside it, on fewer rows.
    memory   the peak of this process after the index of all evaluations was made, and the same index grown to
             `--regime` tokens of test text.
    chats    a million conversations of the training sets' lengths, made up on the way: seconds, two processes.
"""

import argparse
import csv
import gzip
import json
import random
import re
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from cameleer.curate.overlap import CHARACTERS_SENT, Finder, Index, Item, find_matches
from protocol import peak_rss_bytes

SEPARATORS = re.compile(r'[\s\0,.?!:;()"\\-]+')
Prompts = list[list[str]]


def rows(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as text:
        return json.load(text) if path.name.removesuffix(".gz").endswith(".json") else list(map(json.loads, text))


def prompts_of(path: Path, *columns: str) -> Prompts:
    """One turn a row: the texts of its columns."""
    found: Prompts = []
    for row in rows(path):
        values = [row[column] for column in columns if row.get(column)]
        found.append(["\n".join(map(str, values))])
    return found


def self_instruct(path: Path) -> Prompts:
    """The instruction, and the input of its first instance under it."""
    return [[f"{row['instruction']}\n\n{row['instances'][0]['input']}"] for row in rows(path)]


def items_of(task: str, path: Path, *columns: str) -> list[Item]:
    return [
        Item(task, str(number), tuple(str(row[column] or "") for column in columns))
        for number, row in enumerate(rows(path))
    ]


def mmlu(folder: Path) -> list[Item]:
    found: list[Item] = []
    for path in sorted(folder.glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as lines:
            found += [Item("mmlu", f"{path.stem}/{number}", (row[0],)) for number, row in enumerate(csv.reader(lines))]
    return found


def bbh(folder: Path) -> list[Item]:
    return [
        Item("bbh", f"{path.stem}/{number}", (row["input"],))
        for path in sorted(folder.glob("*.json"))
        for number, row in enumerate(json.loads(path.read_text("utf-8"))["examples"])
    ]


def drop(path: Path) -> list[Item]:
    return [
        Item("drop", str(number), (row["doc"]["passage"], row["doc"]["question"]))
        for number, row in enumerate(rows(path))
    ]


def agieval(folder: Path) -> list[Item]:
    """Passage and question, of which the passage is often empty."""
    paths = sorted(folder.glob("*.jsonl"))
    return [item for path in paths for item in items_of("agieval", path, "passage", "question")]


def evaluations(data: Path) -> dict[str, list[Item]]:
    return {
        "gsm8k": items_of("gsm8k", data / "gsm8k/test.jsonl", "question"),
        "math": items_of("math", data / "math/test.jsonl", "problem"),
        "alpaca-eval": items_of("alpaca-eval", data / "alpaca_eval/alpaca_eval.jsonl", "instruction"),
        "ifeval": items_of("ifeval", data / "ifeval/input_data.jsonl", "prompt"),
        "humaneval": items_of("humaneval", data / "humaneval/HumanEval.jsonl.gz", "prompt"),
        "mmlu": mmlu(data / "mmlu/test"),
        "mmlu-pro": items_of("mmlu-pro", data / "mmlu_pro/test.jsonl", "question"),
        "bbh": bbh(data / "bbh"),
        "drop": drop(next((data / "olmes_requests").glob("drop*.jsonl.gz"))),
        "agieval": agieval(data / "agieval"),
    }


def training_sets(data: Path) -> dict[str, Prompts]:
    scaler = [prompts_of(path, "prompt") for path in sorted((data / "deepscaler_difficulty").glob("*.json"))]
    return {
        "gsm8k train": prompts_of(data / "gsm8k/train.jsonl", "question"),
        "deepscaler": [row for part in scaler for row in part],
        "self-instruct": self_instruct(data / "self_instruct/user_oriented_instructions.jsonl"),
        "alpaca": prompts_of(data / "alpaca/alpaca_5000.json", "instruction", "input"),
        "code alpaca": prompts_of(data / "code_alpaca/code_alpaca_2k.json", "instruction", "input"),
        "gpteacher": prompts_of(data / "gpteacher/codegen-instruct.json", "instruction", "input"),
        "math train": prompts_of(data / "math/train_partial.jsonl", "problem"),
    }


PAIRS = (
    ("gsm8k train", "gsm8k"),
    ("deepscaler", "math"),
    ("math train", "math"),
    ("self-instruct", "alpaca-eval"),
    ("alpaca", "ifeval"),
    ("code alpaca", "humaneval"),
    ("gpteacher", "bbh"),
    ("alpaca", "mmlu"),
    ("alpaca", "drop"),
    ("deepscaler", "agieval"),
)


def planted(items: Sequence[Item], draw: random.Random, count: int = 60) -> Prompts:
    """Copies of some items in every disguise that the issue of decontamination knows."""
    made: Prompts = []
    for item in draw.sample(list(items), min(count, len(items))):
        text = " ".join(filter(None, item.fields))
        cut = text.split()
        half = len(cut) // 2
        halves = [" ".join(cut[:half]), " ".join(cut[half:])]
        made += [
            [text],
            [f"Please help: {text}\nThank you."],
            [re.sub(r"\d+", lambda digits: str(int(digits[0]) + 1), text, flags=re.ASCII)],
            [" ".join(reversed(halves))],
            [text.upper().replace(".", " -- ").replace(",", " ; ")],
            halves,
            [halves[0]],
            [halves[1]],
            [" ".join(cut[: half + 1])],
            [" ".join(draw.sample(cut, len(cut)))],
        ]
    return made


# --- the definition ---


def tokens(text: str) -> list[str]:
    return [token for token in SEPARATORS.split(text.lower()) if token]


class Straightforward:
    """The definition in plain Python: a dict from n-gram to its places, and a set of tokens for each item it meets."""

    def __init__(self, items: Sequence[Item]) -> None:
        self._fields = [[cut for field in item.fields if (cut := tokens(field))] for item in items]
        self._places: defaultdict[tuple[str, ...], list[tuple[int, int, int]]] = defaultdict(list)
        for number, fields in enumerate(self._fields):
            for which, field in enumerate(fields):
                for start in range(len(field) - 7):
                    self._places[tuple(field[start : start + 8])].append((number, which, start))

    def overlaps(self, prompts: Sequence[Sequence[str]]) -> dict[tuple[int, int], Fraction]:
        found: dict[tuple[int, int], Fraction] = {}
        for row, prompt in enumerate(prompts):
            covered: defaultdict[tuple[int, int], set[int]] = defaultdict(set)
            for turn in map(tokens, prompt):
                for start in range(len(turn) - 7):
                    for number, which, place in self._places.get(tuple(turn[start : start + 8]), ()):
                        covered[number, which].update(range(place, place + 8))
            shares: defaultdict[int, Fraction] = defaultdict(Fraction)
            for (number, which), some in covered.items():
                fields = self._fields[number]
                shares[number] += Fraction(len(some), len(fields[which])) / len(fields)
            found |= {(row, number): share for number, share in shares.items() if 2 * share > 1}
        return found


# --- the parts ---


def check_exact(trains: dict[str, Prompts], evals: dict[str, list[Item]]) -> bool:
    print("exact: training set, evaluation, rows, planted, overlaps by definition, found, wrong, missed")
    same = True
    for train, task in PAIRS:
        copies = planted(evals[task], random.Random(f"{train}/{task}"))
        prompts = trains[train] + copies
        expected = {place: float(share) for place, share in Straightforward(evals[task]).overlaps(prompts).items()}
        found = {(match.row, match.item): match.share for match in find_matches(Index(evals[task]), prompts)}
        wrong, missed = len(found.items() - expected.items()), len(expected.items() - found.items())
        natural = len({item for row, item in expected if row < len(trains[train])})
        counts = f"{len(prompts):6} {len(copies):5} {len(expected):6} {len(found):6} {wrong} {missed}"
        print(f"  {train:14} {task:12} {counts}   ({natural} of {len(evals[task])} items without the planted rows)")
        same &= found == expected
    return same


def natural_text(trains: dict[str, Prompts], draw: random.Random) -> Iterator[list[str]]:
    """The training sets over and over; from the second time on each turn's sentences are in another order."""
    every = [prompt for prompts in trains.values() for prompt in prompts]
    while True:
        for prompt in every:
            cut = [turn.split(". ") for turn in prompt]
            yield [". ".join(draw.sample(sentences, len(sentences))) for sentences in cut]


def measured(index: Index, prompts: Prompts, num_tokens: int, workers: int) -> str:
    begun = time.monotonic()
    with Finder(index, workers) as finder:
        # Each process is started by its first block, and given the index.
        count = sum(1 for _ in finder.matches([["x" * CHARACTERS_SENT]] * workers))
        started, cpu = time.monotonic(), time.process_time()
        count += sum(1 for _ in finder.matches(prompts))
        seconds = time.monotonic() - started
        used = time.process_time() - cpu
    of_processor = f", {num_tokens / used / 1e6:.2f} M a second of processor time" if workers == 1 else ""
    beside = f", started in {started - begun:.1f} s" if workers > 1 else ""
    return f"{num_tokens / seconds / 1e6:6.2f} M tokens/s{of_processor}{beside} ({count} overlaps)"


def time_it(index: Index, items: Sequence[Item], trains: dict[str, Prompts], num_millions: float) -> None:
    draw = random.Random(1)
    prompts: Prompts = []
    num_tokens = 0
    for prompt in natural_text(trains, draw):
        prompts.append(prompt)
        num_tokens += sum(len(tokens(turn)) for turn in prompt)
        if num_tokens > num_millions * 1e6:
            break
    print(f"speed: {num_tokens / 1e6:.1f} M tokens in {len(prompts)} rows, {len(items)} items")
    for workers in (1, 2, 1, 2):
        print(f"  {workers} process{'es' * (workers > 1)}: {measured(index, prompts, num_tokens, workers)}")
    plain = Straightforward(items)
    part = prompts[: len(prompts) // 10]
    size = sum(len(tokens(turn)) for prompt in part for turn in prompt)
    started = time.monotonic()
    count = len(plain.overlaps(part))
    print(f"  plain Python: {size / (time.monotonic() - started) / 1e6:6.2f} M tokens/s ({count} overlaps in a tenth)")


def grow(items: Sequence[Item], num_tokens: int) -> list[Item]:
    """The items and as many made of their words as it takes for `num_tokens` tokens of test text."""
    draw = random.Random(2)
    cut = [field.split() for item in items for field in item.fields]
    words = [word for field in cut for word in field]
    grown, count = list(items), len(words)
    while count < num_tokens:
        some = draw.choice(cut)
        grown.append(Item("made", str(len(grown)), (" ".join(draw.choices(words, k=len(some))),)))
        count += len(some)
    return grown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--parts", nargs="+", default=["exact", "speed", "memory", "chats"])
    parser.add_argument("--millions", type=float, default=8, help="tokens of the speed part, in millions")
    parser.add_argument("--regime", type=float, default=5, help="tokens of test text of the memory part, in millions")
    parser.add_argument("--conversations", type=int, default=1_000_000)
    options = parser.parse_args()
    evals, trains = evaluations(options.data), training_sets(options.data)
    items = [item for some in evals.values() for item in some]
    if "exact" in options.parts and not check_exact(trains, evals):
        sys.exit("not what the definition finds")
    before = peak_rss_bytes()
    started = time.monotonic()
    index = Index(items)
    print(f"index of {len(items)} items in {time.monotonic() - started:.1f} s")
    if "memory" in options.parts:
        grown = grow(items, round(options.regime * 1e6))
        Index(grown)
        print(f"memory: {before / 2**20:.0f} MiB before, {peak_rss_bytes() / 2**20:.0f} MiB after an index of "
              f"{len(grown)} items and {options.regime:g} M tokens")  # fmt: skip
    if "speed" in options.parts:
        time_it(index, items, trains, options.millions)
    if "chats" in options.parts:
        source = natural_text(trains, random.Random(3))
        started = time.monotonic()
        count = sum(1 for _ in find_matches(index, (next(source) for _ in range(options.conversations)), 2))
        seconds, peak = time.monotonic() - started, peak_rss_bytes() / 2**20
        print(
            f"chats: {options.conversations:,} rows in {seconds:.0f} s, {count} overlaps, at most {peak:.0f} MiB here"
        )


if __name__ == "__main__":
    main()
