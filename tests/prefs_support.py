"""What the tests of preference synthesis share: servers that answer and judge by a rule, and a stage on them."""

import json
import re
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from http_server import Answer, Handler, completion

from cameleer.core.mixture import MIXTURE
from cameleer.core.pairs import PAIRS, PreferencePair
from cameleer.core.problems import PROBLEMS
from cameleer.core.stage import StageRun
from cameleer.core.types import Example, Message
from cameleer.prefs.config import PrefsConfig
from cameleer.tasks import find_task

Rule = Callable[[dict[str, Any]], str]
"""From a request's body to the reply's text."""


def replying(rule: Rule, tokens: int = 10, seconds: float = 0.0) -> Answer:
    """A chat server: what it says follows from the request alone."""

    def answer(handler: Handler) -> None:
        handler.server_state.sleep(seconds)
        handler.say(200, completion(rule(handler.asked), tokens), {})

    return answer


def draw(body: dict[str, Any], count: int) -> int:
    """A number below `count` that follows from the request."""
    return int.from_bytes(sha256(json.dumps(body, sort_keys=True).encode()).digest()[:8], "big") % count


def writer(body: dict[str, Any]) -> str:
    """An answer of a length and a number of its own."""
    return f"Answer {draw(body, 10**6)} " + "word " * draw(body, 17)


def shown_answers(body: dict[str, Any]) -> list[str]:
    """The answers that a judge is shown, in their order."""
    text = body["messages"][1]["content"]
    return [found[1] for found in re.findall(r"<answer (\d+)>\n(.*?)\n</answer \1>", text, re.DOTALL)]


def rating_reply(ratings: Sequence[int]) -> str:
    return "\n\n".join(f"Answer {n}\nRationale: So it is.\nRating: {rating}" for n, rating in enumerate(ratings, 1))


def rating_by(rate: Callable[[list[str]], Sequence[int]]) -> Rule:
    """A judge of aspects that rates the answers shown by a rule."""
    return lambda body: rating_reply(rate(shown_answers(body)))


def hashed_ratings(answers: Sequence[str]) -> list[int]:
    """Ratings from 1 to 5 that follow from each answer alone."""
    return [1 + sha256(answer.encode()).digest()[0] % 5 for answer in answers]


def write_problems(folder: Path, count: int, task: str = "precise-if") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    PROBLEMS.write(folder, find_task(task).problems(count, 0))
    return folder


def write_mixture(folder: Path, count: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    turns = [(Message("user", f"What is {n}?"), Message("assistant", f"A number: {n}.")) for n in range(count)]
    MIXTURE.write(folder, [Example(str(n), "numbers", messages) for n, messages in enumerate(turns)])
    return folder


def prefs_config(**table: Any) -> PrefsConfig:
    return PrefsConfig.parse({"max_new_tokens": 64, **table}, where="prefs")


def prefs_stage(folder: Path, inputs: dict[str, Path], seed: int = 5) -> StageRun:
    folder.mkdir(parents=True, exist_ok=True)
    return StageRun("prefs", folder, inputs, "model", seed)


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def read_made_pairs(folder: Path) -> list[PreferencePair]:
    return list(PAIRS.read(folder))
