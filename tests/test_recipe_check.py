"""`ssl validate` says everything that would stop a run at once: names, values, settings that do not fit each other, paths."""

from __future__ import annotations

from pathlib import Path

import pytest

from kinshot.core.errors import ConfigError
from kinshot.recipes.check import checked_recipe
from kinshot.recipes.recipe import load_recipe, recipe_names
from kinshot.runs.start import Options
from kinshot.runs.train import dry_run
from tests.tiny import TINY


def refused(*overrides: str) -> str:
    with pytest.raises(ConfigError) as error:
        checked_recipe(str(TINY), overrides)
    return str(error.value)


def test_everything_at_once() -> None:
    told = refused(
        "data=folder",
        "data.root=nowhere",
        "train.epochs=fast",
        "views.small_epochs=2",
        "validation.every=3",
        "init=gone",
        "method.temperature=-1",
    )
    for words in ("data.root: there is no nowhere", "train: epochs: expected int", "small_epochs is 2 but small_size is not set"):
        assert words in told
    for words in ("validation.every: without validation.split", "init: there is no gone", "temperature", "has 6 problems"):
        assert words in told


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["validation.split=val", "validation.head=prototyp"], "did you mean 'prototype'?"),
        (["validation.split=val", "validation.feature=projektor"], "did you mean 'projector'?"),
        (["validation.split=test", "data=digits"], "both 'test'"),
        (["validation.split=val", "data=manifold"], "has no splits"),
        (["data=folder", "data.root=.", "data.labels=none", "method=classifier"], "set data.labels=folders"),
        (["data=table", "data.root=."], "takes image, and table gives features"),
        (["views.small_size=20", "views.small_epochs=1"], r"views.small_size=null views.small_epochs=0"),
        (["data.size=32", "views.small_size=10", "views.small_epochs=1"], r"small_size=10 with views.small_epochs=1 does not fit"),
        (["method=byol", "views.views=3"], "takes 2 views"),
        (["graph=edges", "graph.file=gone.csv"], "graph.file: there is no gone.csv"),
        (["distill.losses=[rkd_angle]", "teacher=timm:resnet18:gone.safetensors"], "there is no gone.safetensors"),
        (["method=moco", "method.queue=-1"], "queue"),
        (["encoder.width=0"], "width must be at least 1"),
        (["data=folder", f"data.root={'x' * 400}"], "there is no xxx"),
    ],
)
def test_settings_that_do_not_fit(overrides: list[str], words: str) -> None:
    assert words in refused(*overrides)


def test_a_width_with_zeros_too_many_costs_no_memory(tmp_path: Path) -> None:
    """Shapes alone are made: before, this ended in an allocation of 36 TB, or in one of 17 GB that the machine granted."""
    assert checked_recipe(str(TINY), ("encoder.width=1000000",)).encoder.settings["width"] == 1_000_000
    assert "overflow" in refused("encoder.width=10000000000")


def test_what_is_right_is_left_alone(tmp_path: Path) -> None:
    for name in recipe_names():
        assert checked_recipe(name, ()) == load_recipe(name)
    given = ("data=folder", f"data.root={tmp_path}", "data.labels=none", "views.small_size=16", "views.small_epochs=1", "data.size=32")
    assert checked_recipe(str(TINY), (*given, "encoder.depth=1", "encoder=resnet18")).data.settings["root"] == str(tmp_path)


def test_a_size_schedule_that_does_not_fit_is_refused_before_a_step(tmp_path: Path) -> None:
    recipe = load_recipe(str(TINY), ["data.size=32", "views.small_size=10", "views.small_epochs=1"])
    with pytest.raises(ConfigError, match=r"views\.small_size=null views\.small_epochs=0"):
        dry_run(recipe, Options(tmp_path / "run"))
