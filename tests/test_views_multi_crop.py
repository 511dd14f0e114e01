"""Large views and small ones of parts: sizes, draws, mistakes, and a run that learns from them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kinshot.core.checkpoint import load_checkpoint
from kinshot.core.errors import ConfigError
from kinshot.datasets.views import VIEWS
from kinshot.datasets.views.multi_crop import MultiCrop
from kinshot.datasets.views.warp import Warp
from kinshot.learn.features import weights_hash
from kinshot.learn.model import Model
from kinshot.learn.outputs import outputs_of
from kinshot.recipes.check import checked_recipe
from kinshot.recipes.recipe import load_recipe
from kinshot.runs.start import Options
from kinshot.runs.train import train_recipe
from kinshot.samples.batch import Batch
from kinshot.samples.class_map import ClassMapSpec
from kinshot.samples.pixels import PixelSpec
from kinshot.samples.rows import RowSpec
from tests.tiny import TINY

SPEC = PixelSpec(3, 20, 30, (0.5,) * 3, (0.25,) * 3)
INDICES = torch.arange(7, 12)
LEARNS = ["views=multi_crop", "views.views=4", "views.share=0.54", "monitor.tensorboard=false", "train.epochs=1"]


def images() -> torch.Tensor:
    return torch.randint(0, 256, (5, 3, 20, 30), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_small_views_follow_large_ones_which_are_what_they_would_be_alone() -> None:
    views = MultiCrop(SPEC, views=5, large_views=2, share=0.4, large="warp:crop=[0.5, 1.0]:flip=0.5", small="warp:crop=[0.1, 0.2]")
    found = views(images(), INDICES, 3, 1)
    assert [tuple(x.shape) for x in found] == [(5, 3, 20, 30)] * 2 + [(5, 3, 8, 12)] * 3
    alone = Warp(SPEC, views=2, crop=(0.5, 1.0), flip=0.5)(images(), INDICES, 3, 1)
    assert all(torch.equal(one, other) for one, other in zip(found, alone, strict=False))
    again = views(images()[2:3], INDICES[2:3], 3, 1)  # of the sample alone, whatever its batch
    assert all(torch.allclose(one[2:3], other, atol=1e-4) for one, other in zip(found, again, strict=True))
    small = [x.flatten(1) for x in found[2:]]
    assert not torch.allclose(small[0], small[1])


def test_a_small_view_shows_a_small_part() -> None:
    """Of a ramp from left to right, a crop of a tenth shows a narrow range, a large view a wide one."""
    spec = PixelSpec(1, 40, 40, (0.0,), (1.0,))
    ramp = torch.linspace(0, 255, 40).to(torch.uint8).expand(8, 1, 40, 40)
    views = MultiCrop(spec, small="warp:crop=[0.1, 0.1]:scale=[1.0, 1.0]:rotation=0.0", large="warp:scale=[1.0, 1.0]:rotation=0.0")
    ranges = [float((x.amax((1, 2, 3)) - x.amin((1, 2, 3))).mean()) for x in views(ramp, torch.arange(8), 0, 0)]
    assert min(ranges[:2]) > 0.95
    assert max(ranges[2:]) < 0.4


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"large_views": 7}, "large_views"),
        ({"large_views": 0}, "large_views"),
        ({"share": 0.0}, "share"),
        ({"share": 1.5}, "share"),
        ({"large": "warpp"}, "warp"),
        ({"small": "warp:crop=[0.1]"}, "crop"),
        ({"small": "warp:views=3"}, "number"),
        ({"small": "multi_crop"}, "number"),
        ({"small": "warp:crop"}, "setting=value"),
    ],
)
def test_mistakes_are_named(settings: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        VIEWS.build("multi_crop", SPEC, settings=settings)


def test_an_image_and_its_map_move_together() -> None:
    views = MultiCrop({"image": SPEC, "mask": ClassMapSpec(20, 30, classes=2)})
    x = torch.zeros(5, 3, 20, 30, dtype=torch.uint8)
    x[..., 15:] = 255  # white where the map says 1
    mask = (x[:, 0] > 0).long()
    found = views({"image": x, "mask": mask}, INDICES, 0, 0)
    assert [tuple(view["mask"].shape) for view in found] == [(5, 20, 30)] * 2 + [(5, 10, 15)] * 4
    for view in found:
        white, known = view["image"].mean(1) * 0.25 + 0.5, view["mask"] < 2
        sure = known & ((white < 0.1) | (white > 0.9))
        assert torch.equal((white > 0.5)[sure], view["mask"][sure] == 1)
    with pytest.raises(ConfigError, match="images and class maps"):
        MultiCrop(RowSpec(3, (0.0,) * 3, (1.0,) * 3))


def test_neighbouring_views_of_one_size_pass_as_one_batch() -> None:
    model = Model(torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()))
    generator = torch.Generator().manual_seed(0)
    views = [torch.randn(6, 1, side, side, generator=generator) for side in (8, 8, 5, 5, 5)]
    found = outputs_of(model.train(), Batch(torch.arange(6), views), range(5), ("backbone",))
    assert [len(rows) for rows in found.passes("backbone")] == [12, 18]
    assert [len(rows) for rows in found.blocks("backbone")] == [6] * 5
    expected = [model.encoder(torch.cat(part)) for part in (views[:2], views[2:])]
    assert torch.allclose(found["backbone"], torch.cat(expected), atol=1e-6)


@pytest.mark.parametrize("method", ["swav", "dino"])
def test_a_run_learns_from_them_and_resumes(method: str, tmp_path: Path) -> None:
    recipe = load_recipe(str(TINY), [f"method={method}", *LEARNS, "monitor.keep=100"])
    train_recipe(recipe, Options(tmp_path / "whole", "never", quiet=True), lambda text: None)
    points = sorted((tmp_path / "whole" / "checkpoints").iterdir())
    train_recipe(recipe, Options(tmp_path / "again", str(points[0]), quiet=True), lambda text: None)
    hashes = [weights_hash(load_checkpoint(tmp_path / name).training) for name in ("whole", "again")]
    assert hashes[0] == hashes[1]


def test_views_too_small_for_the_encoder_are_refused_before_a_step() -> None:
    given = ["method=swav", *LEARNS, "encoder=resnet12", "data.size=32", "views.share=0.1"]
    with pytest.raises(ConfigError, match=r"views\.share=0\.1, which makes views of 3 pixels"):
        checked_recipe(str(TINY), tuple(given))
    with pytest.raises(ConfigError, match="swav takes 3 views"):
        checked_recipe(str(TINY), ("method=swav", *LEARNS, "method.views=3"))
