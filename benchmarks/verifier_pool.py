"""What the verifier pool costs per item, beside the same verifier called in process.

    .venv/bin/python benchmarks/verifier_pool.py

The verifier is `number`, which takes microseconds, so that what is measured is the pool: sending an item to a worker,
the worker's answer, and its way back. (In real use the pool runs such verifiers in process.) Also measured: how long
until the first verdict, which includes starting a worker, and how long after the deadline a hanging item is given up.
Then the verifiers that run in process, on one core, on answers as long as a worked solution: verdicts a second of
processor time, of which numbers and texts must reach BAR; it exits with 1 if one does not. The report goes to
benchmarks/results/verifier_pool.json.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from cameleer.verify import pool as pool_module
from cameleer.verify.pool import VerifierPool
from cameleer.verify.verifiers import verify

RESULTS = Path(__file__).resolve().parent / "results" / "verifier_pool.json"
DEADLINE_SECONDS = 1.0
BAR = 5_000
NUM_VERDICTS = 5_000
SOLUTION = "She buys {n} bags of 12 apples, which is 4 * 12 = 48 apples; after lunch 30 of them are left in Paris. " * 4
MAX_F1_CHARACTERS = 200
"""Of answers that are judged by F1: DROP's are of at most 50 tokens."""
TARGETS: dict[str, Any] = {
    "number": "18",
    "text, exact": {"rule": "exact", "answers": ["18"]},
    "text, alias_substring": {"rule": "alias_substring", "answers": ["Lyon", "Lugdunum", "the city of Lyon"]},
    "text, f1": {"rule": "f1", "answers": [["18 apples"], ["eighteen"]]},
    "text, bbh": {"rule": "bbh", "answers": ["(A)"], "form": "letter"},
    "choice": {"answer": "B", "num_choices": 10, "ladder": "unseen"},
}
HANGING = """
import ctypes
from cameleer.verify.verdict import graded
def verify(response, verifier, target):
    if target == "hang":
        ctypes.CDLL(None).sleep(600)
    return graded(True)
"""


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    return parser.parse_args()


def measure_overhead(num_items: int, num_workers: int) -> dict[str, float]:
    """Seconds per item in process and through the pool, once its workers run."""
    items = [(f"The answer is {number}.", "number", number) for number in range(num_items)]
    started = time.perf_counter()
    for item in items:
        verify(*item)
    in_process = (time.perf_counter() - started) / num_items
    # As if the verifier were slow: everything goes through the workers.
    pool_module.IN_PROCESS = frozenset()
    with VerifierPool(num_workers) as pool:
        started = time.perf_counter()
        pool.submit(*items[0]).result()
        first = time.perf_counter() - started
        list(pool.verify_all(items[: 10 * num_workers]))
        started = time.perf_counter()
        list(pool.verify_all(items))
        pooled = (time.perf_counter() - started) / num_items
    return {"in_process_seconds": in_process, "pooled_seconds": pooled, "first_verdict_seconds": first}


def measure_deadline() -> float:
    """Seconds between the deadline of a hanging item and its verdict."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "hanging_verifier.py").write_text(HANGING)
        sys.path.insert(0, folder)
        with VerifierPool(1, DEADLINE_SECONDS, "hanging_verifier:verify") as pool:
            pool.submit("", "any", "answer").result()
            started = time.perf_counter()
            pool.submit("", "any", "hang").result()
            return time.perf_counter() - started - DEADLINE_SECONDS


def verdicts_per_second(name: str) -> float:
    """Of processor time, in this process."""
    length = MAX_F1_CHARACTERS if name == "text, f1" else None
    responses = [f"So the answer is {number}. {SOLUTION.format(n=number)}"[:length] for number in range(NUM_VERDICTS)]
    verifier = name.partition(",")[0]
    verify(responses[0], verifier, TARGETS[name])
    started = time.process_time()
    for response in responses:
        verify(response, verifier, TARGETS[name])
    return NUM_VERDICTS / (time.process_time() - started)


def main() -> None:
    options = parse()
    report = {"workers": options.workers, "items": options.items, "late_seconds": measure_deadline()}
    report |= measure_overhead(options.items, options.workers)
    speeds = {name: round(verdicts_per_second(name)) for name in TARGETS}
    report["verdicts_per_second"] = speeds
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))
    slow = [name for name, speed in speeds.items() if speed < BAR]
    if slow:
        sys.exit(f"below {BAR:,} verdicts a second: {', '.join(slow)}")


if __name__ == "__main__":
    main()
