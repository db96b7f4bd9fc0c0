"""What a runner of preference tuning measures, with the standard library alone: peers import it too.

Runners take the arguments of `protocol.parse_arguments`; the data is JSONL of `prompt`, `chosen` and `rejected`. They
compute the reference for all pairs, train one epoch in the data's order, and write a `PairReport`.
"""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from protocol import peak_rss_bytes


@dataclass
class Lap:
    """`cpu_seconds` is the processor time of all threads."""

    seconds: float
    cpu_seconds: float


class Timer:
    """Collects laps from `start` to `stop`."""

    def __init__(self) -> None:
        self.laps: list[Lap] = []
        self._began = (0.0, 0.0)

    def start(self) -> None:
        self._began = (time.perf_counter(), time.process_time())

    def stop(self) -> None:
        self.laps.append(Lap(time.perf_counter() - self._began[0], time.process_time() - self._began[1]))


@dataclass
class PairReport:
    """`reference` is the pass over all pairs, `steps` all optimizer steps; tokens are those computed, without padding.

    The first step warms up and is left out of the speed; memory is the process's peak, loading included.
    """

    runner: str
    settings: dict[str, Any]
    versions: dict[str, str]
    reference: Lap
    steps: list[Lap]
    losses: list[float]
    num_tokens: list[int]
    peak_rss_bytes: int = field(default_factory=peak_rss_bytes)

    @property
    def pairs_per_second(self) -> float:
        """Pairs of one step by the mean time of a step and of the reference for as many pairs."""
        return self._speed(lambda lap: lap.seconds)

    @property
    def pairs_per_cpu_second(self) -> float:
        """The same by processor time, which a busy machine moves less."""
        return self._speed(lambda lap: lap.cpu_seconds)

    def _speed(self, time_of: Callable[[Lap], float]) -> float:
        timed = self.steps[1:]
        step = sum(map(time_of, timed)) / len(timed)
        return self.settings["batch_size"] / (step + time_of(self.reference) / len(self.steps))

    @property
    def busy(self) -> float:
        """Processor time over what the threads could have had: well below 1, something else used the machine."""
        laps = [self.reference, *self.steps]
        return sum(lap.cpu_seconds for lap in laps) / (self.settings["threads"] * sum(lap.seconds for lap in laps))

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)) + "\n")

    @classmethod
    def read(cls, path: Path) -> "PairReport":
        content = json.loads(path.read_text())
        content["reference"] = Lap(**content["reference"])
        content["steps"] = [Lap(**lap) for lap in content["steps"]]
        return cls(**content)
