"""Near-duplicates: recall beside comparing all pairs, and time and memory per row.

    .venv/bin/python benchmarks/near_duplicates.py --data FOLDER [--rows 20000] [--sizes 50000 100000 200000]

FOLDER holds the publishers' own files (alpaca, gsm8k, gpteacher, code_alpaca, deepscaler_difficulty). Rows are their
conversations, and copies with words replaced: one in three rows, each word of it with the same small chance.

    recall   all pairs with J >= 0.8 of `--rows` rows, found by counting the shingles that any two share: of the rows
             that the keep rule drops when all pairs are known, the proportion that is dropped, which must be 95%; and a
             row that is dropped for one that it is not like fails
    time     seconds and peak memory for each of `--sizes` rows, so that growth is seen
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cameleer.core.near_duplicates import NearDuplicates
from cameleer.core.types import Conversation, Message
from cameleer.core.words import words
from decontamination import rows as rows_of
from protocol import peak_rss_bytes

THRESHOLD = 0.8
SHINGLE_WORDS = 5


def texts(data: Path) -> list[tuple[str, str]]:
    """Questions and answers."""
    found = [(row["question"], row["answer"]) for row in rows_of(data / "gsm8k/train.jsonl")]
    for path, answer in (
        ("alpaca/alpaca_5000.json", "output"),
        ("gpteacher/codegen-instruct.json", "response"),
        ("code_alpaca/code_alpaca_2k.json", "output"),
    ):
        found += [(f"{row['instruction']} {row.get('input') or ''}", row[answer]) for row in rows_of(data / path)]
    return found


def conversations(data: Path, count: int, seed: int) -> Iterator[Conversation]:
    """The texts, then pairs of them put together, and among both copies with words replaced."""
    draw = random.Random(seed)
    every = texts(data)
    recent: list[tuple[str, str]] = []
    for number in range(count):
        if recent and draw.random() < 1 / 3:
            question, answer = draw.choice(recent)
            chance = draw.choice([0.0, 0.002, 0.005, 0.01, 0.02, 0.05])
            question, answer = (
                " ".join(f"w{draw.randrange(10**6)}" if draw.random() < chance else word for word in text.split(" "))
                for text in (question, answer)
            )
        elif number < len(every):
            question, answer = every[number]
        else:
            one, other = draw.choice(every), draw.choice(every)
            question, answer = f"{one[0]} {other[0]}", f"{other[1]} {number} {one[1]}"
        recent = [*recent[-200:], (question, answer)]
        yield Message("user", question), Message("assistant", answer)


def shingles(conversation: Conversation) -> set[tuple[bytes, ...]]:
    whole = [*words(conversation[0].content), b"<border>", *words(conversation[1].content)]
    return {tuple(whole[start : start + SHINGLE_WORDS]) for start in range(max(len(whole) - SHINGLE_WORDS + 1, 1))}


def alike(rows: list[Conversation]) -> dict[int, list[int]]:
    """By row the earlier ones with J of at least the threshold: by counting what each pair shares."""
    places: defaultdict[tuple[bytes, ...], list[int]] = defaultdict(list)
    sizes: list[int] = []
    found: dict[int, list[int]] = {}
    for number, conversation in enumerate(rows):
        own = shingles(conversation)
        sizes.append(len(own))
        shared = Counter(other for shingle in own for other in places[shingle])
        close = [other for other, both in shared.items() if both / (len(own) + sizes[other] - both) >= THRESHOLD]
        if close:
            found[number] = sorted(close)
        for shingle in own:
            places[shingle].append(number)
    return found


def dropped(rows: list[Conversation]) -> dict[int, int]:
    with tempfile.TemporaryDirectory() as folder:
        near = NearDuplicates(THRESHOLD, Path(folder))
        for number, conversation in enumerate(rows):
            near.add("a", number, conversation)
        found = {number: each.row for number, each in near.duplicates().items()}
        near.close()
    return found


def check_recall(data: Path, count: int) -> bool:
    rows = list(conversations(data, count, 1))
    started = time.monotonic()
    pairs = alike(rows)
    print(f"recall: {count} rows, {sum(map(len, pairs.values()))} pairs at {THRESHOLD} and above, all pairs known in "
          f"{time.monotonic() - started:.0f} s")  # fmt: skip
    expected: set[int] = set()
    for number, others in sorted(pairs.items()):
        if any(other not in expected for other in others):
            expected.add(number)
    got = dropped(rows)
    caught = len(expected & got.keys()) / len(expected)
    wrong = [number for number, kept in got.items() if kept not in pairs.get(number, ())]
    print(f"  dropped by the rule {len(expected)}, here {len(got)}, recall {caught:.4f}, for no reason {len(wrong)}")
    return caught >= 0.95 and not wrong


def time_one(data: Path, count: int) -> dict[str, float]:
    numbers: list[int] = []
    with tempfile.TemporaryDirectory() as folder:
        near = NearDuplicates(THRESHOLD, Path(folder))
        spent = 0.0
        for number, conversation in enumerate(conversations(data, count, 2)):
            numbers.append(sum(len(message.content) for message in conversation))
            started = time.monotonic()
            near.add("a", number, conversation)
            spent += time.monotonic() - started
        started = time.monotonic()
        found = len(near.duplicates())
        last = time.monotonic() - started
        near.close()
    return {"rows": count, "reading": spent, "comparing": last, "dropped": found,
            "characters": float(np.mean(numbers)), "MiB": peak_rss_bytes() / 2**20}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--sizes", type=int, nargs="*", default=[50_000, 100_000, 200_000])
    options = parser.parse_args()
    for size in options.sizes:
        print(json.dumps({key: round(value, 1) for key, value in time_one(options.data, size).items()}), flush=True)
    if options.rows and not check_recall(options.data, options.rows):
        sys.exit("recall below 95%, or a row dropped without a pair")


if __name__ == "__main__":
    main()
