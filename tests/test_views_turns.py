"""Quarter turns by the epoch, of all samples alike: four times the samples at no price."""

from __future__ import annotations

import pytest
import torch

from kinshot.core.errors import ConfigError
from kinshot.core.rng import keyed_generator
from kinshot.datasets.views import VIEWS
from kinshot.samples.class_map import ClassMapSpec
from kinshot.samples.pixels import PixelSpec

SPEC = PixelSpec.square(1, 12, mean=(0.4,), std=(0.3,))
STILL = {"rotation": 0.0, "scale": (1.0, 1.0)}
IMAGES = torch.randint(256, (5, 1, 12, 12), generator=keyed_generator(0, "images"), dtype=torch.uint8)
INDICES = torch.arange(5)


def views(**settings):
    return VIEWS.build("warp", SPEC, settings=settings)


@pytest.mark.parametrize("epoch", range(6))
def test_without_other_changes_a_view_is_the_turned_sample(epoch):
    for view in views(turns=True, **STILL)(IMAGES, INDICES, seed=0, epoch=epoch):
        assert torch.allclose(view, SPEC.normalize(torch.rot90(IMAGES, (epoch + 1) % 4, (2, 3))), atol=1e-4)


@pytest.mark.parametrize("epoch", range(4))
def test_it_is_the_same_view_of_a_sample_that_is_turned_beforehand(epoch):
    more = {"rotation": 20.0, "scale": (0.8, 1.2), "shear": 0.2, "shift": 0.1, "elastic": 0.05, "thicken": 0.5, "padding": "zeros"}
    whole = views(turns=True, **more)(IMAGES, INDICES, seed=3, epoch=epoch)
    before = views(**more)(torch.rot90(IMAGES, (epoch + 1) % 4, (2, 3)), INDICES, seed=3, epoch=epoch)
    assert all(torch.allclose(one, other, atol=2e-4) for one, other in zip(whole, before, strict=True))


def test_class_maps_are_turned_with_their_images():
    fields = {"photo": SPEC, "mask": ClassMapSpec(12, 12, 5)}
    made = VIEWS.build("warp", fields, settings={"turns": True, "views": 1, **STILL})
    classes = torch.randint(5, (5, 12, 12), generator=keyed_generator(1, "classes"))
    (found,) = made({"photo": IMAGES, "mask": classes}, INDICES, seed=0, epoch=1)
    assert torch.equal(found["mask"], torch.rot90(classes, 2, (1, 2)))


def test_places_of_a_turned_view_are_found_in_the_picture():
    made = views(turns=True, **STILL)
    plan = made.draw(INDICES, 0, 0)
    places = torch.tensor([[[0.0, 0.0], [3.0, 1.0]]]).expand(5, 2, 2)
    found, (view, _) = plan.to_original(0, places), made.apply(plan, "image", IMAGES)
    picture = SPEC.normalize(IMAGES)
    for sample in range(5):
        for (x, y), (column, row) in zip(places[sample].long(), found[sample].round().long(), strict=True):
            assert view[sample, 0, y, x] == pytest.approx(float(picture[sample, 0, row, column]), abs=1e-4)


def test_oblong_images_are_refused():
    with pytest.raises(ConfigError, match="turns needs square images, got 12x8 pixels"):
        VIEWS.build("warp", PixelSpec(1, 8, 12, mean=(0.4,), std=(0.3,)), settings={"turns": True})
