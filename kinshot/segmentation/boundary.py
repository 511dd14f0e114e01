"""How well outlines agree: pixels of one outline that lie near the other, counted image by image and way by way.

The F-score of outlines within a tolerance that is a share of the image's diagonal.

Papers: Csurka, Larlus, Perronnin, 2013, What is a good evaluation measure for semantic segmentation?, BMVC; Perazzi, Pont-Tuset,
McWilliams, Van Gool, Gross, Sorkine-Hornung, 2016, A benchmark dataset and evaluation methodology for video object segmentation, CVPR (the
tolerance, 0.008 of the diagonal rounded up).

Departures: an outline is the pixels of a thing that have one of another label beside them, above or below, where the second paper's code
takes the pixel at the upper left of each change; what pixels without a truth mean is said, where neither does.
"""

from __future__ import annotations

from math import ceil, hypot
from typing import Literal

import numpy as np
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.samples.class_map import IGNORE

TOLERANCE = 0.008
"""The usual tolerance, as a share of the diagonal."""
Unsaid = Literal["drop", "nearest"]
_AT_ONCE = 1 << 20
"""Pixels that are marked at a time."""
_CROSS = np.array([[[False, True, False], [True, True, True], [False, True, False]]])


def count_edges(prediction: Tensor, truth: Tensor, ways: int, *, tolerance: float = TOLERANCE, unsaid: Unsaid = "drop") -> np.ndarray:
    """Pixels of outlines, int64 (B, ways, 4): predicted ones near a true one, predicted ones, true ones near a predicted one, true ones.

    What is predicted where the truth is 255 changes none of them. The border of the image is no outline.

    Args:
        prediction: labels (B, H, W): 0 background, w + 1 way w.
        truth: way maps (B, H, W).
        ways: W.
        tolerance: what is near, as a share of the diagonal between 0 and 1, rounded up to whole pixels.
        unsaid: what pixels mean whose truth is 255. `drop`: outlines between them and others are none, and those within the tolerance of
            them are not counted, as their counterpart may lie there. `nearest`: they get, in both maps, the label of the nearest pixel that
            has a truth, which puts outlines that a rim hides into its middle.

    Raises:
        ConfigError: a tolerance that is no share, or an unknown way of `unsaid`.
    """
    if not 0 < tolerance < 1 or unsaid not in ("drop", "nearest"):
        raise ConfigError(f"outlines need a tolerance between 0 and 1 and unsaid drop or nearest, got {tolerance} and {unsaid!r}")
    said, is_ = prediction.cpu().numpy(), truth.cpu().numpy()
    radius, known = ceil(tolerance * hypot(*truth.shape[1:])), is_ != IGNORE
    counts = known
    if unsaid == "nearest":
        there = known.any(axis=(1, 2), keepdims=True)
        said, is_ = (_nearest(labels, known) for labels in (said, is_))
        counts, known = np.broadcast_to(there, known.shape), np.ones_like(known)
    elif not known.all():
        counts = known & ~_near(_outline(~known, np.ones_like(known)), radius)
    return np.stack([_compared(said == way + 1, is_ == way + 1, known, counts, radius) for way in range(ways)], axis=1)


def _compared(said: np.ndarray, is_: np.ndarray, known: np.ndarray, counts: np.ndarray, radius: int) -> np.ndarray:
    """The four numbers of one way, (B, 4)."""
    mine, theirs = (_outline(inside & known, known) for inside in (said, is_))
    found = [mine & _near(theirs, radius), mine, theirs & _near(mine, radius), theirs]
    return np.stack([(each & counts).sum(axis=(1, 2)) for each in found], axis=1)


def _outline(inside: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Pixels of a thing that touch one that is known to be none of it."""
    from scipy.ndimage import binary_dilation

    found: np.ndarray = inside & binary_dilation(known & ~inside, _CROSS)
    return found


def _near(line: np.ndarray, radius: int) -> np.ndarray:
    """Which pixels lie within a distance, at least 1, of some pixel of a line, of which there are few, in their own image."""
    reach = np.arange(-radius, radius + 1)
    down, right = np.nonzero(reach[:, None] ** 2 + reach**2 <= radius**2)  # a disk, of which (radius, radius) is the middle
    count, height, width = line.shape
    wide = np.zeros((count, height + 2 * radius, width + 2 * radius), dtype=bool)  # room for disks that leave the image
    flat, offsets = wide.reshape(-1), down * wide.shape[2] + right
    image, y, x = np.nonzero(line)
    places = (image * wide.shape[1] + y) * wide.shape[2] + x
    step = max(1, _AT_ONCE // len(offsets))
    for first in range(0, len(places), step):
        flat[places[first : first + step, None] + offsets] = True
    return wide[:, radius:-radius, radius:-radius]


def _nearest(labels: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Labels, and where nothing is known that of the nearest pixel of the image where something is."""
    from scipy.ndimage import distance_transform_edt

    if known.all() or not known.any():
        return labels
    apart = known.shape[1] + known.shape[2]  # images of a batch lie farther from one another than any two pixels of one
    places = distance_transform_edt(~known, sampling=(apart, 1, 1), return_distances=False, return_indices=True)
    found: np.ndarray = labels[tuple(places)]
    return found
