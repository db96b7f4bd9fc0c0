"""A synthesis that is killed again and again ends as one that was left alone, and pays for nothing twice."""

from pathlib import Path

from kill_support import MAX_CONCURRENCY, check_kills
from synth_support import author

KILLED_AT = (7, 60)
"""Numbers of requests: while prompts are written, and among the answers."""
NUM_REQUESTS = 12 + 8 + 4 + 12 * 5 + 8 * 1 + 4 * 2

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


def test_kills_lose_nothing_and_pay_for_nothing_twice(tmp_path: Path) -> None:
    def text(url: str) -> str:
        return RECIPE.format(url=url, concurrency=MAX_CONCURRENCY)

    files = [f"synth/{name}" for name in ("mixture.parquet", "problems.parquet", "items.jsonl", "replies.jsonl")]
    assert check_kills(tmp_path, text, author, KILLED_AT, files) == NUM_REQUESTS
