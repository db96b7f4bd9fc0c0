"""A hub dataset that the library's cache holds at one commit, while the hub itself cannot be asked."""

import json
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import pyarrow as pa
import pytest

COMMIT, GONE = "a" * 40, "b" * 40


def cache_dataset(folder: Path, monkeypatch: pytest.MonkeyPatch, rows: list[dict[str, Any]]) -> str:
    """Put rows into a cache in `folder` as the split `train` of the dataset whose name is returned, at COMMIT."""

    def refused(*_: Any, **__: Any) -> Any:
        raise ConnectionError("no network")

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", refused)
    monkeypatch.setattr(huggingface_hub.HfApi, "hf_hub_download", refused)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(folder))
    kept = folder / "org___known" / "default" / "0.0.0" / COMMIT
    kept.mkdir(parents=True)
    table = pa.Table.from_pylist(rows)
    with pa.OSFile(str(kept / "known-train.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    info = {
        "features": datasets.Features.from_arrow_schema(table.schema).to_dict(),
        "splits": {"train": {"name": "train", "num_bytes": 100, "num_examples": len(rows), "dataset_name": "known"}},
        "dataset_name": "known",
        "config_name": "default",
        "version": "0.0.0",
    }
    (kept / "dataset_info.json").write_text(json.dumps(info))
    return "org/known"
