"""A synthesis that is killed again and again ends as one that was left alone, and pays for nothing twice."""

import json
import os
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
from prefs_support import replying
from synth_support import author

KILLED_AT = (7, 60)
"""Numbers of requests: while prompts are written, and among the answers."""
MAX_CONCURRENCY = 4
NUM_REQUESTS = 12 + 8 + 4 + 12 * 5 + 8 * 1 + 4 * 2
GRACE_SECONDS = 1.0
"""How long before a kill a reply may have been sent that the killed process did not come to keep, and how
long after it the server may see what was sent before, on a busy machine."""

RECIPE = """
name = "killed"
model = "unused"
seed = 3

[synth]
[[synth.prompts]]
kind = "math_algebra"
count = 12
[[synth.prompts]]
kind = "precise_if"
count = 8
[[synth.prompts]]
kind = "code"
count = 4
[[synth.models]]
model = "author"
endpoint = "{url}"
max_concurrency = {concurrency}
"""


class Log:
    """When which request came. `wait` returns once so many different ones have come, or the process has ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.times: defaultdict[str, list[float]] = defaultdict(list)

    def rule(self, body: dict[str, Any]) -> str:
        with self._lock:
            self.times[json.dumps(body, sort_keys=True)].append(time.monotonic())
        return author(body)

    def wait(self, count: int, process: "subprocess.Popen[bytes]") -> None:
        until = time.monotonic() + 120
        while len(self.times) < count and process.poll() is None:
            assert time.monotonic() < until, f"only {len(self.times)} requests"
            time.sleep(0.002)


def start(recipe: Path, folder: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "cameleer", "run", str(recipe), "--to", str(folder)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(process: "subprocess.Popen[bytes]") -> None:
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors.decode()


def test_kills_lose_nothing_and_pay_for_nothing_twice(tmp_path: Path) -> None:
    """A request is made again only if a kill came while it was under way, or within a moment after its reply."""
    whole, killed = Log(), Log()
    recipe = tmp_path / "recipe.toml"
    with serving(replying(whole.rule)) as (url, _):
        recipe.write_text(RECIPE.format(url=url, concurrency=MAX_CONCURRENCY))
        finish(start(recipe, tmp_path / "whole"))
    assert len(whole.times) == NUM_REQUESTS and all(len(times) == 1 for times in whole.times.values())
    kills: list[float] = []
    with serving(replying(killed.rule, seconds=0.02)) as (url, _):
        recipe.write_text(RECIPE.format(url=url, concurrency=MAX_CONCURRENCY))
        for point in KILLED_AT:
            process = start(recipe, tmp_path / "killed")
            killed.wait(point, process)
            assert process.poll() is None, (point, process.communicate())
            os.kill(process.pid, signal.SIGKILL)
            kills.append(time.monotonic())
            process.communicate()
        finish(start(recipe, tmp_path / "killed"))
    for name in ("mixture.parquet", "problems.parquet", "items.jsonl", "replies.jsonl"):
        one, other = ((tmp_path / side / "synth" / name).read_bytes() for side in ("whole", "killed"))
        assert one == other, name
    assert killed.times.keys() == whole.times.keys()
    again = sum(len(times) - 1 for times in killed.times.values())
    assert again <= len(KILLED_AT) * 3 * MAX_CONCURRENCY
    for times in killed.times.values():
        for first, second in pairwise(times):
            assert any(kill <= second and abs(kill - first) < GRACE_SECONDS for kill in kills)
