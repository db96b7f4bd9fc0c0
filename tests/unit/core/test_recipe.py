"""Recipes: stages in the order of what they read, mistakes named."""

from pathlib import Path

import pytest

from cameleer.core.errors import UserError
from cameleer.core.recipe import load_recipe
from cameleer.core.stage import Input, InputKind, StageConfig


class MakeConfig(StageConfig):
    count: int = 1


class TrainConfig(StageConfig):
    mixture: str = "make"

    def inputs(self) -> list[Input]:
        return [Input("mixture", InputKind.MIXTURE, self.mixture)]


KINDS: dict[str, type[StageConfig]] = {"make": MakeConfig, "train": TrainConfig}


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    return path


HEAD = 'name = "x"\nmodel = "m"\n'


def test_stages_run_in_the_order_of_what_they_read(tmp_path: Path) -> None:
    recipe = load_recipe(
        write(tmp_path, HEAD + '[train]\n[late]\nkind = "train"\nmixture = "other"\n[make]\n[other]\nkind = "make"\n'),
        KINDS,
    )
    names = [stage.name for stage in recipe.stages]
    assert sorted(names) == ["late", "make", "other", "train"]
    assert names.index("make") < names.index("train") and names.index("other") < names.index("late")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + "[mak]\n", r"recipe\.toml: \[mak\]: unknown kind of stage 'mak'\. Did you mean 'make'\?"),
        (HEAD + "[make]\ncuont = 2\n", r"recipe\.toml: make\.cuont: unknown key\. Did you mean 'count'\?"),
        (HEAD + "sed = 1\n[make]\n", r"recipe\.toml: sed: unknown key\. Did you mean 'seed'\?"),
        ('name = "x"\n[make]\n', r"recipe\.toml: model: missing"),
        (HEAD, "no stages"),
        (HEAD + '[base]\nkind = "make"\n', "cannot name a stage"),
        (HEAD + '[a]\nkind = "train"\nmixture = "b"\n[b]\nkind = "train"\nmixture = "a"\n', "in a circle"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_recipe(write(tmp_path, text), KINDS)


def test_overrides_reach_stages(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, HEAD + "[make]\n"), KINDS, ["make.count=7", "seed=3"])
    assert recipe.stage("make").config == MakeConfig(count=7) and recipe.settings.seed == 3


def test_unknown_stage_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no stage 'mke'\. Did you mean 'make'"):
        load_recipe(write(tmp_path, HEAD + "[make]\n"), KINDS).stage("mke")
