"""Random views of a whole batch: one warp and one colour matrix per sample, each sample with its own keyed draw."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.datasets.views import VIEWS
from kinshot.datasets.views._color import MAX_HUE, ColorStrength, blur, recolor
from kinshot.datasets.views._geometry import ELASTIC_POINTS, Geometry, WarpStrength, coefficients, turned
from kinshot.datasets.views._pixels import classes_at, erase, reduced, thicken
from kinshot.datasets.views._tones import MOST_BITS, posterized, solarized
from kinshot.datasets.views.plan import Indices, Plan, Smaller, Views, drawn
from kinshot.datasets.views.warp_plan import WarpPlan
from kinshot.samples.class_map import ClassMapSpec
from kinshot.samples.pixels import PixelSpec
from kinshot.samples.spec import Spec, check_kind

# Columns of a sample's draws. Each effect owns its columns, so that switching one off leaves the others' draws as they were.
_GEOMETRY, _THICKEN, _ERASE = slice(0, 12), slice(12, 14), slice(14, 19)
_COLOR, _BLUR, _ELASTIC = slice(19, 26), slice(26, 28), slice(28, 28 + 2 * ELASTIC_POINTS)
_SOLARIZE, _POSTERIZE = slice(_ELASTIC.stop, _ELASTIC.stop + 1), slice(_ELASTIC.stop + 1, _ELASTIC.stop + 3)
_DRAWS = _POSTERIZE.stop


@VIEWS.register("warp")
class Warp(Views):
    """Random crop, flip, affine and elastic warp in one resampling, then stroke, colour, blur and erasing; per sample, on any device.

    A sample's view depends on (seed, view, epoch, index) and its pixels alone, never on its batch. Images much larger than the
    output are averaged down first. Colour jitter is one matrix per sample: the family and strength of the usual chain of brightness,
    contrast, saturation and hue (rotated in YIQ), in that order and clamped once, so not the same pixels as an image library's.
    Views that differ in their settings, as BYOL's two do in blur and solarizing, are `multi_crop` with `large_views=1` and `share=1.0`.

    Samples of several fields have one geometry: the first field is an image, others are images, each with draws of its own for all but
    geometry, or class maps, which nothing but geometry touches.

    Paper: Simard, Steinkraus, Platt, "Best Practices for Convolutional Neural Networks Applied to Visual Document Analysis", 2003 (elastic)
    Paper: Chen, Kornblith, Norouzi, Hinton, "A Simple Framework for Contrastive Learning of Visual Representations", 2020, arXiv:2002.05709

    Args:
        views: number of views of each image.
        rotation: largest rotation in degrees, either way.
        scale: smallest and largest magnification of the content, log-uniform.
        aspect: largest log of the width-to-height change, either way.
        shear: largest horizontal shear, either way.
        shift: largest shift as a fraction of the image's side, either way.
        crop: smallest and largest area of a random crop, as a fraction of the image; (1, 1) keeps the whole image.
        crop_aspect: largest log of the crop's width-to-height ratio, either way (0.2877 is 3/4 to 4/3).
        flip: probability of a left-right flip.
        elastic: standard deviation of the displacement at 5x5 control points, as a fraction of half the image's side.
        padding: what lies outside the image: zeros (black), border or reflection; auto is reflection for colour images, in which black
            wedges would tell how a view was turned, and zeros for others, drawn on black.
        thicken: probability of blending towards a 3x3 maximum, which thickens bright strokes.
        erase: probability of erasing a rectangle of 2 to 20 % of the area, with the mean pixel.
        jitter: probability of changing brightness, contrast, saturation and hue.
        brightness: largest relative change of brightness.
        contrast: largest relative change of contrast.
        saturation: largest relative change of saturation; colour only.
        hue: largest rotation of the hue, as a fraction of the circle, at most 0.5; colour only.
        gray: probability of removing colour; colour only.
        blur: probability of a Gaussian blur.
        blur_sigma: smallest and largest standard deviation of the blur, in output pixels; 0.1 to 2 is usual for large photographs.
        solarize: probability of turning bright values round (kornia's), as BYOL and MoCo v3 do to one view.
        solarize_from: values of pixels in [0, 1] from which on they are turned round.
        posterize: probability of leaving only the upper bits of every value (kornia's).
        posterize_bits: the fewest bits of 8 that are left, 1 to 7; as many as seven may be.
        turns: whether all samples stand upright in every fourth epoch alone, and a quarter, a half or three quarters of a turn
            counterclockwise in the others, by turns: four times the samples, as in most few-shot papers on characters, at no price. Views
            of a sample and of its kin are turned alike. The last epoch stands upright where the number of epochs is a multiple of four.
        small_size: shorter side in pixels of the views in the first `small_epochs` epochs: cheap steps while the encoder is young.
        small_epochs: number of epochs at `small_size`.
    """

    accepts = ("image",)

    def __init__(
        self,
        input: Spec | Mapping[str, Spec],
        *,
        views: int = 2,
        rotation: float = 20.0,
        scale: tuple[float, float] = (0.7, 1.2),
        aspect: float = 0.0,
        shear: float = 0.0,
        shift: float = 0.0,
        crop: tuple[float, float] = (1.0, 1.0),
        crop_aspect: float = 0.0,
        flip: float = 0.0,
        elastic: float = 0.0,
        padding: Literal["auto", "zeros", "border", "reflection"] = "auto",
        thicken: float = 0.0,
        erase: float = 0.0,
        jitter: float = 1.0,
        brightness: float = 0.0,
        contrast: float = 0.0,
        saturation: float = 0.0,
        hue: float = 0.0,
        gray: float = 0.0,
        blur: float = 0.0,
        blur_sigma: tuple[float, float] = (0.1, 1.0),
        solarize: float = 0.0,
        solarize_from: float = 0.5,
        posterize: float = 0.0,
        posterize_bits: int = 4,
        turns: bool = False,
        small_size: int | None = None,
        small_epochs: int = 0,
    ) -> None:
        super().__init__(input, views)
        self._images = _images_of(self.fields)
        self._first = next(iter(self._images))
        _check_probabilities(flip=flip, thicken=thicken, erase=erase, jitter=jitter, gray=gray, blur=blur)
        _check_probabilities(solarize=solarize, posterize=posterize)
        _check_tones(solarize_from, posterize_bits)
        _check_ranges(scale=scale, crop=crop, blur_sigma=blur_sigma)
        if crop[1] > 1:
            raise ConfigError(f"warp: crop is a fraction of the image's area, at most 1, got {crop}")
        if not 0 <= hue <= MAX_HUE or max(brightness, contrast, saturation) > 1 or min(brightness, contrast, saturation) < 0:
            raise ConfigError("warp: hue must lie in [0, 0.5] and brightness, contrast and saturation in [0, 1]")
        _check_sizes(self.fields.values(), min(self._images[self._first].shape[1:]), views, small_size, small_epochs, turns)
        self.padding, self.turns = padding, turns
        self.thicken, self.erase, self.blur, self.blur_sigma = thicken, erase, blur, blur_sigma
        self.solarize, self.solarize_from, self.posterize, self.posterize_bits = solarize, solarize_from, posterize, posterize_bits
        self.small_size, self.small_epochs = small_size, small_epochs
        if small_size is not None and small_epochs:
            given = f"views.small_size={small_size} with views.small_epochs={small_epochs}"
            self.smaller = Smaller(small_size, given, "set views.small_size=null views.small_epochs=0, or another size")
        self.warp = WarpStrength(np.deg2rad(rotation), scale, aspect, shear, shift, crop, crop_aspect, flip, elastic)
        self.color = ColorStrength(jitter, brightness, contrast, saturation, hue, gray)
        self._geometry: dict[tuple[tuple[int, int], torch.device, tuple[int, int]], Geometry] = {}

    def draw(self, indices: Indices, seed: int, epoch: int) -> WarpPlan:
        """One geometry for all fields, and for each field of images what else becomes of its pixels."""
        plan = drawn(dict.fromkeys(self._images, _DRAWS), self.views, indices, seed, epoch)
        first = self._images[self._first]
        draws = plan.draws[self._first]
        geometry = tuple(coefficients(u[:, _GEOMETRY], u[:, _ELASTIC], self.warp, first.width / first.height) for u in draws)
        if self.turns:
            geometry = tuple(turned(g, (epoch + 1) % 4) for g in geometry)
        return WarpPlan(plan.indices, plan.draws, geometry, self._size(first, epoch), (first.height, first.width))

    def apply(self, plan: Plan, field: str, samples: Tensor) -> list[Tensor]:
        """`views` random views of a loaded batch of a field, on its device.

        Images, uint8 (B, C, H, W), become normalised float32 (B, C, height, width), channels-last; class maps (B, H, W) int64
        (B, height, width): the geometry of the images, read at the nearest pixel, and the value to ignore outside.
        """
        if not isinstance(plan, WarpPlan):
            raise ConfigError(f"warp: expected a plan that warp drew, got {type(plan).__name__}: apply views to their own plans")
        spec, device = self.spec_of(field), samples.device
        size = self._scaled(self.fields[field], plan)
        basis = self._basis(size, device, plan.size)
        grids = (basis.grid(geometry.to(device)) for geometry in plan.geometry)
        if isinstance(spec, ClassMapSpec):
            return [classes_at(samples, grid, spec.ignore) for grid in grids]
        source = reduced(samples.float().div_(255), size)
        return [self._view(self._images[field], source, grid, u.to(device)) for grid, u in zip(grids, plan.draws[field], strict=True)]

    def _view(self, spec: PixelSpec, source: Tensor, grid: Tensor, u: Tensor) -> Tensor:
        x = F.grid_sample(source, grid, mode="bilinear", padding_mode=self._padding_of(spec), align_corners=False)
        if self.thicken > 0:
            x = thicken(x, u[:, _THICKEN], self.thicken)
        if self.color.active(x.shape[1]):
            x = recolor(x, u[:, _COLOR], self.color)
        if self.blur > 0:
            x = blur(x, u[:, _BLUR], self.blur, self.blur_sigma)
        if self.solarize > 0:
            x = solarized(x, u[:, _SOLARIZE], self.solarize, self.solarize_from)
        if self.posterize > 0:
            x = posterized(x, u[:, _POSTERIZE], self.posterize, self.posterize_bits)
        mean, std = (torch.tensor(v, device=x.device).view(1, -1, 1, 1) for v in (spec.mean, spec.std))
        x = x.sub_(mean).div_(std)
        if self.erase > 0:
            x = erase(x, u[:, _ERASE], self.erase)
        return x.contiguous(memory_format=torch.channels_last)

    def _padding_of(self, spec: PixelSpec) -> str:
        return ("reflection" if spec.channels >= 3 else "zeros") if self.padding == "auto" else self.padding

    def _size(self, spec: PixelSpec, epoch: int) -> tuple[int, int]:
        """Height and width of the first field's views in an epoch."""
        if self.small_size is None or epoch >= self.small_epochs:
            return spec.height, spec.width
        least = min(spec.height, spec.width)
        return round(spec.height * self.small_size / least), round(spec.width * self.small_size / least)

    def _scaled(self, spec: Spec, plan: WarpPlan) -> tuple[int, int]:
        """Height and width of a field's views: its own, as much smaller as the first field's are."""
        height, width = (
            max(1, round(side * now / whole)) for side, now, whole in zip(spec.shape[-2:], plan.size, plan.original, strict=True)
        )
        return height, width

    def _basis(self, size: tuple[int, int], device: torch.device, of: tuple[int, int]) -> Geometry:
        key = (size, device, of)
        if key not in self._geometry:
            self._geometry[key] = Geometry(size, device, of)
        return self._geometry[key]


def _images_of(fields: Mapping[str, Spec]) -> dict[str, PixelSpec]:
    """The fields that are images. Raises ConfigError where the first is none, or another is neither an image nor a class map."""
    for place, spec in enumerate(fields.values()):
        if place == 0 or not isinstance(spec, ClassMapSpec):
            check_kind(VIEWS, "warp", spec)
    return {field: spec for field, spec in fields.items() if isinstance(spec, PixelSpec)}


def _check_probabilities(**values: float) -> None:
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise ConfigError(f"warp: {name} is a probability between 0 and 1, got {value}")


def _check_sizes(fields: Iterable[Spec], least: int, views: int, small_size: int | None, small_epochs: int, turns: bool) -> None:
    """Raises ConfigError for views that the fields, the first of which has `least` pixels on its shorter side, cannot have."""
    if views < 1 or small_epochs < 0 or (small_size is not None and small_size < 1):
        raise ConfigError("warp: views and small_size must be at least 1 and small_epochs at least 0")
    if small_size is not None and small_size > least:
        raise ConfigError(
            f"warp: small_size is {small_size}, larger than the images of {least} pixels: lower it, "
            "or set views.small_size=null views.small_epochs=0"
        )
    if small_epochs and small_size is None:
        raise ConfigError(
            f"warp: small_epochs is {small_epochs} but small_size is not set: "
            "give views.small_size a side in pixels, or set views.small_epochs=0 too"
        )
    for shape in (field.shape[-2:] for field in fields):
        if turns and shape[0] != shape[1]:
            raise ConfigError(f"warp: turns needs square images, got {shape[1]}x{shape[0]} pixels: set data.size, or views.turns=false")


def _check_tones(solarize_from: float, posterize_bits: int) -> None:
    if not 0 <= solarize_from <= 1:
        raise ConfigError(f"warp: solarize_from is a value of pixels between 0 and 1, got {solarize_from}")
    if not 1 <= posterize_bits < MOST_BITS:
        raise ConfigError(f"warp: posterize_bits is a number of bits from 1 to {MOST_BITS - 1}, got {posterize_bits}")


def _check_ranges(**values: tuple[float, float]) -> None:
    for name, (low, high) in values.items():
        if not 0 < low <= high:
            raise ConfigError(f"warp: {name} needs 0 < smallest <= largest, got ({low}, {high})")
