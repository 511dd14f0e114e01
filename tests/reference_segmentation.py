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


def mean_of(vectors: list[np.ndarray], shares: list[float], width: int) -> np.ndarray:
    """Weighted mean of vectors; zero without any."""
    total = sum((s * v for s, v in zip(shares, vectors, strict=True)), np.zeros(width))
    return total / sum(shares) if shares else total


def background_of(mask: np.ndarray, way: int, rule: str, other_ways: str) -> np.ndarray:
    """Which pixels of an image of a way (from 1) are background."""
    found = np.zeros(mask.shape, dtype=bool)
    for place in np.ndindex(mask.shape):
        value = int(mask[place])
        nothing, another = value == 255, value not in (0, way, 255)
        found[place] = value == 0 or (nothing and rule == "panet") or (another and other_ways == "background")
    return found


def gram_difference(query: np.ndarray, support: np.ndarray) -> float:
    """Of maps (C, h, w): Frobenius norm of the difference of the channels' cosines, over that of a matrix of ones."""
    width, total = len(query), 0.0
    for a in range(width):
        for b in range(width):
            total += (cosine(query[a], query[b]) - cosine(support[a], support[b])) ** 2
    return math.sqrt(total) / math.sqrt(width * width)


def softmax(values: list[float]) -> np.ndarray:
    powers = np.exp(np.array(values) - max(values))
    return powers / powers.sum()


def prototypes(
    support: np.ndarray, masks: np.ndarray, how: tuple[str, bool, float, str, str], shares: np.ndarray | None = None
) -> np.ndarray:
    """(1 + W, C) of one episode's maps (W, K, C, h, w) and way maps (W, K, H, W): the mean over shots, weighted by shares (W, K) or not."""
    pooling, corners, eps, rule, other_ways = how
    ways, shots, width = support.shape[:3]
    own: list[np.ndarray] = []
    grounds: list[tuple[np.ndarray, int, float]] = []
    for w in range(ways):
        means, weights = [], []
        for k in range(shots):
            share = 1.0 if shares is None else float(shares[w, k])
            mean, weight = mean_and_weight(support[w, k], masks[w, k] == w + 1, pooling, corners, eps)
            if weight > 0:
                means.append(mean)
                weights.append(share)
            ground, weight = mean_and_weight(support[w, k], background_of(masks[w, k], w + 1, rule, other_ways), pooling, corners, eps)
            if weight > 0:
                grounds.append((ground, w, share))
        own.append(mean_of(means, weights, width))
    if shares is None:
        background = mean_of([g for g, _, _ in grounds], [1.0] * len(grounds), width)
    else:
        each = [mean_of([g for g, v, _ in grounds if v == w], [s for _, v, s in grounds if v == w], width) for w in range(ways)]
        there = [each[w] for w in range(ways) if any(v == w for _, v, _ in grounds)]
        background = mean_of(there, [1.0] * len(there), width)
    return np.stack([background, *own])


def pooled_prototypes(support: np.ndarray, masks: np.ndarray, how: tuple[str, bool, float, str, str]) -> np.ndarray:
    """(1 + W, C) of one episode: one mean over all pixels of all shots."""
    pooling, corners, eps, rule, other_ways = how
    ways, shots, width = support.shape[:3]

    def pooled(parts: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
        total, weights = np.zeros(width), 0.0
        for features, mask in parts:
            mean, weight = mean_and_weight(features, mask, pooling, corners, 1.0)
            total, weights = total + mean * (weight + 1.0), weights + weight
        return total / (weights + eps)

    each = [[(support[w, k], masks[w, k] == w + 1) for k in range(shots)] for w in range(ways)]
    ground = [(support[w, k], background_of(masks[w, k], w + 1, rule, other_ways)) for w in range(ways) for k in range(shots)]
    return np.stack([pooled(ground), *(pooled(parts) for parts in each)])


def scores_of(query: np.ndarray, rows: np.ndarray, scale: float) -> np.ndarray:
    """(P, h, w) of maps (C, h, w)."""
    return np.stack([score_map(query, row, scale) for row in rows])


def hsnet_vote(labels: np.ndarray) -> np.ndarray:
    """Binary answers (K, H, W) of one way as the authors' code joins them: bool (H, W)."""
    votes = labels.sum(0)
    return votes / max(votes.max(), 1) >= 0.5


def prior(support: np.ndarray, weights: np.ndarray, query: np.ndarray, eps: float) -> np.ndarray:
    """PFENet's prior of one query (C, h, w) for a way with maps (K, C, h', w') and weights (K, h', w')."""
    found, there = np.zeros(query.shape[1:]), 0
    for features, weight in zip(support, weights, strict=True):
        if weight.max() == 0:
            continue
        best = np.full(query.shape[1:], -np.inf)
        for place in np.ndindex(query.shape[1:]):
            for cell in np.ndindex(weight.shape):
                best[place] = max(best[place], cosine(query[:, place[0], place[1]], weight[cell] * features[:, cell[0], cell[1]]))
        found, there = found + (best - best.min()) / (best.max() - best.min() + eps), there + 1
    return found / max(there, 1)


def cell_label(
    mask: np.ndarray, way: int, cells: tuple[int, int], way_cover: float, background_cover: float, other_ways: str
) -> np.ndarray:
    """Labels of one image's cells, whose height and width divide the mask's: way, 0, or -1."""
    tall, wide = mask.shape[0] // cells[0], mask.shape[1] // cells[1]
    found, own = np.full(cells, -1), np.zeros(cells)
    for y, x in np.ndindex(cells):
        part = mask[y * tall : (y + 1) * tall, x * wide : (x + 1) * wide]
        own[y, x] = (part == way).mean()
        if own[y, x] >= way_cover:
            found[y, x] = way
        elif background_of(part, way, "strict", other_ways).mean() >= background_cover:
            found[y, x] = 0
    if own.max() > 0 and not (found == way).any():
        found[np.unravel_index(own.argmax(), cells)] = way
    return found


def even_choice(count: int, most: int) -> list[int]:
    """Ranks that are taken of `count`: those at which the whole number of shares grows."""
    taken = min(count, most)
    return [r for r in range(count) if (r + 1) * taken // count > r * taken // count]
