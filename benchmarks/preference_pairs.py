"""Preference pairs of stated lengths, the same for everyone, as JSONL of `prompt`, `chosen` and `rejected`.

The words mean nothing: the time of a training step does not depend on them.
"""

import json
import random
from dataclasses import dataclass
from pathlib import Path

from chats import sentence


@dataclass(frozen=True)
class PairLengths:
    """Words of a prompt and of an answer, from least to most, uniformly."""

    prompt: tuple[int, int]
    answer: tuple[int, int]


SHAPES = {
    "chat": PairLengths(prompt=(20, 200), answer=(10, 100)),
    "long-prompt": PairLengths(prompt=(600, 600), answer=(60, 60)),
}


def write_pairs(path: Path, shape: str, count: int, seed: int = 0) -> None:
    source, lengths = random.Random(seed), SHAPES[shape]
    rows = [
        {
            "prompt": sentence(source, source.randint(*lengths.prompt)),
            "chosen": sentence(source, source.randint(*lengths.answer)),
            "rejected": sentence(source, source.randint(*lengths.answer)),
        }
        for _ in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
