"""What an evaluation knows of a model's training data, and what it admits not to know."""

import json
from pathlib import Path
from typing import Any

import pytest

from cameleer.core.artifact import MANIFEST
from cameleer.core.digest import digest_path
from cameleer.evals.contamination import overlap_with
from cameleer.prefs.config import PrefsConfig
from cameleer.tasks import find_task

TASK = find_task("word-arithmetic-dev")


def certificate(left: int, **changes: Any) -> dict[str, Any]:
    facts = {"version": TASK.version, "generated": {"items": 200, "seed": 3}, "items": 200, "left": left, **changes}
    return {"decontamination": {"measure": {"mode": "ngram"}, "evaluations": {TASK.name: facts}}}


def write(
    folder: Path,
    kind: str,
    inputs: dict[str, Any],
    counts: dict[str, Any] | None = None,
    config: dict[str, Any] | None = None,
) -> None:
    folder.mkdir(exist_ok=True)
    manifest = {"kind": kind, "name": folder.name, "key": folder.name, "config": config or {}, "inputs": inputs}
    manifest |= {"content_digest": "", "seed": 0, "counts": counts or {}}
    (folder / MANIFEST).write_text(json.dumps(manifest))


def mixture(folder: Path, counts: dict[str, Any]) -> dict[str, str]:
    """A curated folder, and what a stage that reads it says of it."""
    write(folder, "curate", {}, counts)
    (folder / "mixture.parquet").write_bytes(folder.name.encode())
    return {"name": folder.name, "digest": digest_path(folder / "mixture.parquet")}


def prefs_config(**tables: Any) -> dict[str, Any]:
    """The config that a prefs stage's manifest has."""
    prompts = {"prompts": [{"mixture": "more"}], "models": [{"model": "sft"}]}
    return PrefsConfig.parse(prompts | tables, "prefs").model_dump(mode="json")


def line(run: Path, counts: dict[str, Any], **prefs: Any) -> Path:
    """dpo from sft from a mixture, and pairs from a second mixture."""
    first, second = mixture(run / "curate", counts), mixture(run / "more", certificate(2))
    write(run / "sft", "sft", {"model": {"name": "base", "digest": "b"}, "mixture": first})
    write(run / "prefs", "prefs", {"prompts more": second}, config=prefs_config(**prefs))
    write(
        run / "dpo",
        "dpo",
        {
            "reference": {"name": "sft", "digest": "s"},
            "model": {"name": "sft", "digest": "s"},
            "pairs": {"name": "prefs", "digest": "p"},
        },
    )
    return run / "dpo"


def test_certificates_of_all_mixtures_in_the_line_add_up(tmp_path: Path) -> None:
    model = line(tmp_path, certificate(5))
    assert overlap_with(model, TASK, 64, 3) == {"items": 200, "overlapping": 7}
    assert overlap_with(tmp_path / "sft", TASK, 64, 3) == {"items": 200, "overlapping": 5}


@pytest.mark.parametrize(
    "counts",
    [{}, certificate(0, version=0), certificate(0, generated={"items": 200, "seed": 4}),
     certificate(0, generated={"items": 63, "seed": 3})],
)  # fmt: skip
def test_a_mixture_that_was_not_compared_with_these_items_leaves_it_unknown(
    tmp_path: Path, counts: dict[str, Any]
) -> None:
    assert overlap_with(line(tmp_path, counts), TASK, 64, 3) is None


def test_a_changed_or_absent_mixture_leaves_it_unknown(tmp_path: Path) -> None:
    model = line(tmp_path, certificate(5))
    (tmp_path / "curate" / "mixture.parquet").write_bytes(b"other rows")
    assert overlap_with(model, TASK, 64, 3) is None
    write(tmp_path / "alone", "dpo", {"pairs": {"name": "elsewhere", "digest": "x"}})
    assert overlap_with(tmp_path / "alone", TASK, 64, 3) is None


@pytest.mark.parametrize(
    "recorded", [{"sources": [{"dataset": "org/pairs"}]}, {"models": [{"model": "sft"}, {"file": "responses.jsonl"}]}]
)
def test_recorded_pairs_and_responses_leave_it_unknown(tmp_path: Path, recorded: dict[str, Any]) -> None:
    assert overlap_with(line(tmp_path, certificate(5), **recorded), TASK, 64, 3) is None


def test_synthetic_rows_are_known_only_as_part_of_a_curated_mixture(tmp_path: Path) -> None:
    """A model of rows that synthesis made of a curated mixture's prompts, and one of those rows curated in turn."""
    write(tmp_path / "synth", "synth", {"prompts augmented": mixture(tmp_path / "curate", certificate(5))})
    write(tmp_path / "sft", "sft", {"mixture": {"name": "synth", "digest": "s"}})
    assert overlap_with(tmp_path / "sft", TASK, 64, 3) is None
    write(tmp_path / "again", "sft", {"mixture": mixture(tmp_path / "both", certificate(1))})
    write(tmp_path / "dpo", "dpo", {"model": {"name": "again", "digest": "a"}})
    assert overlap_with(tmp_path / "dpo", TASK, 64, 3) == {"items": 200, "overlapping": 1}


def test_of_a_model_from_elsewhere_nothing_is_known(tmp_path: Path) -> None:
    assert overlap_with(tmp_path, TASK, 64, 3) is None
