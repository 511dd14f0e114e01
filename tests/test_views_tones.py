"""Solarizing, posterizing and blur of photographs: kornia's operations by our draws, equal to loops over samples and pixels."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.core.rng import keyed_uniform
from kinshot.datasets.views import VIEWS
from kinshot.datasets.views._color import blur
from kinshot.datasets.views._geometry import ELASTIC_POINTS
from kinshot.datasets.views.warp import Warp
from kinshot.samples.pixels import PixelSpec

COLOR = PixelSpec.square(3, 12, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
GRAY = PixelSpec.square(1, 12, (0.2,), (0.4,))
STILL = {"rotation": 0.0, "scale": (1.0, 1.0)}
BUSY = {"rotation": 30.0, "crop": (0.3, 1.0), "flip": 0.5, "elastic": 0.1, "brightness": 0.4, "hue": 0.1, "gray": 0.2, "blur": 0.5}
BUSY |= {"erase": 0.5, "thicken": 0.3}
FIRST = 28 + 2 * ELASTIC_POINTS
"""Draws that there were before these effects."""


def pictures(count: int, channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, channels, 12, 12), dtype=torch.uint8, generator=generator)


def values(view: Tensor, spec: PixelSpec) -> np.ndarray:
    """Pixels in [0, 1] of a normalised view."""
    return np.asarray(spec.denormalize(view).double())


@pytest.mark.parametrize("spec", [COLOR, GRAY])
def test_solarizing_is_a_loop_over_samples_by_their_own_draws(spec: PixelSpec) -> None:
    images, rows = pictures(40, spec.channels), np.arange(7, 47)
    view = Warp(spec, **STILL, solarize=0.4, solarize_from=0.6)(images, torch.from_numpy(rows), 3, 2)[0]
    plain = Warp(spec, **STILL)(images, torch.from_numpy(rows), 3, 2)[0]
    draws = keyed_uniform(3, "view0", 2, rows, FIRST + 3)
    turned = 0
    for sample in range(40):
        before, after = values(plain, spec)[sample], values(view, spec)[sample]
        on = draws[sample, FIRST] < 0.4
        expected = [1 - v if on and v >= 0.6 else v for v in before.ravel()]
        np.testing.assert_allclose(after.ravel(), expected, atol=2e-6)
        turned += int(on)
    assert 5 < turned < 30


@pytest.mark.parametrize("spec", [COLOR, GRAY])
def test_posterizing_is_a_loop_over_samples_by_their_own_draws(spec: PixelSpec) -> None:
    images, rows = pictures(40, spec.channels), np.arange(40)
    view = Warp(spec, **STILL, posterize=0.5, posterize_bits=3)(images, torch.from_numpy(rows), 0, 0)[0]
    plain = Warp(spec, **STILL)(images, torch.from_numpy(rows), 0, 0)[0]
    draws = keyed_uniform(0, "view0", 0, rows, FIRST + 3)
    met = set()
    for sample in range(40):
        before, after = values(plain, spec)[sample], values(view, spec)[sample]
        bits = 3 + math.floor(draws[sample, FIRST + 2] * 5) if draws[sample, FIRST + 1] < 0.5 else 8
        met.add(bits)
        step = 2 ** (8 - bits)
        if bits == 8:
            np.testing.assert_allclose(after, before, atol=1e-6)
            continue
        # a value within rounding of a step may fall to either side of it
        possible = [np.floor(np.floor(np.clip(before * 255 + way, 0, 255)) / step) * step / 255 for way in (-1e-3, 1e-3)]
        near = np.minimum(abs(after - possible[0]), abs(after - possible[1]))
        assert near.max() < 2e-6
        assert len(np.unique(np.round(after * 255))) <= 2**bits
    assert met == {3, 4, 5, 6, 7, 8}


def test_views_without_them_are_what_they_were_and_with_them_keep_their_draws() -> None:
    """Their draws stand behind those of the other effects."""
    images, rows = pictures(30), torch.arange(30)
    plain = Warp(COLOR, **BUSY)
    assert plain.draw(rows, 5, 1).draws["image"][0].shape[1] == FIRST + 3
    before = torch.from_numpy(keyed_uniform(5, "view1", 1, rows.numpy(), FIRST))
    assert torch.equal(plain.draw(rows, 5, 1).draws["image"][1][:, :FIRST], before)
    once = plain(images, rows, 5, 1)
    some = Warp(COLOR, **BUSY, solarize=0.5)(images, rows, 5, 1)
    same = sum(torch.equal(a[k], b[k]) for a, b in zip(once, some, strict=True) for k in range(30))
    assert 15 < same < 45
    never = Warp(COLOR, **BUSY, posterize=1e-9)(images, rows, 5, 1)
    assert all(torch.equal(a, b) for a, b in zip(once, never, strict=True))


def test_two_views_with_settings_of_their_own() -> None:
    """BYOL's: the first is always blurred, the second hardly, and it alone is solarized."""
    both = "warp:scale=[1.0, 1.0]:rotation=0.0"
    settings = {"views": 2, "large_views": 1, "share": 1.0, "large": f"{both}:blur=1.0", "small": f"{both}:solarize=1.0"}
    first, second = VIEWS.build("multi_crop", COLOR, settings=settings)(pictures(6), torch.arange(6), 0, 0)
    assert first.shape == second.shape == (6, 3, 12, 12)
    plain = values(Warp(COLOR, **STILL)(pictures(6), torch.arange(6), 0, 0)[0], COLOR)
    np.testing.assert_allclose(values(second, COLOR), np.where(plain >= 0.5, 1 - plain, plain), atol=2e-3)
    assert values(first, COLOR).std() < plain.std()


