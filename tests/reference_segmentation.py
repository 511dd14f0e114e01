"""Slow references of dense episodes: float64, one pixel after the other, straight from the formulas."""

from __future__ import annotations

import math

import numpy as np


def source(i: int, size: int, to: int, align_corners: bool) -> tuple[int, int, float]:
    """The two values of a line that a value of the resized line lies between, and the share of the second."""
    corners, middles = i * (size - 1) / max(to - 1, 1), max((i + 0.5) * size / to - 0.5, 0.0)
    place = corners if align_corners else middles
    low = min(math.floor(place), size - 1)
    return low, min(low + 1, size - 1), place - low


def bilinear(image: np.ndarray, height: int, width: int, align_corners: bool) -> np.ndarray:
    """One map (h, w) in another size."""
    found = np.zeros((height, width))
    for y in range(height):
        top, bottom, down = source(y, image.shape[0], height, align_corners)
        for x in range(width):
            left, right, along = source(x, image.shape[1], width, align_corners)
            upper = (1 - along) * image[top, left] + along * image[top, right]
            lower = (1 - along) * image[bottom, left] + along * image[bottom, right]
            found[y, x] = (1 - down) * upper + down * lower
    return found


def nearest(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """One map (h, w) in another size: the value at the pixel in which the middle of each new one lies."""
    found = np.zeros((height, width), dtype=image.dtype)
    for y in range(height):
        for x in range(width):
            found[y, x] = image[int((y + 0.5) * image.shape[0] / height), int((x + 0.5) * image.shape[1] / width)]
    return found


def resized(features: np.ndarray, height: int, width: int, align_corners: bool) -> np.ndarray:
    """Maps (C, h, w), channel by channel."""
    return np.stack([bilinear(channel, height, width, align_corners) for channel in features])


def mean_and_weight(features: np.ndarray, mask: np.ndarray, pooling: str, align_corners: bool, eps: float) -> tuple[np.ndarray, float]:
    """Masked mean of maps (C, h, w) over a mask (H, W), upsampling features where that is the convention, and the sum of weights."""
    if pooling == "upsample":
        features, weights = resized(features, *mask.shape, align_corners), mask.astype(float)
    elif pooling == "downsample":
        weights = bilinear(mask.astype(float), *features.shape[1:], align_corners)
    else:
        weights = nearest(mask.astype(float), *features.shape[1:])
    total, sum_of_weights = np.zeros(len(features)), 0.0
    for y in range(weights.shape[0]):
        for x in range(weights.shape[1]):
            total += weights[y, x] * features[:, y, x]
            sum_of_weights += weights[y, x]
    return total / (sum_of_weights + eps), sum_of_weights


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """0 where one of them is zero."""
    lengths = math.sqrt((a * a).sum()) * math.sqrt((b * b).sum())
    return float((a * b).sum() / lengths) if lengths else 0.0


def score_map(query: np.ndarray, prototype: np.ndarray, scale: float) -> np.ndarray:
    """scale * cosine of every cell of (C, h, w) with a prototype: (h, w)."""
    found = np.zeros(query.shape[1:])
    for y in range(found.shape[0]):
        for x in range(found.shape[1]):
            found[y, x] = scale * cosine(query[:, y, x], prototype)
    return found


def cross_entropy(scores: np.ndarray, target: np.ndarray, align_corners: bool, ignore: int) -> float:
    """Mean over the pixels of a target (H, W) that are not ignored of scores (K, h, w); 0 where there is none."""
    scores, losses = resized(scores, *target.shape, align_corners), []
    for y in range(target.shape[0]):
        for x in range(target.shape[1]):
            if target[y, x] != ignore:
                logits = scores[:, y, x]
                losses.append(math.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[target[y, x]])
    return float(np.mean(losses)) if losses else 0.0
