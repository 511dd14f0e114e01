"""Clusters of a run: a method's pseudo-classes or prototypes, else k-means of the features, made for the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kinshot.core.rng import keyed_generator
from kinshot.ssl.interclr.kmeans import kmeans, spread_rows
from kinshot.studies.run_report.content import Cluster, Clusters, Kind
from kinshot.studies.run_report.looked import Looked, embedded

SHOWN, NEAREST = 12, 8
_EACH = 64
"""Samples for each cluster that is made for the page, which has from 2 to SHOWN."""


@dataclass(frozen=True)
class Grouped:
    """Rows at unit length (n, D), the cluster of each (n,), centroids (K, D), and the samples' numbers (n,)."""

    rows: Tensor
    labels: Tensor
    centroids: Tensor
    numbers: np.ndarray


def clusters_of(looked: Looked) -> Clusters | None:
    """The method's pseudo-classes where the samples are those that it learned from, its prototypes, or k-means; None for few samples."""
    kind, grouped = _grouped(looked)
    if grouped is None:
        return None
    classes = None if looked.source.labels is None else np.asarray(looked.source.labels)[grouped.numbers]
    labels = grouped.labels.numpy()
    sizes = np.bincount(labels, minlength=len(grouped.centroids))
    order = np.argsort(-sizes, kind="stable")
    filled = int((sizes > 0).sum())
    chosen = order[np.unique(np.linspace(0, filled - 1, min(SHOWN, filled)).round().astype(np.int64))]
    shown = [_cluster(grouped, number, classes) for number in chosen.tolist()]
    return Clusters(kind, len(labels), sizes[order].tolist(), shown, None if classes is None else _agreement(labels, classes))


def _grouped(looked: Looked) -> tuple[Kind, Grouped | None]:
    training = looked.by.run.checkpoint.training
    own = pseudo_classes(training) if looked.own else None
    if own is not None and len(own.rows) == len(looked.source):
        return "pseudo-classes", own
    placed = _at_prototypes(looked, training.get("method/prototypes.weight"))
    return ("k-means", _made(looked)) if placed is None else ("prototypes", placed)


def pseudo_classes(training: Mapping[str, Tensor]) -> Grouped | None:
    """The pseudo-classes in the training state of a method with a bank; None where it has none, or has not filled it yet."""
    bank = {name: training.get(f"method/bank.{name}") for name in ("features", "labels", "centroids", "counts")}
    if any(value is None for value in bank.values()) or not bool(bank["counts"].any()):  # type: ignore[union-attr]
        return None
    features, labels, centroids = (bank[name] for name in ("features", "labels", "centroids"))
    return Grouped(features.float(), labels, centroids.float(), np.arange(len(features)))  # type: ignore[union-attr,arg-type]


def _at_prototypes(looked: Looked, prototypes: Tensor | None) -> Grouped | None:
    """Every embedded sample at the prototype of the largest cosine similarity with its projection; None where there are none."""
    if prototypes is None or prototypes.ndim != 2:
        return None
    z = embedded(looked.by.model, looked.source, looked.rows, "projector", looked.by.device)
    rows, places = (torch.nn.functional.normalize(each.float(), dim=1) for each in (z, prototypes))
    return Grouped(rows, (rows @ places.T).argmax(dim=1), places, looked.rows) if z.shape[1] == prototypes.shape[1] else None


def _made(looked: Looked) -> Grouped | None:
    count = min(SHOWN, max(2, len(looked.rows) // _EACH))
    if len(looked.rows) < 2 * count:
        return None
    rows = torch.nn.functional.normalize(looked.features, dim=1)
    first = spread_rows(rows, count, keyed_generator(looked.by.run.recipe.seed, "report/clusters"))
    labels, centroids = kmeans(rows, count, first=first)
    return Grouped(rows, labels, centroids, looked.rows)


def _cluster(grouped: Grouped, number: int, classes: np.ndarray | None) -> Cluster:
    members = (grouped.labels == number).nonzero().flatten()
    distance = (grouped.rows[members] - grouped.centroids[number]).square().sum(dim=1)
    near = members[distance.argsort(stable=True)[:NEAREST]].numpy()
    label, share = None, None
    if classes is not None:
        counts = np.bincount(classes[members.numpy()])
        label, share = int(counts.argmax()), float(counts.max() / counts.sum())
    return Cluster(number, len(members), grouped.numbers[near].tolist(), label, share)


def _agreement(labels: np.ndarray, classes: np.ndarray) -> float:
    from sklearn.metrics import adjusted_mutual_info_score

    return float(adjusted_mutual_info_score(classes, labels))
