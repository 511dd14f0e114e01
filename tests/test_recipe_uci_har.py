"""The recipe uci_har: every method that its head names runs with the overrides that it names there, on windows in the official layout."""

from __future__ import annotations

from pathlib import Path

import pytest

import kinshot
from kinshot.core.errors import ConfigError
from kinshot.recipes.recipe import load_recipe
from kinshot.runs.start import Options
from kinshot.runs.train import train_recipe
from tests.sensor_trees import write_recordings, write_uci_har

SMALL = ["train.epochs=1", "train.batch_size=12", "encoder.each=series_cnn:widths=[8, 12]:kernels=[8, 4]:strides=[2, 2]"]
SMALL += ["monitor.tensorboard=false", "monitor.checkpoint_every=1"]
OVERRIDES = [
    "method=cmc",
    "method.core=body_gyro",
    "method=cocoa",
    "method=vicreg_x",
    "method=vicreg_x method.intra=0.5 views.views=2",
    "method=barlow_x method.redundancy=0.016",
    "method=masked_vicreg projector.modalities=false",
    "method=focal method.spacing=2 views.views=2 method.length=2",
]


def pretrained(root: Path, out: Path, *more: str) -> kinshot.Model:
    train_recipe(load_recipe("uci_har", [f"data.root={root}", *SMALL, *more]), Options(out, quiet=True), lambda text: None)
    return kinshot.load(out)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("har")
    write_uci_har(root)
    return root


@pytest.mark.parametrize("overrides", OVERRIDES)
def test_every_method_runs_with_its_overrides(overrides: str, tree: Path, tmp_path: Path) -> None:
    model = pretrained(tree, tmp_path / "run", *overrides.split())
    assert model.embed(model.input.blank(2))["backbone"].shape == (2, 36)


def test_focal_is_refused_on_official_files_which_tell_no_time(tmp_path: Path) -> None:
    write_uci_har(tmp_path / "har", extra=False)
    with pytest.raises(ConfigError, match="focal learns from sequences of windows, and the data has no clock"):
        pretrained(tmp_path / "har", tmp_path / "run", "method=focal", "views.views=2")


def test_the_recipe_takes_recordings_of_ones_own(tmp_path: Path) -> None:
    write_recordings(tmp_path)
    model = pretrained(tmp_path, tmp_path / "run", "data=recordings", "data.seconds=2", f"data.root={tmp_path}")
    assert model.input.names == ("belt", "air")
