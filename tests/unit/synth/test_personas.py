"""Personas: put together by a seed, or read from files; what is none is named."""

import json
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hub_support import COMMIT, GONE, cache_dataset

from cameleer.core.errors import UserError
from cameleer.synth.config import PersonasConfig
from cameleer.synth.personas import personas

PLAIN = PersonasConfig()


def test_those_put_together_are_distinct_and_the_seeds() -> None:
    one, same, other = (list(islice(personas(PLAIN, None, seed), 3000)) for seed in ("1", "1", "2"))
    assert one == same != other and len(set(one)) == 3000
    assert not any(persona.startswith("A a") or persona.startswith("An b") for persona in one)


def test_files_of_lines_of_rows_and_of_parquet_say_the_same(tmp_path: Path) -> None:
    people = ["A baker", "A nurse", "A potter"]
    (tmp_path / "lines").write_text("\n".join([*people, "", "A baker\n"]))
    (tmp_path / "rows").write_text("".join(json.dumps({"persona": each, "n": 1}) + "\n" for each in people))
    pq.write_table(pa.table({"persona": people}), tmp_path / "table")
    found = [list(personas(PLAIN, tmp_path / name, "3")) for name in ("lines", "rows", "table")]
    assert found[0] == found[1] == found[2] and sorted(found[0]) == people


@pytest.mark.parametrize(
    "content, message",
    [("", "holds no persona"), ('{"person": "x"}', "line 1: a row without a text in the column 'persona'"),
     ('A baker\n{"persona": ', "line 2: begins like a JSON object"), ("PAR1 and no more", "not a readable Parquet")],
)  # fmt: skip
def test_a_file_without_personas_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "file").write_text(content)
    with pytest.raises(UserError, match=message):
        list(personas(PLAIN, tmp_path / "file", "0"))


def test_those_of_a_hub_dataset_are_of_the_commit_that_was_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = cache_dataset(tmp_path, monkeypatch, [{"persona": "A baker"}, {"persona": "A nurse"}])
    found = list(personas(PersonasConfig(dataset=dataset, revision=COMMIT), None, "3"))
    assert sorted(found) == ["A baker", "A nurse"]
    with pytest.raises(UserError, match=rf"^personas \({dataset}\): revision {GONE} .*the cache holds {COMMIT}"):
        list(personas(PersonasConfig(dataset=dataset, revision=GONE), None, "3"))