def test_blur_of_large_sigma_is_kornias_gaussian() -> None:
    from kornia.filters import gaussian_blur2d

    x, u = torch.rand(5, 3, 40, 40, generator=torch.Generator().manual_seed(0)), torch.tensor([[0.0, u] for u in (0, 0.2, 0.5, 0.8, 1)])
    sigma = (0.1 + 1.9 * u[:, 1])[:, None].expand(-1, 2)
    torch.testing.assert_close(blur(x, u, 1.0, (0.1, 2.0)), gaussian_blur2d(x, (9, 9), sigma), rtol=0, atol=2e-6)


def test_kornia_is_imported_where_it_is_used_alone() -> None:
    code = "import sys, torch\nfrom kinshot.datasets.views.warp import Warp\nfrom kinshot.samples.pixels import PixelSpec\n"
    code += "spec = PixelSpec.square(3, 8, (0.5,) * 3, (0.5,) * 3)\nx = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)\n"
    code += "Warp(spec, blur=1.0, erase=1.0)(x, torch.arange(2), 0, 0)\nfirst = 'kornia' in sys.modules\n"
    code += "Warp(spec, solarize=1.0)(x, torch.arange(2), 0, 0)\nsys.exit(2 * first + ('kornia' not in sys.modules))"
    assert subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=Path(__file__).parents[1], check=False).returncode == 0


@pytest.mark.parametrize(
    "bad", [{"solarize": 1.5}, {"posterize": -0.1}, {"solarize_from": 1.1}, {"posterize_bits": 0}, {"posterize_bits": 8}]
)
def test_unusable_settings_are_refused_by_name(bad: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"warp: {next(iter(bad))} is a "):
        Warp(COLOR, **bad)  # type: ignore[arg-type]


def test_the_views_that_docs_show_are_made() -> None:
    page = (Path(__file__).parents[1] / "docs" / "photos.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```yaml\n(views:\n.*?)```", page, re.DOTALL)
    given = yaml.safe_load(block)["views"]
    spec = PixelSpec.square(3, 64, (0.5,) * 3, (0.5,) * 3)
    pixels = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    made = VIEWS.build(given.pop("name"), spec, settings=given)(pixels, torch.arange(4), 0, 0)
    assert [view.shape for view in made] == [(4, 3, 64, 64)] * 2
