"""Photographs as drawings of their edges: dark lines on white, computed in whole numbers, so that they are the same on every machine."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from kinshot.core.errors import ConfigError

# An edge of this share of the darkest is left white.
_FAINTEST = 0.1


def edge_drawings(images: np.ndarray, *, ink: float = 0.08) -> np.ndarray:
    """A drawing of each image, uint8 (N, 1, H, W), black lines on white.

    Each channel is smoothed by a binomial filter of 5 x 5; a pixel's gradient is that of the channel in which it is steepest (Sobel).
    Lines are where it is larger than at both neighbours across the edge; they are as dark as the gradient is large, black for the `ink`
    largest share of an image's pixels, and white below a tenth of that.

    Paper: thinning of edges as in Canny 1986, A Computational Approach to Edge Detection; no hysteresis

    Args:
        images: uint8 (N, C, H, W), at least 2 pixels high and wide.
        ink: share of pixels whose gradient counts as large enough for black, between 0 and 1.

    Raises:
        ConfigError: an ink out of range.
    """
    if not 0 < ink < 1:
        raise ConfigError(f"edge drawings: expected ink between 0 and 1, got {ink:g}")
    across, down = _steepest(_smooth(images.astype(np.int32)))
    size = across**2 + down**2
    size[~_thin(size, across, down)] = 0
    steepest = np.sort(size.reshape(len(size), -1), axis=1)
    black = steepest[:, -max(1, round(ink * steepest.shape[1]))]
    black = np.where(black > 0, black, np.maximum(steepest[:, -1], 1))  # fewer lines than ink: the steepest is black
    dark = np.sqrt(np.minimum(size / black[:, None, None], 1))
    dark[dark < _FAINTEST] = 0
    return (255 - np.rint(255 * dark)).astype(np.uint8)[:, None]


def _smooth(x: np.ndarray) -> np.ndarray:
    """16 times the images under the binomial filter, rounded down: what follows stays within 32 bits."""
    for axis in (2, 3):
        parts = np.moveaxis(sliding_window_view(np.pad(x, [(2 * (k == axis),) * 2 for k in range(4)], mode="edge"), 5, axis=axis), -1, 0)
        x = parts[0] + 4 * parts[1] + 6 * parts[2] + 4 * parts[3] + parts[4]
    return x >> 4


def _steepest(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sobel's gradient, across and down (N, H, W), of the channel where it is largest."""
    p = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    columns, rows = p[:, :, :, 2:] - p[:, :, :, :-2], p[:, :, 2:] - p[:, :, :-2]
    across = columns[:, :, :-2] + 2 * columns[:, :, 1:-1] + columns[:, :, 2:]
    down = rows[:, :, :, :-2] + 2 * rows[:, :, :, 1:-1] + rows[:, :, :, 2:]
    best = (across**2 + down**2).argmax(axis=1)[:, None]
    return np.take_along_axis(across, best, 1)[:, 0], np.take_along_axis(down, best, 1)[:, 0]


def _thin(size: np.ndarray, across: np.ndarray, down: np.ndarray) -> np.ndarray:
    """Where the gradient is larger than at the pixel before it along its direction and no smaller than at the one behind."""
    p = np.pad(size, ((0, 0), (1, 1), (1, 1)))
    height, width = size.shape[1:]

    def at(row: int, column: int) -> np.ndarray:
        return p[:, 1 + row : 1 + row + height, 1 + column : 1 + column + width]

    level, upright = 5 * abs(down) <= 2 * abs(across), 5 * abs(across) <= 2 * abs(down)  # within 22 degrees of an axis
    falling = across * down > 0
    before = np.select([level, upright, falling], [at(0, -1), at(-1, 0), at(-1, -1)], at(-1, 1))
    behind = np.select([level, upright, falling], [at(0, 1), at(1, 0), at(1, 1)], at(1, -1))
    return (size > before) & (size >= behind)
