"""Deadlines hold from any thread, one bad item harms no other, and no process outlives the pool."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cameleer.core.errors import UserError
from cameleer.verify.pool import IN_PROCESS, VerifierPool, needs_pool
from cameleer.verify.verdict import Outcome

VERIFIERS = """
import ctypes, os, re, time
from cameleer.core.errors import UserError
from cameleer.verify.verdict import graded

def verify(response, verifier, target):
    if verifier == "hang":
        re.match("(a+)+$", "a" * 40 + "b")
    if verifier == "block":
        ctypes.CDLL(None).sleep(600)
    if verifier == "exit":
        os._exit(3)
    if verifier == "crash":
        ctypes.string_at(0)
    if verifier == "leave":
        raise SystemExit
    if verifier == "raise":
        raise ValueError("broken")
    if verifier == "refuse":
        raise UserError("bad target", "do better")
    if verifier == "slow":
        time.sleep(target)
    return graded(response == "right", pid=os.getpid())
"""
DEADLINE = 0.4


@pytest.fixture
def verify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of verifiers that misbehave, in a module that workers can import as this process can."""
    name = f"hostile_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(VERIFIERS)
    monkeypatch.syspath_prepend(str(tmp_path))
    return f"{name}:verify"


@pytest.fixture
def pool(verify: str) -> Iterator[VerifierPool]:
    with VerifierPool(2, DEADLINE, verify) as pool:
        yield pool
    assert workers(os.getpid()) == set()


def workers(parent: int) -> set[int]:
    """The worker processes of a process."""
    found: set[int] = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if b"verify.pool import work" in (folder / "cmdline").read_bytes():
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                found |= {int(folder.name)} if int(fields[1]) == parent and fields[0] != "Z" else set()
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_verdicts_come_back_with_their_index_and_time(pool: VerifierPool) -> None:
    items = [("right" if index % 2 else "wrong", "plain", None) for index in range(40)]
    results = sorted(pool.verify_all(iter(items)), key=lambda result: result[0])
    assert [index for index, _, _ in results] == list(range(40))
    expected = [Outcome.CORRECT if index % 2 else Outcome.WRONG for index in range(40)]
    assert [verdict.outcome for _, verdict, _ in results] == expected
    assert all(0 <= seconds < DEADLINE for _, _, seconds in results)
    assert os.getpid() not in {verdict.detail["pid"] for _, verdict, _ in results}


@pytest.mark.parametrize(
    ("verifier", "outcome", "said"),
    [
        ("hang", Outcome.TIMEOUT, "0.4 seconds"),
        ("block", Outcome.TIMEOUT, "0.4 seconds"),
        ("exit", Outcome.ERROR, "status 3"),
        ("crash", Outcome.ERROR, "signal 11"),
        ("raise", Outcome.ERROR, "ValueError: broken"),
        ("leave", Outcome.ERROR, "SystemExit"),
        ("refuse", Outcome.ERROR, "bad target"),
    ],
)
def test_a_bad_item_harms_no_other(pool: VerifierPool, verifier: str, outcome: Outcome, said: str) -> None:
    items = [("right", verifier if index == 2 else "plain", None) for index in range(6)]
    results = {index: verdict for index, verdict, _ in pool.verify_all(items)}
    bad = results.pop(2)
    assert (bad.outcome, bad.score) == (outcome, None) and said in bad.detail["error"]
    assert [verdict.outcome for verdict in results.values()] == [Outcome.CORRECT] * 5


def test_a_users_mistake_travels_back(pool: VerifierPool) -> None:
    future = pool.submit("right", "refuse", None)
    with pytest.raises(UserError, match="bad target") as caught:
        future.result()
    assert caught.value.hint == "do better"
    assert pool.submit("right", "plain", None).result().verdict.outcome is Outcome.CORRECT


def test_results_are_given_while_the_stream_goes_on(pool: VerifierPool) -> None:
    """An endless stream: this returns only if items are taken as they can be worked on."""

    def endless() -> Iterator[tuple[str, str, None]]:
        while True:
            yield "right", "plain", None

    stream = pool.verify_all(endless())
    assert len([next(stream) for _ in range(20)]) == 20


def test_items_are_judged_at_the_same_time(verify: str) -> None:
    with VerifierPool(4, 10, verify) as pool:
        assert len({verdict.detail["pid"] for _, verdict, _ in pool.verify_all([("right", "slow", 0.2)] * 4)}) == 4


def test_cheap_verifiers_start_no_process() -> None:
    with VerifierPool(2) as pool:
        verdict = pool.submit("It is 5.", "number", 5).result().verdict
        assert verdict.outcome is Outcome.CORRECT
        with pytest.raises(UserError):
            pool.submit("5", "number", "five").result()
        assert workers(os.getpid()) == set()
    assert "number" in IN_PROCESS and needs_pool("code") and needs_pool("math") and needs_pool("of another kind")


def test_closing_ends_hanging_workers_at_once(verify: str) -> None:
    started = time.monotonic()
    with VerifierPool(2, 600, verify) as pool:
        futures = [pool.submit("right", "block", None) for _ in range(5)]
        wait_for(lambda: len(workers(os.getpid())) == 2)
    assert time.monotonic() - started < 30
    assert workers(os.getpid()) == set()
    assert sum(future.cancelled() for future in futures) >= 3


def test_pools_work_from_other_threads(verify: str) -> None:
    found: list[Outcome] = []

    def use() -> None:
        with VerifierPool(1, DEADLINE, verify) as pool:
            found.append(pool.submit("right", "hang", None).result().verdict.outcome)
            found.append(pool.submit("right", "plain", None).result().verdict.outcome)

    thread = threading.Thread(target=use)
    thread.start()
    thread.join(60)
    assert found == [Outcome.TIMEOUT, Outcome.CORRECT]


@pytest.mark.parametrize("ended_by", [signal.SIGKILL, signal.SIGINT])
def test_no_worker_outlives_its_parent(verify: str, ended_by: signal.Signals) -> None:
    program = textwrap.dedent(f"""
        import signal, sys
        sys.path[:] = {sys.path!r}
        # What runs in the background inherits that Ctrl-C is ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        from cameleer.verify.pool import VerifierPool
        with VerifierPool(2, 600, {verify!r}) as pool:
            list(pool.verify_all([("right", "block", None)] * 4))
    """)
    with subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE) as parent:
        wait_for(lambda: len(workers(parent.pid)) == 2)
        left = workers(parent.pid)
        parent.send_signal(ended_by)
        parent.wait(30)
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in left))


def test_workers_import_no_torch(verify: str) -> None:
    """A worker starts afresh: it is no copy of a process that holds a model, and it starts fast."""
    program = (
        "import sys, cameleer.verify.pool; print(sorted({'torch', 'multiprocessing', 'sympy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
