"""Synthetic conversations whose lengths are spread like those of real chat data, the same for everyone.

Prompt and answer lengths are log-normal; one conversation in five has several turns. The words mean nothing: the time
of a training step does not depend on them.
"""

import json
import random
from dataclasses import dataclass
from pathlib import Path

WORDS = """
the of and to a in that it is was for on are as with his they at be this from have or by one had not but what all were
when we there can an your which their said if do will each about how up out them then she many some so these would other
into has more her two like him see time could no make than first been its who now people my made over did down only way
find use may water long little very after word called just where most know get through back much before go good new
write our used me man too any day same right look think also around another came come work three because does part even
place well such here take why things help put years different away again off went old number great tell men say small
every found still between name should home big give air line set own under read last never us left end along while might
next sound below saw something thought both few those always show large often together asked house world going want
""".split()


@dataclass(frozen=True)
class Lengths:
    """Median and spread (of the logarithm) of a message's number of words, and its largest value."""

    median: float
    spread: float
    most: int

    def draw(self, source: random.Random) -> int:
        return max(1, min(self.most, round(source.lognormvariate(0, self.spread) * self.median)))


PROMPT = Lengths(median=18, spread=1.0, most=400)
ANSWER = Lengths(median=50, spread=1.0, most=600)
MULTI_TURN_PROPORTION = 0.2


def sentence(source: random.Random, num_words: int) -> str:
    """Words of which every tenth or so ends a sentence."""
    words = [source.choice(WORDS) for _ in range(num_words)]
    for position in range(9, num_words - 1, 10):
        words[position] += "."
        words[position + 1] = words[position + 1].capitalize()
    return " ".join(words).capitalize() + "."


def conversation(source: random.Random) -> list[dict[str, str]]:
    """One turn, or with a proportion of `MULTI_TURN_PROPORTION` two or three."""
    num_turns = source.choice([2, 3]) if source.random() < MULTI_TURN_PROPORTION else 1
    messages: list[dict[str, str]] = []
    for _ in range(num_turns):
        # Turns of longer conversations are shorter, as in real ones.
        messages.append({"role": "user", "content": sentence(source, PROMPT.draw(source) // num_turns + 1)})
        messages.append({"role": "assistant", "content": sentence(source, ANSWER.draw(source) // num_turns + 1)})
    return messages


def write_chats(path: Path, count: int, seed: int = 0) -> None:
    """Write `count` conversations as JSONL, each a row `{"messages": [...]}`."""
    source = random.Random(seed)
    rows = [json.dumps({"messages": conversation(source)}) for _ in range(count)]
    path.write_text("\n".join(rows) + "\n")
