"""Configs: every mistake is named with its key and the nearest right one."""

from pathlib import Path

import pytest
from pydantic import Field

from cameleer.core.config import Config, apply_overrides, read_toml
from cameleer.core.errors import UserError


class Inner(Config):
    betas: tuple[float, float] = (0.9, 0.999)


class Outer(Config):
    learning_rate: float = Field(default=1e-5, gt=0)
    inner: Inner = Inner()
    parts: tuple[Inner, ...] = ()
    required: int


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"required": 1, "learning_rat": 1.0}, r"^sft\.learning_rat: unknown key\. Did you mean 'learning_rate'\?$"),
        ({"required": 1, "inner": {"beta": 1}}, r"^sft\.inner\.beta: unknown key\. Did you mean 'betas'\?$"),
        ({"required": 1, "parts": [{}, {"zzz": 1}]}, r"^sft\.parts\.1\.zzz: unknown key\. Known keys: betas\.$"),
        ({}, r"^sft\.required: missing; it has no default\.$"),
        ({"required": 1, "learning_rate": -1}, r"^sft\.learning_rate: input should be greater than 0 \(got -1\)\.$"),
    ],
)
def test_mistakes_are_named(table: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Outer.parse(table, "sft")


def test_all_mistakes_are_listed_at_once() -> None:
    with pytest.raises(UserError) as failure:
        Outer.parse({"learning_rate": "x", "other": 1}, "sft")
    assert len(failure.value.what.splitlines()) == 3


def test_configs_are_frozen() -> None:
    with pytest.raises(Exception, match="frozen"):
        Outer(required=1).required = 2


def test_overrides_are_typed_as_toml() -> None:
    tables = {"sft": {"learning_rate": 1.0, "inner": {"betas": [0.9, 0.99]}}, "name": "x"}
    changed = apply_overrides(
        tables, ["sft.learning_rate=5e-7", "sft.inner.betas=[0.8, 0.9]", "name=other run", "eval.n = 3", "a.b=true"]
    )
    assert changed == {
        "sft": {"learning_rate": 5e-7, "inner": {"betas": [0.8, 0.9]}},
        "name": "other run",
        "eval": {"n": 3},
        "a": {"b": True},
    }
    assert tables["sft"]["learning_rate"] == 1.0, "the original is left alone"


@pytest.mark.parametrize("override", ["sft.learning_rate", "=3", "name.x=1"])
def test_malformed_overrides(override: str) -> None:
    with pytest.raises(UserError, match="--set"):
        apply_overrides({"name": "run"}, [override])


def test_toml_problems_name_file_and_line(tmp_path: Path) -> None:
    broken = tmp_path / "recipe.toml"
    broken.write_text("name = 'x'\nseed = = 3\n")
    with pytest.raises(UserError, match=r"recipe\.toml: not valid TOML: .*line 2"):
        read_toml(broken)
    with pytest.raises(UserError, match=r"Did you mean '.*recipe\.toml'"):
        read_toml(tmp_path / "recipes.toml")
    with pytest.raises(UserError, match="is a folder"):
        read_toml(tmp_path)
    broken.write_bytes(b"name = '\xff'")
    with pytest.raises(UserError, match="not valid TOML"):
        read_toml(broken)
