"""Training on class maps: images and masks of one geometry, scenes for other methods, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kinshot.core.errors import ConfigError
from kinshot.datasets.base import ArraySource
from kinshot.datasets.glyph_scenes import glyph_scenes
from kinshot.recipes.recipe import knows_labels, load_recipe, train_command
from kinshot.runs.data import data_of
from kinshot.runs.job import build
from kinshot.runs.start import Options
from kinshot.runs.train import train_recipe

SCENES = [
    "data.classes=12", "data.per_class=12", "data.size=32", "train.batch_size=6", "train.epochs=2", "train.precision=fp32",
    "method.tasks=2", "method.warmup=2", "encoder.width=8", "encoder.depth=2", "validation.episodes=6", "monitor.log_every=1",
    "monitor.checkpoint_every=0.25", "monitor.tensorboard=false",
]  # fmt: skip


def test_a_recipe_on_class_maps_knows_labels_and_its_command() -> None:
    recipe = load_recipe("glyph_scenes")
    assert train_command(recipe) == "segmentation train"
    assert knows_labels(recipe)


def test_images_and_class_maps_of_a_view_have_one_geometry() -> None:
    job = build(load_recipe("glyph_scenes", [*SCENES, "views.brightness=0", "views.contrast=0", "views.saturation=0", "views.hue=0"]),
                glyph_scenes(classes=12, per_class=12, size=32))  # fmt: skip
    samples, indices = next(iter(job.batches(0, 0)))
    # an image that is its own mask comes out as its own mask, but for what is between pixels
    drawn = torch.stack([(samples["mask"] > 0).to(torch.uint8) * 255] * 3, 1)
    batch = job.make_batch({"image": drawn, "mask": samples["mask"]}, indices, seed=0, epoch=0, step=0)
    for view, mask in zip(batch.views, batch.beside["mask"], strict=True):
        shown, known = job.input.denormalize(view)[:, 0], mask != 255
        inside = (mask > 0) & known
        assert float(shown[inside].mean()) > 0.85
        assert float(shown[known & ~inside].mean()) < 0.1
    assert not torch.equal(batch.beside["mask"][0], batch.beside["mask"][1])


def test_scenes_are_images_for_whoever_learns_without_labels(tmp_path: Path) -> None:
    plain = [text for text in SCENES if not text.startswith(("method.", "validation."))]
    overrides = ["method=simclr", "projector.layers=2", "projector.hidden=8", "projector.dim=8", "validation=null", *plain]
    result = train_recipe(load_recipe("glyph_scenes", overrides), Options(tmp_path / "run", quiet=True), lambda text: None)
    assert result["steps"] > 0


def test_methods_that_learn_from_class_maps_refuse_data_without() -> None:
    with pytest.raises(ConfigError, match="panet learns from the field mask, and digits has image"):
        data_of(ArraySource(torch.zeros(4, 1, 8, 8, dtype=torch.uint8), name="digits"), ("mask",), "panet")
