"""Run a command, and end it with all that it started when the one who wanted it is gone or asks (SIGTERM).

    python server_guard.py PARENT_PID COMMAND …

Run by path, with the standard library alone. The parent may die of anything, SIGKILL included: its id is watched, which
no thread or forked child of the parent can confuse. The exit status is the command's, 128 + n where signal n ended it.
"""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from types import FrameType

POLL_SECONDS = 0.2
GRACE_SECONDS = 10.0


def main() -> int:
    parent, command = int(sys.argv[1]), sys.argv[2:]
    asked: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        asked.append(number)

    signal.signal(signal.SIGTERM, note)
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    while child.poll() is None and not asked and os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    status = child.returncode
    end_group(child)
    return 0 if status is None else status if status >= 0 else 128 - status


def end_group(child: "subprocess.Popen[bytes]") -> None:
    """End every process of the child's group: kindly, and after GRACE_SECONDS not."""
    until = time.monotonic() + GRACE_SECONDS
    # No such process: all of them have ended.
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGTERM)
        while time.monotonic() < until:
            child.poll()
            os.killpg(child.pid, 0)
            time.sleep(POLL_SECONDS)
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


if __name__ == "__main__":
    sys.exit(main())
