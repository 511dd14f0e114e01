"""Random views of a whole batch: one warp and one colour matrix per sample, each sample with its own keyed draw."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.core.rng import keyed_uniform
from kinshot.datasets.views import VIEWS
from kinshot.datasets.views._color import MAX_HUE, ColorStrength, blur, recolor
from kinshot.datasets.views._geometry import ELASTIC_POINTS, Geometry, WarpStrength, sampling_grid
from kinshot.samples.pixels import PixelSpec
from kinshot.samples.spec import check_kind

# Columns of a sample's draws. Each effect owns its columns, so that switching one off leaves the others' draws as they were.
_GEOMETRY, _THICKEN, _ERASE = slice(0, 12), slice(12, 14), slice(14, 19)
_COLOR, _BLUR, _ELASTIC = slice(19, 26), slice(26, 28), slice(28, None)
_DRAWS = 28 + 2 * ELASTIC_POINTS


@VIEWS.register("warp")
class Warp:
    """Random crop, flip, affine and elastic warp in one resampling, then stroke, colour, blur and erasing; per sample, on any device.

    A sample's view depends on (seed, view, epoch, index) and its pixels alone, never on its batch. Images much larger than the
    output are averaged down first. Colour jitter is one matrix per sample: the family and strength of the usual chain of brightness,
    contrast, saturation and hue (rotated in YIQ), in that order and clamped once, so not the same pixels as an image library's.

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
        blur_sigma: smallest and largest standard deviation of the blur, in output pixels.
        small_size: side in pixels of the views in the first `small_epochs` epochs: cheap steps while the encoder is young.
        small_epochs: number of epochs at `small_size`.
    """

    accepts = ("image",)

    def __init__(
        self,
        input: PixelSpec,
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
        small_size: int | None = None,
        small_epochs: int = 0,
    ) -> None:
        check_kind(VIEWS, "warp", input)
        _check_probabilities(flip=flip, thicken=thicken, erase=erase, jitter=jitter, gray=gray, blur=blur)
        _check_ranges(scale=scale, crop=crop, blur_sigma=blur_sigma)
        if crop[1] > 1:
            raise ConfigError(f"warp: crop is a fraction of the image's area, at most 1, got {crop}")
        if not 0 <= hue <= MAX_HUE or max(brightness, contrast, saturation) > 1 or min(brightness, contrast, saturation) < 0:
            raise ConfigError("warp: hue must lie in [0, 0.5] and brightness, contrast and saturation in [0, 1]")
        if views < 1 or small_epochs < 0 or (small_size is not None and small_size < 1):
            raise ConfigError("warp: views and small_size must be at least 1 and small_epochs at least 0")
        if small_size is not None and small_size > input.size:
            raise ConfigError(
                f"warp: small_size is {small_size}, larger than the images of {input.size} pixels: lower it, "
                "or set views.small_size=null views.small_epochs=0"
            )
        if small_epochs and small_size is None:
            raise ConfigError(
                f"warp: small_epochs is {small_epochs} but small_size is not set: "
                "give views.small_size a side in pixels, or set views.small_epochs=0 too"
            )
        self.input, self.views = input, views
        self.padding = ("reflection" if input.channels >= 3 else "zeros") if padding == "auto" else padding
        self.thicken, self.erase, self.blur, self.blur_sigma = thicken, erase, blur, blur_sigma
        self.small_size, self.small_epochs = small_size, small_epochs
        self.warp = WarpStrength(np.deg2rad(rotation), scale, aspect, shear, shift, crop, crop_aspect, flip, elastic)
        self.color = ColorStrength(jitter, brightness, contrast, saturation, hue, gray)
        self._geometry: dict[tuple[int, torch.device], Geometry] = {}

    def __call__(self, images: Tensor, indices: Tensor | np.ndarray, seed: int, epoch: int) -> list[Tensor]:
        """`views` random views: uint8 (B, C, H, W) to normalised float32 (B, C, size, size), channels-last, on the images' device."""
        size = self.input.size if self.small_size is None or epoch >= self.small_epochs else self.small_size
        rows = indices.cpu().numpy() if isinstance(indices, Tensor) else np.asarray(indices)
        source = _reduce(images.float().div_(255), size)
        return [self._view(source, keyed_uniform(seed, f"view{v}", epoch, rows, _DRAWS), size) for v in range(self.views)]

    def _view(self, source: Tensor, draws: np.ndarray, size: int) -> Tensor:
        u = torch.from_numpy(draws).to(source.device)
        grid = sampling_grid(self._basis(size, source.device), u[:, _GEOMETRY], u[:, _ELASTIC], self.warp)
        x = F.grid_sample(source, grid, mode="bilinear", padding_mode=self.padding, align_corners=False)
        if self.thicken > 0:
            x = _thicken(x, u[:, _THICKEN], self.thicken)
        if self.color.active(x.shape[1]):
            x = recolor(x, u[:, _COLOR], self.color)
        if self.blur > 0:
            x = blur(x, u[:, _BLUR], self.blur, self.blur_sigma)
        mean, std = (torch.tensor(v, device=x.device).view(1, -1, 1, 1) for v in (self.input.mean, self.input.std))
        x = x.sub_(mean).div_(std)
        if self.erase > 0:
            x = _erase(x, u[:, _ERASE], self.erase)
        return x.contiguous(memory_format=torch.channels_last)

    def _basis(self, size: int, device: torch.device) -> Geometry:
        key = (size, device)
        if key not in self._geometry:
            self._geometry[key] = Geometry(size, device)
        return self._geometry[key]


