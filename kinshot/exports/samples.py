"""Samples on which an export is compared with its encoder: photographs for encoders of images, drawn ones for others."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kinshot.core.errors import ConfigError, DataError
from kinshot.core.rng import keyed_generator
from kinshot.datasets.images import decode_readable, load_image, told
from kinshot.datasets.survey import list_images
from kinshot.samples.pixels import PixelSpec
from kinshot.samples.spec import Spec

COUNT = 8
_WINDOWS = ((0, 0, 1.0), (0, 0, 0.5), (0.5, 0.3, 0.4), (0.2, 0.5, 0.25))
"""Squares of a photograph: where the upper left corner is and how long a side, as shares."""


def samples_for(spec: Spec, folder: Path | None) -> tuple[Tensor, str]:
    """Values of samples for an encoder, and what they are.

    Args:
        spec: what the encoder takes.
        folder: whose images are taken; None takes parts of the two photographs that scikit-learn ships.

    Raises:
        ConfigError: a folder for an encoder that takes no images, or a network of more than single samples.
        DataError: a folder without images, or with some that cannot be read.
    """
    if spec.whole:
        raise ConfigError(f"an encoder that takes {spec.kind} looks at all of them at once and is nothing without its graph: not exported")
    if isinstance(spec, PixelSpec):
        images = _shipped() if folder is None else _of(folder, spec)
        squares = torch.cat([spec.fit(image) for image in images])
        what = "parts of two photographs" if folder is None else f"images of {folder.name}"
        return spec.values(squares), what
    if folder is not None:
        raise ConfigError(f"--images shows images to an encoder that takes {spec.kind}: leave it out")
    values = spec.denormalize(spec.noise(COUNT, keyed_generator(0, "export samples")))
    if not spec.steps:
        return values, f"drawn samples ({spec.kind})"
    values[1, ..., values.shape[-1] // 2 :], values[2, 0] = math.nan, math.nan
    return values, f"drawn samples ({spec.kind}), two of them with gaps"


def _shipped() -> list[Tensor]:
    """Squares of the photographs, uint8 (1, 3, H, W)."""
    from sklearn.datasets import load_sample_images

    found = []
    for photograph in load_sample_images().images:
        pixels = torch.from_numpy(np.array(photograph)).permute(2, 0, 1)[None]
        height, width = pixels.shape[2:]
        for top, left, share in _WINDOWS:
            side = int(share * min(height, width))
            row, column = int(top * (height - side)), int(left * (width - side))
            found.append(pixels[:, :, row : row + side, column : column + side])
    return found


def _of(folder: Path, spec: PixelSpec) -> list[Tensor]:
    """The first images of a folder, as the encoder's other images are read."""
    if not folder.is_dir():
        raise DataError(f"--images {folder} is no folder: name one that holds images")
    files = list_images(folder)[:COUNT]
    if not files:
        raise DataError(f"no image below {folder}: name a folder that holds some")
    side, channels = spec.side, 1 if spec.channels == 1 else 3
    images, failed = decode_readable(files, lambda path: load_image(path, side, channels), (channels, side, side))
    if failed:
        raise DataError(told(failed, len(files)))
    return [torch.from_numpy(image)[None] for image in images]
