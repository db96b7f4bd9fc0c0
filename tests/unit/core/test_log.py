"""Metrics survive kills and resumes."""

import json
from pathlib import Path

from cameleer.core.log import MetricsLog, read_metrics


def test_resume_drops_later_lines_and_a_torn_one(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    for step in range(5):
        log.write(step=step, loss=float(step))
    log.close()
    with path.open("a") as stream:
        stream.write('{"step": 5, "lo')
    log = MetricsLog(path, last_step=2)
    log.write(step=3, loss=30.0)
    log.close()
    assert [(line["step"], line["loss"]) for line in read_metrics(path)] == [(0, 0), (1, 1), (2, 2), (3, 30.0)]


def test_not_finite_is_null(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    MetricsLog(path).write(step=1, loss=float("nan"), norm=float("inf"))
    assert json.loads(path.read_text()) == {"step": 1, "loss": None, "norm": None}
