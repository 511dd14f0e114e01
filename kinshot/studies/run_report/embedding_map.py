"""Maps of embeddings: the two widest directions as they are, and t-SNE, with how much of the neighbourhoods each of them keeps."""

from __future__ import annotations

import numpy as np
import torch

from kinshot.core.rng import keyed_numpy
from kinshot.kin.neighbors.ranking import rank
from kinshot.studies.run_report.content import EmbeddingMap, MapPoint
from kinshot.studies.run_report.looked import Looked

POINTS, NAMED, NEAREST = 300, 8, 10
LEAST, LEAST_TSNE = 3, 12
_WIDE = 50
"""Directions that t-SNE looks at, which is what its authors do."""


def embedding_map(looked: Looked) -> EmbeddingMap | None:
    """Up to POINTS samples, drawn by the run's seed; None for fewer than LEAST."""
    places = _drawn(looked)
    if len(places) < LEAST:
        return None
    z = torch.nn.functional.normalize(looked.features[torch.from_numpy(places)].double(), dim=1)
    wide, explained = principal(z.numpy())
    flat = {"pca": wide[:, :2]}
    if len(places) >= LEAST_TSNE:
        flat["tsne"] = tsne(wide)
    k = min(NEAREST, len(places) - 1)
    near = rank(z, k=k).index.numpy()
    kept = {name: _kept(near, places2) for name, places2 in flat.items()}
    put = {name: _unit_square(places2) for name, places2 in flat.items()}
    labels = np.full(len(places), -1) if looked.labels is None else looked.labels[places]
    points = [
        MapPoint(int(looked.rows[place]), int(labels[i]), _pair(put["pca"][i]), _pair(put["tsne"][i]) if "tsne" in put else None)
        for i, place in enumerate(places.tolist())
    ]
    known, sizes = np.unique(labels[labels >= 0], return_counts=True)
    named = known[np.argsort(-sizes, kind="stable")][:NAMED]
    return EmbeddingMap(points, len(looked.rows), explained, kept, k, k / (len(places) - 1), sorted(named.tolist()), len(known))


def principal(z: np.ndarray) -> tuple[np.ndarray, float]:
    """Rows (n, D) on their principal directions (n, at least 2 and at most _WIDE), and the share of the variance that two of them have."""
    centred = z - z.mean(axis=0)
    left, values, right = np.linalg.svd(centred, full_matrices=False)
    signs = np.sign(right[np.arange(len(right)), np.abs(right).argmax(axis=1)])
    found = left * values * np.where(signs == 0, 1, signs)
    found = np.pad(found, ((0, 0), (0, max(0, 2 - found.shape[1]))))
    total = float((values**2).sum())
    return found[:, :_WIDE], float((values[:2] ** 2).sum()) / total if total else 1.0


def tsne(z: np.ndarray) -> np.ndarray:
    """t-SNE of rows (n, d) from where PCA puts them, so that nothing is drawn: (n, 2). Paper: van der Maaten, Hinton 2008, JMLR 9."""
    from sklearn.manifold import TSNE

    start = z[:, :2] / (z[:, 0].std() or 1.0) * 1e-4
    # exact: its sums do not depend on the number of threads
    found: np.ndarray = TSNE(perplexity=min(30.0, (len(z) - 1) / 3), init=start, method="exact", learning_rate="auto").fit_transform(z)
    return found


def _drawn(looked: Looked) -> np.ndarray:
    """Places among the embedded samples, int64 ascending: with many classes whole classes, as far as they go, so that kin can be seen."""
    count = len(looked.rows)
    if count <= POINTS:
        return np.arange(count)
    rng = keyed_numpy(looked.by.run.recipe.seed, "report/map")
    if looked.labels is None:
        return np.sort(rng.permutation(count)[:POINTS])
    place_of_class = rng.permutation(int(looked.labels.max()) + 1)
    few = np.unique(looked.labels).size <= NAMED
    order = np.lexsort((rng.permutation(count), np.zeros(count) if few else place_of_class[looked.labels]))
    return np.sort(order[:POINTS])


def _kept(near: np.ndarray, flat: np.ndarray) -> float:
    """Share of the nearest int64 (n, k) that are among the k nearest places (n, 2)."""
    found = rank(torch.from_numpy(np.ascontiguousarray(flat, dtype=np.float64)), k=near.shape[1], metric="euclidean").index.numpy()
    return float((near[:, :, None] == found[:, None, :]).any(axis=2).mean())


def _unit_square(flat: np.ndarray) -> np.ndarray:
    """Places in [0, 1], from the left and from the top, of one scale in both directions."""
    low, high = flat.min(axis=0), flat.max(axis=0)
    scale = float((high - low).max()) or 1.0
    found = 0.5 + (flat - (low + high) / 2) / scale
    found[:, 1] = 1 - found[:, 1]
    return found


def _pair(place: np.ndarray) -> tuple[float, float]:
    return round(float(place[0]), 4), round(float(place[1]), 4)
