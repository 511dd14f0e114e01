"""PFENet's decoder and BAM's suppression in float64 with loops over images, channels and places, as the papers' code is laid out."""

from __future__ import annotations

import math

import numpy as np


def conv(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
    """x (C, h, w), weight (O, C, k, k), zeros around: (O, h, w)."""
    k = weight.shape[-1]
    padded = np.pad(x, ((0, 0), (k // 2, k // 2), (k // 2, k // 2)))
    out = np.zeros((len(weight), *x.shape[1:]))
    for i in range(x.shape[1]):
        for j in range(x.shape[2]):
            out[:, i, j] = np.tensordot(weight, padded[:, i : i + k, j : j + k], 3) + (0 if bias is None else bias)
    return out


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def bilinear(x: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """x (C, h, w) at another size, corners on corners."""
    h, w = x.shape[1:]
    out = np.zeros((len(x), *size))
    for i in range(size[0]):
        for j in range(size[1]):
            y = i * (h - 1) / (size[0] - 1) if size[0] > 1 else 0.0
            z = j * (w - 1) / (size[1] - 1) if size[1] > 1 else 0.0
            a, b = min(int(y), max(h - 2, 0)), min(int(z), max(w - 2, 0))
            dy, dz = y - a, z - b
            c, d = min(a + 1, h - 1), min(b + 1, w - 1)
            out[:, i, j] = (1 - dy) * ((1 - dz) * x[:, a, b] + dz * x[:, a, d]) + dy * ((1 - dz) * x[:, c, b] + dz * x[:, c, d])
    return out


def adaptive_pool(x: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Mean over the cells that torch's adaptive average pooling takes: from floor(i h / s) to ceil((i + 1) h / s)."""
    h, w = x.shape[1:]
    out = np.zeros((len(x), *size))
    for i in range(size[0]):
        for j in range(size[1]):
            rows = slice(i * h // size[0], math.ceil((i + 1) * h / size[0]))
            columns = slice(j * w // size[1], math.ceil((j + 1) * w / size[1]))
            out[:, i, j] = x[:, rows, columns].mean(axis=(1, 2))
    return out


def middle(maps: list[np.ndarray], weight: np.ndarray) -> np.ndarray:
    """Stages of one image, the first the largest, side by side through a 1x1 convolution."""
    return relu(conv(np.concatenate([bilinear(one, maps[0].shape[1:]) for one in maps]), weight))


def support_vector(features: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Weighted GAP of shots (K, C, h, w) under masks (K, H, W), mean over the shots."""
    vectors = []
    for shot, mask in zip(features, masks, strict=True):
        small = bilinear(mask[None].astype(np.float64), shot.shape[1:])[0]
        vectors.append((shot * small).sum(axis=(1, 2)) / (small.sum() + 0.0005))
    return np.mean(vectors, axis=0)


def prior(query: np.ndarray, support: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Prior mask of a query (C, h, w) by shots (K, C, h, w) under masks (K, H, W): mean over shots of scaled largest cosines."""
    found = []
    for shot, mask in zip(support, masks, strict=True):
        masked = shot * bilinear(mask[None].astype(np.float64), shot.shape[1:])
        best = np.zeros(query.shape[1:])
        for i in range(query.shape[1]):
            for j in range(query.shape[2]):
                q = query[:, i, j]
                best[i, j] = max(
                    q @ masked[:, a, b] / (np.linalg.norm(q) * np.linalg.norm(masked[:, a, b]) + 1e-7)
                    for a in range(masked.shape[1])
                    for b in range(masked.shape[2])
                )
        found.append((best - best.min()) / (best.max() - best.min() + 1e-7))
    return np.mean(found, axis=0)


def enrich(w: dict[str, np.ndarray], scales: list[float], query: np.ndarray, support: np.ndarray, prior: np.ndarray) -> list[np.ndarray]:
    """The released forward pass of one query (D, h, w), (D,), (h, w): log odds of the main head and of each auxiliary one."""
    size, pyramid, outs = query.shape[1:], [], []
    for number, scale in enumerate(scales):
        at = tuple(max(1, math.ceil(side * scale)) for side in size)
        tiled = np.tile(support[:, None, None], (1, *at))
        merged = np.concatenate([adaptive_pool(query, at), tiled, bilinear(prior[None], at)])
        merged = relu(conv(merged, w[f"init_merge.{number}.0.weight"]))
        if number:
            beside = np.concatenate([merged, bilinear(pyramid[-1], at)])
            merged = relu(conv(beside, w[f"alpha.{number - 1}.0.weight"])) + merged
        inner = relu(conv(merged, w[f"beta.{number}.0.weight"]))
        merged = relu(conv(inner, w[f"beta.{number}.2.weight"])) + merged
        outs.append(_head(w, f"inner_heads.{number}", merged))
        pyramid.append(bilinear(merged, size))
    merged = relu(conv(np.concatenate(pyramid), w["res1.0.weight"]))
    inner = relu(conv(merged, w["res2.0.weight"], w["res2.0.bias"]))
    merged = relu(conv(inner, w["res2.2.weight"], w["res2.2.bias"])) + merged
    return [_head(w, "head", merged), *outs]


def _head(w: dict[str, np.ndarray], name: str, x: np.ndarray) -> np.ndarray:
    inner = relu(conv(x, w[f"{name}.0.weight"], w.get(f"{name}.0.bias")))
    return conv(inner, w[f"{name}.2.weight"], w[f"{name}.2.bias"])[0]


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max())
    return e / e.sum()


def cross_entropy(scores: np.ndarray, target: np.ndarray) -> float:
    """Mean over pixels that are not 255 of one image: scores (K, h, w), target (H, W)."""
    scores = bilinear(scores, target.shape)
    found = []
    for i in range(target.shape[0]):
        for j in range(target.shape[1]):
            if target[i, j] != 255:
                found.append(-np.log(softmax(scores[:, i, j])[target[i, j]]))
    return float(np.mean(found))
