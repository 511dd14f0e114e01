"""Graphs in which samples that share a value are kin: classes and metadata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kinshot.core.errors import ConfigError, DataError, suggest
from kinshot.kin.graph.block_layer import BlockLayer
from kinshot.kin.graph.csr import index_dtype
from kinshot.kin.graph.graph import RelationGraph


def from_labels(y: Any, *, relation: str = "labels") -> RelationGraph:
    """The graph in which samples of one label are kin, as blocks.

    Args:
        y: label of each sample (n,): integers (negative = missing), text ("" = missing), or numbers with NaN = missing.
            A sample without label has no neighbours.
        relation: name of the layer.

    Raises:
        DataError: not one label a sample, or fractional numbers.

    >>> kinshot.kin.graph.from_labels(np.array([0, 0, 1, 1, -1])).degrees()
    array([1, 1, 1, 1, 0])
    """
    codes = code_values(y, "labels")
    return RelationGraph(len(codes), {relation: BlockLayer(codes)})


def from_metadata(
    columns: Mapping[str, Any], keys: Sequence[str] | None = None, *, weights: Mapping[str, float] | None = None
) -> RelationGraph:
    """The graph in which samples that share a value are kin, with one layer for each column.

    Args:
        columns: values by name, each (n,), as in `from_labels`.
        keys: which columns; all when not given.
        weights: link weight of each column; 1 for those not named.

    Raises:
        ConfigError: no column, an unknown key or weight.
        DataError: columns of different lengths, or values that are no categories.
    """
    chosen = list(columns) if keys is None else list(keys)
    if not chosen:
        raise ConfigError("from_metadata needs at least one column")
    for key in chosen:
        if key not in columns:
            raise ConfigError(f"there is no column {key!r}: {suggest(key, columns)}")
    coded = {key: code_values(columns[key], f"column {key!r}") for key in chosen}
    n = len(coded[chosen[0]])
    for key, codes in coded.items():
        if len(codes) != n:
            raise DataError(f"column {key!r} has {len(codes)} values, column {chosen[0]!r} has {n}: columns must be of one length")
    return RelationGraph(n, {key: BlockLayer(codes) for key, codes in coded.items()}, layer_weights=weights)


def code_values(values: Any, what: str) -> np.ndarray:
    """Categories as numbers 0, 1, ... in sorted order (n,), -1 where the value is missing.

    Raises:
        DataError: not one category for each sample.
    """
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise DataError(f"{what}: values are ragged ({error}): give one for each sample") from error
    if array.ndim != 1 or len(array) == 0:
        raise DataError(f"{what} must hold one value for each of at least one sample, got shape {array.shape}")
    if array.dtype.kind == "O":
        array = np.array(["" if _is_missing(value) else str(value) for value in array])
    known = _known(array, what)
    found = np.full(len(array), -1, dtype=index_dtype(len(array)))
    found[known] = np.unique(array[known], return_inverse=True)[1]
    return found


def _known(array: np.ndarray, what: str) -> np.ndarray:
    if array.dtype.kind in "US":
        return array != array.dtype.type()
    if array.dtype.kind == "b" or array.dtype.kind == "u":
        return np.ones(len(array), dtype=bool)
    if array.dtype.kind == "i":
        return array >= 0
    if array.dtype.kind == "M":
        return ~np.isnat(array)
    if array.dtype.kind == "f":
        known = ~np.isnan(array)
        wrong = known & ~(np.isfinite(array) & (array == np.floor(array)))
        if wrong.any():
            node = int(wrong.argmax())
            raise DataError(f"{what}: node {node} has the value {array[node]}, which is no category: put numbers into bins first")
        return known & (array >= 0)
    raise DataError(f"{what}: values of type {array.dtype} are no categories")


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and np.isnan(value))
