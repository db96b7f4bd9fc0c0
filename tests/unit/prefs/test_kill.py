"""A run that is killed again and again ends as one that was left alone, and pays for nothing twice."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

from http_server import serving
from prefs_support import hashed_ratings, rating_by, replying, writer

NUM_PROMPTS = 40
NUM_KILLS = 10
MAX_CONCURRENCY = 4
NUM_REQUESTS = 2 * NUM_PROMPTS + 4 * NUM_PROMPTS
GRACE_SECONDS = 1.0
"""How long before a kill a reply may have been sent that the killed process did not come to keep, and how
long after it the server may see what was sent before, on a busy machine."""

RECIPE = """
name = "killed"
model = "unused"
seed = 3

[curate]
[[curate.sources]]
task = "word-arithmetic"
count = {prompts}

[prefs]
num_responses = 2

[[prefs.prompts]]
mixture = "curate"

[[prefs.models]]
model = "one"
endpoint = "{url}"
max_concurrency = {concurrency}

[[prefs.models]]
model = "two"
endpoint = "{url}"
max_concurrency = {concurrency}

[[prefs.judges]]
model = "judge"
endpoint = "{url}"
max_concurrency = {concurrency}
method = "aspects"
"""


class Log:
    """When which request came. `wait` returns once so many have come, or the process has ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.times: defaultdict[str, list[float]] = defaultdict(list)
        self.count = 0

    def rule(self, body: dict[str, Any]) -> str:
        with self._lock:
            self.times[json.dumps(body, sort_keys=True)].append(time.monotonic())
            self.count += 1
        is_question = body["model"] == "judge"
        return rating_by(hashed_ratings)(body) if is_question else writer(body)

    def wait(self, count: int, process: "subprocess.Popen[bytes]") -> None:
        until = time.monotonic() + 120
        while self.count < count and process.poll() is None:
            assert time.monotonic() < until, f"only {self.count} requests"
            time.sleep(0.002)


def start(recipe: Path, folder: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "cameleer", "run", str(recipe), "--to", str(folder)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(process: "subprocess.Popen[bytes]") -> None:
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors.decode()


def test_ten_kills_lose_nothing_and_pay_for_nothing_twice(tmp_path: Path) -> None:
    """A request is made again only if a kill came while it was under way, or within a moment after its reply."""
    rng = random.Random(0)
    whole, killed = Log(), Log()
    recipe = tmp_path / "recipe.toml"
    with serving(replying(whole.rule)) as (url, _):
        recipe.write_text(RECIPE.format(prompts=NUM_PROMPTS, url=url, concurrency=MAX_CONCURRENCY))
        finish(start(recipe, tmp_path / "whole"))
    assert whole.count == len(whole.times) == NUM_REQUESTS
    kills: list[float] = []
    with serving(replying(killed.rule, seconds=0.01)) as (url, _):
        recipe.write_text(RECIPE.format(prompts=NUM_PROMPTS, url=url, concurrency=MAX_CONCURRENCY))
        for point in sorted(rng.sample(range(1, NUM_REQUESTS - 20), NUM_KILLS)):
            process = start(recipe, tmp_path / "killed")
            # Counted anew: what was under way at earlier kills came twice.
            killed.wait(point + killed.count - len(killed.times), process)
            assert process.poll() is None, (point, process.communicate())
            os.kill(process.pid, signal.SIGKILL)
            kills.append(time.monotonic())
            process.communicate()
        finish(start(recipe, tmp_path / "killed"))
    for name in ("pairs.parquet", "responses.jsonl", "ratings.jsonl"):
        one, other = ((tmp_path / side / "prefs" / name).read_bytes() for side in ("whole", "killed"))
        assert one == other, name
    assert len(killed.times) == NUM_REQUESTS
    again = killed.count - NUM_REQUESTS
    assert again <= NUM_KILLS * 3 * MAX_CONCURRENCY
    for times in killed.times.values():
        for first, second in pairwise(times):
            assert any(kill <= second and abs(kill - first) < GRACE_SECONDS for kill in kills)
