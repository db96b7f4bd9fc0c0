"""Known failures of verifiers and sandboxes, each shown in the usual way of doing it and absent here."""

import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cameleer.core.errors import UserError
from cameleer.verify import Outcome, verify
from cameleer.verify.pool import VerifierPool
from cameleer.verify.sandbox.code import verify_code
from cameleer.verify.sandbox.run import Limits, run_python

HANGING = """
import re
from cameleer.verify.verdict import graded
def verify(response, verifier, target):
    if verifier == "hang":
        re.match("(a+)+$", "a" * 40 + "b")
    if verifier == "break":
        raise ArithmeticError("the verifier's own fault")
    return graded(response == target)
"""
ASSERTS = {"kind": "asserts", "tests": ["assert double(4) == 8"], "limits": {"cpu_seconds": 0.3, "wall_seconds": 10}}


@pytest.fixture
def hanging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"museum_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(HANGING)
    monkeypatch.syspath_prepend(str(tmp_path))
    return f"{name}:verify"


def in_a_thread(call: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(call).result()


def test_alarm_timeouts_work_only_in_the_main_thread(hanging: str) -> None:
    """open-instruct math_utils, TRL #5281, verl #5635: `signal.alarm` raises in a thread, and every answer is False."""

    def usual() -> bool:
        try:
            signal.signal(signal.SIGALRM, lambda *_: None)
            return True
        except ValueError:
            return False

    assert not in_a_thread(usual)

    def ours() -> list[Outcome]:
        with VerifierPool(1, 0.4, hanging) as pool:
            items = [("x", "plain", "x"), ("x", "hang", "x"), ("x", "plain", "y")]
            return [verdict.outcome for _, verdict, _ in sorted(pool.verify_all(items), key=lambda found: found[0])]

    expected = [Outcome.CORRECT, Outcome.TIMEOUT, Outcome.WRONG]
    assert ours() == in_a_thread(ours) == expected


def test_code_gets_the_same_verdict_from_every_thread_and_process() -> None:
    """The same failure where programs are judged."""
    good, looping = "def double(x):\n    return 2 * x", "def double(x):\n    while True: pass"

    def ours() -> list[Outcome]:
        return [verify_code(program, ASSERTS).outcome for program in (good, looping)]

    expected = [Outcome.CORRECT, Outcome.WRONG]
    judging = f"print(*[verify_code(program, {ASSERTS!r}).outcome for program in {(good, looping)!r}])"
    program = f"from cameleer.verify.sandbox.code import verify_code\n{judging}"
    elsewhere = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ours() == in_a_thread(ours) == expected
    assert elsewhere.stdout.split() == ["correct", "wrong"]


def test_a_pathological_expression_is_killed_where_a_thread_cannot_be(hanging: str) -> None:
    """Math-Verify #55, TRL #5839, AReaL #1426: a check that hangs in C holds the interpreter's lock: no thread can
    give up waiting for it in time."""
    waiting = threading.Thread(target=re.compile("(a+)+$").match, args=("a" * 24 + "b",), daemon=True)
    started = time.perf_counter()
    waiting.start()
    waiting.join(0.001)
    assert time.perf_counter() - started > 0.02, "the one who waits is held up as well"
    with VerifierPool(1, 0.3, hanging) as pool:
        outcomes = [verdict.outcome for _, verdict, _ in pool.verify_all([("x", "hang", "x"), ("x", "plain", "x")])]
    assert sorted(outcomes) == [Outcome.CORRECT, Outcome.TIMEOUT]


def test_a_verifiers_error_is_no_reward_of_zero(hanging: str) -> None:
    """NeMo #431, OpenEnv #1025, verl #4417: the exception is caught and the answer scored 0."""
    with VerifierPool(1, 5, hanging) as pool:
        verdict = pool.submit("x", "break", "x").result().verdict
    assert (verdict.outcome, verdict.score) == (Outcome.ERROR, None)
    assert "the verifier's own fault" in verdict.detail["error"]


def test_a_deadline_is_no_reward_of_zero(hanging: str) -> None:
    """The same failure: what was not judged in time has no score."""
    with VerifierPool(1, 0.2, hanging) as pool:
        verdict = pool.submit("x", "hang", "x").result().verdict
    assert (verdict.outcome, verdict.score) == (Outcome.TIMEOUT, None)


def test_an_unknown_verifier_or_constraint_passes_nobody() -> None:
    """deepeval #3066, tinker #897/#893: an unknown id counts as followed."""
    with pytest.raises(UserError):
        verify("any response", "no such verifier", None)
    with pytest.raises(UserError), VerifierPool(1) as pool:
        pool.submit("any response", "no such verifier", None).result()


def test_exit_status_zero_is_no_proof_of_passing() -> None:
    """Graders that run solution and tests as one script and look at its exit status are passed by leaving early."""
    hack = "import os\nos._exit(0)\n"
    usual = subprocess.run([sys.executable, "-c", hack + ASSERTS["tests"][0]], check=False)
    assert usual.returncode == 0
    assert verify_code(f"def double(x): pass\n{hack}", ASSERTS).outcome is Outcome.WRONG


def test_an_object_that_equals_everything_solves_nothing() -> None:
    """Graders that compare in the solution's own process ask the solution whether it is right."""
    hack = "class Always:\n    def __eq__(self, other): return True\ndef double(x): return Always()\n"
    usual = subprocess.run([sys.executable, "-c", hack + ASSERTS["tests"][0]], check=False)
    assert usual.returncode == 0
    assert verify_code(hack, ASSERTS).outcome is Outcome.WRONG


def test_model_code_has_no_network_and_none_of_our_files(tmp_path: Path) -> None:
    """Most systems: `exec` or a plain subprocess, with the network open and the home directory in reach."""
    (tmp_path / "key").write_text("secret")
    program = f"import socket\nopen({str(tmp_path / 'key')!r}).read()"
    usual = subprocess.run([sys.executable, "-c", program + "\nsocket.socket().close()"], check=False)
    assert usual.returncode == 0
    assert run_python(program).status == 1
    assert "PermissionError" in run_python("import socket\nsocket.socket()").stderr


def test_bombs_are_contained() -> None:
    """The same failure: memory, output and time without end."""
    tiny = Limits(cpu_seconds=0.3, wall_seconds=5, memory_bytes=2**27, output_bytes=10_000)
    assert run_python("x = [0] * 10**9", limits=tiny).limit == "memory"
    assert run_python("while True: print(1)", limits=tiny).limit == "output"
    assert run_python("while True: pass", limits=tiny).limit == "cpu"
