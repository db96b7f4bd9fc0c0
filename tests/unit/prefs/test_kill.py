"""A run that is killed again and again ends as one that was left alone, and pays for nothing twice."""

import random
from pathlib import Path
from typing import Any

from kill_support import MAX_CONCURRENCY, check_kills
from prefs_support import hashed_ratings, rating_by, writer

NUM_PROMPTS = 40
NUM_KILLS = 10
NUM_REQUESTS = 2 * NUM_PROMPTS + 4 * NUM_PROMPTS

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


def reply(body: dict[str, Any]) -> str:
    return rating_by(hashed_ratings)(body) if body["model"] == "judge" else writer(body)


def test_ten_kills_lose_nothing_and_pay_for_nothing_twice(tmp_path: Path) -> None:
    def text(url: str) -> str:
        return RECIPE.format(prompts=NUM_PROMPTS, url=url, concurrency=MAX_CONCURRENCY)

    points = sorted(random.Random(0).sample(range(1, NUM_REQUESTS - 20), NUM_KILLS))
    files = [f"prefs/{name}" for name in ("pairs.parquet", "responses.jsonl", "ratings.jsonl")]
    assert check_kills(tmp_path, text, reply, points, files) == NUM_REQUESTS
