"""Connected components, a slice of links at a time."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from kinshot.kin.graph.csr import index_dtype
from kinshot.kin.graph.layers import Layer


def components(n: int, layers: Iterable[Layer]) -> tuple[int, np.ndarray]:
    """How many components there are and which one each node is in (n,), numbered by their smallest node; directions are ignored.

    Links are taken slice by slice and components merged after each, so that most links of later slices are already inside one.
    """
    label, count = np.arange(n, dtype=index_dtype(n)), n
    for layer in layers:
        for a, b in layer.joined():
            first, second = label[a], label[b]
            apart = np.flatnonzero(first != second)
            if len(apart) == 0:
                continue
            links = coo_array((np.ones(len(apart), dtype=np.int8), (first[apart], second[apart])), shape=(count, count))
            count, merged = connected_components(links.tocsr(), directed=False)
            label = merged.astype(label.dtype)[label]
    return int(count), _by_first(label, count)


def _by_first(label: np.ndarray, count: int) -> np.ndarray:
    """The same components, numbered in the order in which they first occur."""
    first = np.full(count, len(label), dtype=np.int64)
    np.minimum.at(first, label, np.arange(len(label)))
    number = np.empty(count, dtype=label.dtype)
    number[np.argsort(first)] = np.arange(count, dtype=label.dtype)
    return number[label]
