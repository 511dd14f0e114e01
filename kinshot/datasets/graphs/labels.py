"""Samples of one class, or of one value of another label, as neighbors."""

from __future__ import annotations

import numpy as np

from kinshot.core.errors import ConfigError, DataError, suggest
from kinshot.datasets.base import Source
from kinshot.datasets.graphs import GRAPHS
from kinshot.kin.graph import RelationGraph, from_metadata


@GRAPHS.register("labels", labelled=True)
def label_graph(source: Source, *, by: tuple[str, ...] = (), weights: tuple[float, ...] = ()) -> RelationGraph:
    """Samples that share a label; several labels (say coarse and super) make one layer each.

    Groups are stored as groups: a class of 10,000 is never 50 million edges.

    Args:
        by: names of the source's labels; none takes its classes.
        weights: one weight for each of them; none weighs them alike.

    Raises:
        ConfigError: a label that the source does not have.
        DataError: a source without labels.

    >>> kinshot.graphs.labels(kinshot.sources.digits(split="test"))
    RelationGraph(355 nodes, undirected entries {: 12252})
    """
    columns = {name: label_column(source, name) for name in (by or ("",))}
    if weights and len(weights) != len(columns):
        raise ConfigError(f"graph.weights: expected one for each of {', '.join(columns)}, got {len(weights)}")
    return from_metadata(columns, weights=dict(zip(columns, weights, strict=True)) if weights else None)


def label_column(source: Source, name: str) -> np.ndarray:
    """The labels called `name` (the classes for ""), int64 (N,). Raises ConfigError or DataError."""
    known = source.categories
    if name in known:
        return known[name]
    if name in source.attributes:
        several = source.attributes[name].ndim > 1
        wrong = "gives a sample several labels: choose graph=multilabels" if several else "is measured, and no label: choose a label"
        raise ConfigError(f"{source.name}: {name!r} {wrong}")
    if name:
        raise ConfigError(f"{source.name} has no label {name!r}: {suggest(name, known)}")
    if source.labels is None:
        raise DataError(f"{source.name} has no labels: choose another graph, for example graph=knn or edges")
    return np.asarray(source.labels)
