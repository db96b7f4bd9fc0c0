from typing import Any

import pytest

from cameleer.core.errors import UserError
from cameleer.core.stage import Input, InputKind
from cameleer.curate.config import CurateConfig
from cameleer.tasks import find_task


def parse(*sources: dict[str, Any], **settings: Any) -> CurateConfig:
    return CurateConfig.parse({"sources": list(sources), **settings}, "curate")


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ({"file": "data/train.v2.jsonl.gz"}, "train.v2"),
        ({"file": "../chat.parquet"}, "chat"),
        ({"dataset": "allenai/tulu-3-sft-mixture"}, "tulu-3-sft-mixture"),
        ({"task": "word-arithmetic", "count": 1}, "word-arithmetic"),
        ({"file": "chat.json", "name": "mine"}, "mine"),
    ],
)
def test_a_source_is_named_after_what_it_reads(source: dict[str, Any], name: str) -> None:
    assert parse(source).sources[0].name == name


def test_files_are_inputs_under_their_sources_names() -> None:
    config = parse({"file": "a.json"}, {"dataset": "org/b"}, {"file": "c/d.parquet", "name": "e"})
    assert config.inputs() == [Input("a", InputKind.FILE, "a.json"), Input("e", InputKind.FILE, "c/d.parquet")]


def test_a_resolved_config_parses_to_itself() -> None:
    config = parse({"file": "a.json", "weight": 1}, {"task": "word-arithmetic", "weight": 2}, num_rows=9)
    assert CurateConfig.parse(config.model_dump(mode="json"), "curate") == config


def test_the_tasks_version_is_part_of_the_config() -> None:
    version = find_task("word-arithmetic").version
    assert parse({"task": "word-arithmetic", "count": 1}).sources[0].task_version == version
    with pytest.raises(UserError, match=rf"task_version: the task 'word-arithmetic' has version {version} here"):
        parse({"task": "word-arithmetic", "count": 1, "task_version": version + 1})


@pytest.mark.parametrize(
    ("sources", "settings", "counts"),
    [
        ([{"file": "a"}, {"file": "b", "count": 7}, {"file": "c", "fraction": 0.5}], {}, [None, 7, None]),
        ([{"file": "a", "weight": 1}, {"file": "b", "weight": 2.5}], {"num_rows": 10}, [3, 7]),
    ],
)
def test_row_counts(sources: list[dict[str, Any]], settings: dict[str, Any], counts: list[int | None]) -> None:
    assert parse(*sources, **settings).row_counts() == counts


@pytest.mark.parametrize(
    ("sources", "settings", "message"),
    [
        ([], {}, "curate: sources is empty; add a table [[curate.sources]] with file, dataset or task."),
        ([{}], {}, "curate.sources.0: a source has exactly one of file, dataset, task and mixture; none is set."),
        ([{"file": "a", "task": "word-arithmetic"}], {}, "file, dataset, task and mixture; file and task are set."),
        ([{"file": "a"}, {"file": "a", "splt": "x"}], {}, "curate.sources.1.splt: unknown key. Did you mean 'split'?"),
        ([{"file": "a", "name": ""}], {}, "name must not be empty"),
        ([{"file": "a", "name": "a\nb"}], {}, "sources.0.name: a source's name is one line of text"),
        ([{"file": "a", "split": "test"}], {}, "split belongs to a hub dataset, and this source is a file; remove it"),
        ([{"dataset": "noslash"}], {}, "sources.0.dataset: string should match pattern"),
        (
            [{"file": "x/a.json"}, {"file": "y/a.json"}],
            {},
            "several sources are named 'a'; give each a name of its own",
        ),
        ([{"file": "a", "count": 5, "weight": 2}], {}, "count = 5 and weight = 2.0 contradict each other; keep one"),
        ([{"file": "a", "count": 0}], {}, "sources.0.count: input should be greater than 0 (got 0)"),
        ([{"file": "a", "fraction": 1.5}], {}, "sources.0.fraction: input should be less than or equal to 1 (got 1.5)"),
        ([{"file": "a", "weight": float("nan")}], {"num_rows": 1}, "sources.0.weight: input should be"),
        ([{"file": "a", "fraction": 0.5, "upsample": True}], {}, "upsample needs count or weight, but fraction is set"),
        ([{"file": "a", "upsample": True}], {}, "upsample needs count or weight, but none is set"),
        ([{"file": "a", "weight": 1}], {}, "sources have weights, but num_rows is not set"),
        ([{"file": "a"}], {"num_rows": 5}, "num_rows = 5 is shared out by weights, but no source has one"),
        (
            [{"file": "a", "weight": 1}, {"file": "b", "count": 5}],
            {"num_rows": 5},
            "some sources have a weight (a) and some have none (b); give one to all or to none",
        ),
        (
            [{"file": "a", "weight": 1}, {"file": "b", "weight": 0.01}],
            {"num_rows": 5},
            "the weight 0.01 of 'b' gives it none of the 5 rows",
        ),
        (
            [{"file": "a", "fields": {"prompt": "p"}}],
            {},
            "sources.0.fields: set messages, or both prompt and completion",
        ),
        ([{"file": "a", "fields": {"messages": "m", "input": "i"}}], {}, "messages holds the whole conversation"),
        ([{"task": "word-arithmetic"}], {}, "the task 'word-arithmetic' has problems without end; set count or weight"),
        ([{"task": "word-arithmetic", "count": 2, "upsample": True}], {}, "upsample is for recorded rows"),
        ([{"file": "a", "task_version": 1}], {}, "task_version = 1 without a task; remove it"),
        ([{"task": "word-arithmetik", "count": 2}], {}, "Did you mean 'word-arithmetic'?; tasks to train on: "),
        (
            [{"task": "word-arithmetic-dev", "count": 2}],
            {},
            "the task 'word-arithmetic-dev' has role dev: it evaluates",
        ),
        ([{"task": "word-arithmetic-unseen", "count": 2}], {}, "the task 'word-arithmetic-unseen' is sealed"),
    ],
)
def test_a_mistake_is_explained(sources: list[dict[str, Any]], settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        parse(*sources, **settings)
    assert message in error.value.what
