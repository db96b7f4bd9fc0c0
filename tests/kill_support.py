"""A run against a real server, left alone and killed again and again, compared byte for byte and call by call."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from http_server import serving
from prefs_support import replying

MAX_CONCURRENCY = 4
"""What the recipe sets as `max_concurrency`."""
GRACE_SECONDS = 1.0
"""How long before a kill a reply may have been sent that the killed process did not come to keep, and how
long after it the server may see what was sent before, on a busy machine."""

Rule = Callable[[dict[str, Any]], str]


class Log:
    """When which request came. `wait` returns once so many different ones have come, or the process has ended."""

    def __init__(self, rule: Rule) -> None:
        self._rule, self._lock = rule, threading.Lock()
        self.times: defaultdict[str, list[float]] = defaultdict(list)

    def reply(self, body: dict[str, Any]) -> str:
        with self._lock:
            self.times[json.dumps(body, sort_keys=True)].append(time.monotonic())
        return self._rule(body)

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


def check_kills(
    folder: Path, recipe_text: Callable[[str], str], rule: Rule, points: Sequence[int], files: Sequence[str]
) -> int:
    """Run a recipe in two folders, killing the second run when so many requests have come; return their number.

    Both must end with the same `files`. A request is made again only if a kill came while it was under way, or within a
    moment after its reply. `recipe_text` gives the recipe for a server's address.
    """
    whole, killed = Log(rule), Log(rule)
    recipe = folder / "recipe.toml"
    with serving(replying(whole.reply)) as (url, _):
        recipe.write_text(recipe_text(url))
        finish(start(recipe, folder / "whole"))
    assert all(len(times) == 1 for times in whole.times.values())
    kills: list[float] = []
    with serving(replying(killed.reply, seconds=0.01)) as (url, _):
        recipe.write_text(recipe_text(url))
        for point in points:
            process = start(recipe, folder / "killed")
            killed.wait(point, process)
            assert process.poll() is None, (point, process.communicate())
            os.kill(process.pid, signal.SIGKILL)
            kills.append(time.monotonic())
            process.communicate()
        finish(start(recipe, folder / "killed"))
    for name in files:
        one, other = ((folder / side / name).read_bytes() for side in ("whole", "killed"))
        assert one == other, name
    assert killed.times.keys() == whole.times.keys()
    again = sum(len(times) - 1 for times in killed.times.values())
    assert again <= len(points) * 3 * MAX_CONCURRENCY
    for times in killed.times.values():
        for first, second in pairwise(times):
            assert any(kill <= second and abs(kill - first) < GRACE_SECONDS for kill in kills)
    return len(whole.times)