def _reduce(x: Tensor, size: int) -> Tensor:
    """Average down by a whole factor when the source is more than twice the output: bilinear sampling would skip pixels."""
    factor = min(x.shape[-2:]) // size
    if min(x.shape[-2:]) <= 2 * size or factor < 2:
        return x
    return F.adaptive_avg_pool2d(x, (round(x.shape[-2] / factor), round(x.shape[-1] / factor)))


def _thicken(x: Tensor, u: Tensor, probability: float) -> Tensor:
    amount = torch.where(u[:, 0] < probability, u[:, 1], 0.0).view(-1, 1, 1, 1)
    return torch.lerp(x, _maximum(_maximum(x, 2), 3), amount)


def _maximum(x: Tensor, dim: int) -> Tensor:
    """Maximum over three neighbours along one axis; as elementwise maxima it is ten times faster than `max_pool2d` here."""
    inner = x.shape[dim] - 1
    out = x.clone()
    out.narrow(dim, 1, inner).copy_(torch.maximum(out.narrow(dim, 1, inner), x.narrow(dim, 0, inner)))
    out.narrow(dim, 0, inner).copy_(torch.maximum(out.narrow(dim, 0, inner), x.narrow(dim, 1, inner)))
    return out


def _erase(x: Tensor, u: Tensor, probability: float) -> Tensor:
    """Zero one rectangle (area 2 to 20 %, ratio 1/2 to 2) of normalised x, wholly inside the image."""
    height, width = x.shape[-2:]
    area, ratio = 0.02 + 0.18 * u[:, 1], torch.exp((u[:, 2] - 0.5) * 1.3863)
    sides = torch.stack([(area / ratio).sqrt(), (area * ratio).sqrt()])
    start = u[:, 3:5].t() * (1 - sides)
    row = (torch.arange(height, device=x.device) + 0.5) / height
    column = (torch.arange(width, device=x.device) + 0.5) / width
    inside_rows = (row >= start[0, :, None]) & (row < (start[0] + sides[0])[:, None])
    inside_columns = (column >= start[1, :, None]) & (column < (start[1] + sides[1])[:, None])
    hole = inside_rows[:, None, :, None] & inside_columns[:, None, None, :] & (u[:, 0] < probability).view(-1, 1, 1, 1)
    return x.masked_fill_(hole, 0.0)


def _check_probabilities(**values: float) -> None:
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise ConfigError(f"warp: {name} is a probability between 0 and 1, got {value}")


def _check_ranges(**values: tuple[float, float]) -> None:
    for name, (low, high) in values.items():
        if not 0 < low <= high:
            raise ConfigError(f"warp: {name} needs 0 < smallest <= largest, got ({low}, {high})")
