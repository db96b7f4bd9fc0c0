"""What the tests of synthesis share: a server that writes prompts, tests and answers by a rule, and a stage on it."""

import json
import re
from hashlib import sha256
from pathlib import Path
from typing import Any

from cameleer.core.stage import StageRun
from cameleer.synth.config import SynthConfig
from cameleer.synth.run import ROWS, Row

SEED = 5


def draw(body: dict[str, Any], count: int) -> int:
    """A number below `count` that follows from the request."""
    return int.from_bytes(sha256(json.dumps(body, sort_keys=True).encode()).digest()[:8], "big") % count


def author(body: dict[str, Any]) -> str:
    """Writes prompts, tests and answers. Sums are right three times in four, programs always, tests too."""
    asked = body["messages"][-1]["content"]
    number = draw(body, 10**6)
    if asked.startswith("Here is a person"):
        if '"Problem:"' in asked:
            return f"Problem: I have {number} apples and buy {number % 97} more of them. How many do I have?"
        if '"Question:"' in asked:
            return f"Question: Write `add_{number}(a, b)`, which must return a plus b plus {number}."
        return f"Instruction: Write a note number {number} to all of my colleagues about the {number} new chairs."
    if "Write tests for the function" in asked:
        name, added = named(asked)
        return "\n".join(["```python", *(f"assert {name}({n}, 1) == {n + 1 + added}" for n in range(5)), "```"])
    if "How many do I have?" in asked:
        terms = [int(found) for found in re.findall(r"\d+", asked)]
        total = sum(terms[:2]) + (draw(body, 4) == 0) * (1 + draw(body, 50))
        return f"That is\n\nFinal Answer: The final answer is ${total}$. I hope it is correct."
    if "Answer with one Python code block" in asked:
        name, added = named(asked)
        return f"```python\ndef {name}(a, b):\n    return a + b + {added}\n```"
    return f"Dear colleagues, here are {number} words for you."


def named(asked: str) -> tuple[str, int]:
    """The function that is asked for and the number in its name."""
    found = re.search(r"add_(\d+)", asked)
    assert found is not None, asked
    return found[0], int(found[1])


def synth_config(**table: Any) -> SynthConfig:
    return SynthConfig.parse({"max_new_tokens": 64, **table}, where="synth")


def synth_stage(folder: Path, inputs: dict[str, Path] | None = None) -> StageRun:
    folder.mkdir(parents=True, exist_ok=True)
    return StageRun("synth", folder, inputs or {}, "model", SEED)


def endpoint(url: str, **table: Any) -> list[dict[str, Any]]:
    """The models of a stage: one behind a server."""
    return [{"model": "author", "endpoint": url, "max_retries": 0, "timeout_seconds": 30.0, **table}]


def read_rows(folder: Path) -> list[Row]:
    return list(ROWS.read(folder))


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]
