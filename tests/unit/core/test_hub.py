"""Which commit of a hub dataset is read: the one that its revision means, or none."""

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from hub_support import COMMIT, GONE, cache_dataset

from cameleer.core.errors import UserError
from cameleer.core.hub import ROWS_PER_READ, open_split

ROWS: list[dict[str, Any]] = [{"n": number, "text": "é 😀"} for number in range(ROWS_PER_READ + 1)]


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    return cache_dataset(tmp_path, monkeypatch, ROWS)


def test_the_commit_of_a_cached_dataset_is_told_by_the_cache(cached: str) -> None:
    for revision in (None, COMMIT):
        opened = open_split("here", cached, "train", revision)
        assert (opened.num_rows, opened.commit, opened.license) == (len(ROWS), COMMIT, None)
        assert list(opened.rows) == ROWS


def test_a_revision_that_is_gone_is_named_and_no_other_is_taken(cached: str) -> None:
    """The library itself would read the commit that its cache holds, with a warning on the log."""
    with pytest.raises(UserError, match=rf"^here: revision {GONE} .*cannot be had; the cache holds {COMMIT}"):
        open_split("here", cached, "train", GONE)


def test_a_name_is_no_commit_unless_it_is_known_to_mean_it(
    cached: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the hub a branch, a tag or a short commit might mean any commit; the library would not ask."""
    refs = tmp_path / "hub" / "datasets--org--known" / "refs"
    refs.mkdir(parents=True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    (refs / "v1").write_text(GONE)
    for revision in ("v1", "v2", "main", GONE[:7]):
        with pytest.raises(UserError, match=f"revision {revision} cannot be had; the cache holds {COMMIT}"):
            open_split("here", cached, "train", revision)
    (refs / "v2").write_text(COMMIT)
    for revision in ("v2", COMMIT[:7]):
        assert open_split("here", cached, "train", revision).commit == COMMIT


def test_a_batch_holds_no_more_than_its_rows(cached: str) -> None:
    """The last batch has one row of a thousand: a window on all of them would be sent with them to another process."""
    first, last = open_split("here", cached, "train").batches
    assert last.num_rows == 1 and last.nbytes < 200 < first.nbytes
    assert sum(buffer.size for column in last.columns for buffer in column.buffers() if buffer is not None) < 1000


def test_a_dataset_that_cannot_be_had_says_so(cached: str) -> None:
    with pytest.raises(UserError, match=r"^here: cannot be loaded: .*org/unknown") as failure:
        open_split("here", "org/unknown", "train")
    assert "HF_HUB_OFFLINE" in str(failure.value.hint)
