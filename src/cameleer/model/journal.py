"""What was paid for, kept as it comes: files of one JSON object a line that a kill may cut off at any byte."""

import json
import threading
from pathlib import Path
from typing import Any, TextIO

from cameleer.core.artifact import json_line
from cameleer.model.endpoint import Endpoint


class Journal:
    """An append-only file. `rows` are those found on opening; a last line that was cut off is dropped."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        content = path.read_bytes() if path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            with path.open("r+b") as file:
                file.truncate(len(whole))
        self.rows: list[dict[str, Any]] = [json.loads(line) for line in whole.splitlines()]
        self._file: TextIO = path.open("a", encoding="utf-8")
        self._lock = threading.Lock()

    def append(self, row: dict[str, Any]) -> None:
        """Keep a row; on return its line is with the operating system."""
        with self._lock:
            self._file.write(json_line(row))
            self._file.flush()

    def close(self) -> None:
        self._file.close()


class Ledger:
    """What each endpoint has used over all interruptions, so that a budget holds for the stage and not for a process.

    What was under way at a kill is not in it.
    """

    def __init__(self, path: Path) -> None:
        self._journal = Journal(path)
        self._used = {row["who"]: row for row in self._journal.rows}
        self._journal.rows.clear()
        self._endpoints: dict[str, Endpoint] = {}

    def restore(self, who: str, endpoint: Endpoint) -> None:
        """Take up an endpoint under a name, and let it go on from what it has used before."""
        self._endpoints[who] = endpoint
        if who in self._used:
            endpoint.spending.add(self._used[who]["prompt_tokens"], self._used[who]["completion_tokens"])

    def note(self, who: str) -> None:
        """Keep what an endpoint has used by now."""
        spending = self._endpoints[who].spending
        row = {"prompt_tokens": spending.num_prompt_tokens, "completion_tokens": spending.num_completion_tokens}
        self._journal.append({"who": who, **row})

    def spending(self) -> dict[str, dict[str, Any]]:
        """What each endpoint was used for, interrupted runs included, in the order in which they were taken up."""
        return {
            who: {
                "prompt_tokens": endpoint.spending.num_prompt_tokens,
                "completion_tokens": endpoint.spending.num_completion_tokens,
                "unmetered_replies": endpoint.spending.num_unmetered,
                "cost": endpoint.cost,
            }
            for who, endpoint in self._endpoints.items()
        }

    def close(self) -> None:
        self._journal.close()
