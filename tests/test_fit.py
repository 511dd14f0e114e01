"""What a recipe leaves open is filled in from the data, written down, and found again; weights that do not fit say why."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import kinshot
from kinshot.core.checkpoint import latest, load_checkpoint
from kinshot.core.errors import CheckpointError
from kinshot.core.misfit import misfit
from kinshot.encoders.queue import queue_for
from kinshot.recipes.fit import batch_for, filled_in, fit, made_by, with_views
from kinshot.recipes.loaded import with_recipe
from kinshot.recipes.recipe import Choice, load_recipe, recipe_names
from kinshot.runs.inspect import describe
from kinshot.runs.start import Options
from kinshot.runs.teachers import load_teacher
from kinshot.runs.train import train_recipe
from kinshot.samples.pixels import PixelSpec
from kinshot.samples.rows import RowSpec
from tests.tiny import TINY


def pixels(size: int, channels: int = 3) -> PixelSpec:
    return PixelSpec.square(channels, size, (0.5,) * channels, (0.25,) * channels)


@pytest.mark.parametrize(
    ("size", "samples", "batch"), [(28, 10_000, 128), (64, 10_000, 64), (128, 10_000, 32), (28, 100, 16), (28, 11, 8), (28, 300, 64)]
)
def test_batch_follows_size_and_number(size: int, samples: int, batch: int) -> None:
    assert batch_for(pixels(size), samples) == batch


@pytest.mark.parametrize(("samples", "batch", "queue"), [(100_000, 64, 4096), (1000, 64, 448), (20, 16, 16)])
def test_queue_holds_at_most_half_the_samples(samples: int, batch: int, queue: int) -> None:
    assert queue_for(samples, batch) == queue


def test_open_settings_are_filled_in() -> None:
    recipe = load_recipe(str(TINY), ["encoder=auto", "method=interclr", "method.queue=0", "train.batch_size=0"])
    small, large = fit(recipe, pixels(32), 2000), fit(recipe, pixels(96), 2000)
    assert (small.encoder.name, large.encoder.name, large.encoder.settings["stem"]) == ("conv4", "resnet18", "imagenet")
    assert (small.train.batch_size, large.train.batch_size) == (128, 64)
    assert (small.method.settings["clusters"], small.method.settings["queue"]) == (16, 896)
    assert fit(recipe, RowSpec(5, (0.0,) * 5, (1.0,) * 5), 2000).encoder.name == "mlp"
    assert fit(small, pixels(96), 9) == small  # what is filled in stays


OWN_DATA = ("meow", "own_recordings", "photos")
"""Recipes for data of any size, whose batch follows from it."""


@pytest.mark.parametrize("name", [name for name in recipe_names() if name not in OWN_DATA])
def test_shipped_recipes_leave_nothing_open(name: str) -> None:
    recipe = load_recipe(name)
    said = replace(recipe, method=Choice(recipe.method.name, with_views(recipe.method.settings, recipe.views)))
    assert fit(recipe, pixels(28), 5000) == said


@pytest.mark.parametrize("method", ["swav", "dino"])
def test_as_many_views_as_the_views_give(method: str) -> None:
    def views(*overrides: str) -> int:
        return fit(load_recipe(str(TINY), [f"method={method}", *overrides]), pixels(16), 500).method.settings["views"]

    assert (views(), views("views.views=3"), views("views=multi_crop"), views("views.views=3", "method.views=3")) == (2, 3, 6, 3)
    written = load_recipe(str(TINY), [f"method={method}", "views.views=3"])
    assert "views" not in str(filled_in(written, fit(written, pixels(16), 500)))  # the recipe says it itself


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photos")
    for number, image in enumerate(np.random.default_rng(0).integers(0, 256, (9, 70, 70, 3), dtype=np.uint8)):
        Image.fromarray(image).save(root / f"{number}.png")
    return root


def test_a_run_says_what_was_filled_in_and_resumes(photos: Path, tmp_path: Path) -> None:
    given = [f"data.root={photos}", "data.labels=none", "encoder=auto", "train.batch_size=0", "train.epochs=1", "views.elastic=0"]
    recipe = load_recipe(str(TINY), ["data=folder", *given])
    said: list[str] = []
    train_recipe(recipe, Options(tmp_path / "run", quiet=True), said.append)
    written = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert (written["encoder"]["name"], written["encoder"]["stem"], written["train"]["batch_size"]) == ("resnet18", "imagenet", 8)
    assert "from the data: encoder=resnet18, encoder.stem=imagenet, train.batch_size=8" in said
    (tmp_path / "run" / "result.json").unlink()
    assert train_recipe(recipe, Options(tmp_path / "run", resume="auto", quiet=True), said.append)["steps"] == 1
    assert "as it is" in describe(tmp_path / "run")["encoder"]["in torchvision and timm"]
    later = load_recipe(str(TINY), ["data=folder", *given, f"init={tmp_path / 'run'}", "train.batch_size=8"])
    train_recipe(later, Options(tmp_path / "later", quiet=True), said.append)  # encoder=auto takes that of init
    assert yaml.safe_load((tmp_path / "later" / "config.yaml").read_text())["encoder"] == written["encoder"]


def test_a_run_of_older_rules_keeps_its_stem(tmp_path: Path, photos: Path) -> None:
    overrides = ["data=folder", f"data.root={photos}", "data.labels=none", "views.elastic=0", "encoder=resnet18", "encoder.width=0.125"]
    recipe = load_recipe(str(TINY), [*overrides, "encoder.stem=small", "train.batch_size=8", "train.epochs=0"])
    train_recipe(recipe, Options(tmp_path / "run", quiet=True), lambda text: None)
    checkpoint = load_checkpoint(latest(tmp_path / "run") or tmp_path)
    old = replace(checkpoint, config={**checkpoint.config, "encoder": {**checkpoint.config["encoder"], "stem": "auto"}})
    assert made_by(with_recipe(old)).encoder == Choice("resnet18", {"stem": "small", "width": 0.125, "depth": 1.0, "output_stride": 32})
    assert "conv1 = Conv2d(3, 8, 3, 1, 1, bias=False), maxpool = Identity()" in str(describe(tmp_path / "run"))
    assert kinshot.load(tmp_path / "run").encoder.conv1.kernel_size == (3, 3)


def test_misfit_is_short_and_says_what_to_do() -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    state = module.state_dict()
    assert misfit(module, state) == ""
    assert "begin with 'module.'" in misfit(module, {f"module.{name}": value for name, value in state.items()})
    assert "begin with 'model.net.'" in misfit(module, {f"model.net.{name}": value for name, value in state.items()})
    other = {"0.weight": torch.zeros(4, 2), "0.bias": state["0.bias"], "head": torch.zeros(1)}
    told = misfit(module, other)
    assert "5 missing: 1.weight, 1.bias, 1.running_mean and 2 more; 1 left over: head; 1 of another shape" in told
    assert "0.weight (4, 2) in place of (3, 2)" in told


@pytest.mark.parametrize(
    ("rename", "name", "words"), [("net.of.mine.{}", "resnet18", r"net\.of\.mine"), ("{}", "resnet34", "80 missing: layer1")]
)
def test_a_teachers_weights_that_do_not_fit(rename: str, name: str, words: str, tmp_path: Path) -> None:
    import torchvision

    file = tmp_path / "w.safetensors"
    save_file({rename.format(key): value for key, value in torchvision.models.resnet18(num_classes=3).state_dict().items()}, file)
    with pytest.raises(CheckpointError, match=words) as error:
        load_teacher(f"torchvision:{name}:{file}", (), (), pixels(32))
    assert len(str(error.value)) < 600


def test_a_teachers_weights_under_a_known_prefix_are_found(tmp_path: Path) -> None:
    import torchvision

    file, model = tmp_path / "w.safetensors", torchvision.models.resnet18(num_classes=3).eval()
    save_file({f"module.{key}": value for key, value in model.state_dict().items()}, file)
    images = torch.rand(2, 3, 64, 64)
    found = load_teacher(f"torchvision:resnet18:{file}", (), (), pixels(32)).outputs(images, ["logits"])
    torch.testing.assert_close(found["logits"], model(images).detach())
