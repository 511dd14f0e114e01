"""Whether hierarchical proxies know a hierarchy that no label has told: ancestors of samples, beside the embedding that they stand in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.metrics import normalized_mutual_info_score
from torch import Tensor
from torch.nn import functional as F

from kinshot.core import poincare
from kinshot.core.context import RunContext
from kinshot.core.rng import keyed_numpy
from kinshot.datasets import SOURCES
from kinshot.kin.verification import auc
from kinshot.objectives import OBJECTIVES
from kinshot.recipes.loaded import Loaded, read
from kinshot.runs.embedder import from_checkpoint
from kinshot.studies.answers import features_of

PER_CLASS = 10
"""Samples of each fine class whose pairs are compared."""


def ancestors(run: Path, ask: Mapping[str, Any], seed: int) -> dict[str, float]:
    """What HIER's proxies say of the attribute `coarse` of a run's own training data, whose labels are fine; percent.

    `nmi_ancestors` is that of the coarse classes and each sample's nearest proxy; `nmi_over_k_means` how much more that is than with as
    many k-means clusters. `auc_ancestors` says how well the distance to the common ancestor, the proxy whose larger distance to both is
    the smallest, tells two samples of one coarse class from others, all of different fine classes; `auc_over_cosine` how much better.
    """
    loaded = read(run)
    source = SOURCES.build(loaded.recipe.data.name, settings=loaded.recipe.data.settings)
    z = features_of(from_checkpoint(loaded), source, torch.device("cpu"))["projector"].float()
    coarse, fine = source.attributes[ask["coarse"]], np.asarray(source.labels)
    distances = _to_proxies(loaded, z)
    nearest, unit = distances.argmin(axis=1), F.normalize(z).numpy()
    clusters = KMeans(len(np.unique(nearest)), n_init=3, random_state=seed).fit_predict(unit)
    by_proxies, by_clusters = (100 * normalized_mutual_info_score(coarse, found) for found in (nearest, clusters))
    one, other = some_pairs(fine, seed)
    same = coarse[one] == coarse[other]
    by_ancestor = 100 * auc(-common_ancestor(distances, one, other), same)
    by_cosine = 100 * auc((unit[one] * unit[other]).sum(axis=1), same)
    return {
        "nmi_ancestors": by_proxies,
        "nmi_over_k_means": by_proxies - by_clusters,
        "auc_ancestors": by_ancestor,
        "auc_over_cosine": by_ancestor - by_cosine,
        "proxies_in_use": float(len(np.unique(nearest))),
    }


def _to_proxies(loaded: Loaded, z: Tensor) -> np.ndarray:
    """Distances (N, P) in the ball of embeddings to the proxies of the run's term."""
    place, term = next((k, term) for k, term in enumerate(loaded.recipe.terms) if term.objective.name == "hier")
    nothing = RunContext(num_samples=len(z), batch_size=1, steps_per_epoch=1, total_steps=1, seed=0)
    hier = OBJECTIVES.build("hier", z.shape[1], 0, nothing, settings=term.objective.settings)
    proxies = loaded.checkpoint.training[f"terms/{place}.objective.proxies"].float()
    with torch.no_grad():
        apart = poincare.distances(hier.to_ball(z), hier.to_ball(proxies), hier.curvature, clamped=hier.released)
    found: np.ndarray = apart.numpy()
    return found


def some_pairs(fine: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of all pairs of different fine classes among some samples of each class: int64 (P,) twice."""
    shuffled = keyed_numpy(seed, "pairs of ancestors").permutation(len(fine))
    rows = np.concatenate([shuffled[fine[shuffled] == value][:PER_CLASS] for value in np.unique(fine)])
    one, other = (rows[side] for side in np.triu_indices(len(rows), 1))
    apart = fine[one] != fine[other]
    return one[apart], other[apart]


def common_ancestor(distances: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """How far the common ancestor of each pair is: the smallest, over proxies, of the larger distance of both; (P,)."""
    parts = np.array_split(np.arange(len(one)), len(one) // 10_000 + 1)
    return np.concatenate([np.maximum(distances[one[part]], distances[other[part]]).min(axis=1) for part in parts])
