"""The layout of a file that holds a graph of several kinds of nodes, checked before anything is made of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from kinshot.core.errors import ConfigError, DataError, suggest
from kinshot.datasets.path_sim import incidence

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Lists:
    """A division of nodes: numbers int64 of those to learn from, to choose by and to test on."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class GraphFile:
    """What a file says.

    Args:
        path: the file.
        counts: nodes of every kind.
        target: the kind to be told apart.
        edges: sparse matrices of ones by both kinds.
        features: sparse matrices by kind.
        paths: names of meta-paths.
        labels: int64 (N,) of the target nodes, or None.
        class_names: of the labels.
        lists: divisions by how many labels a class has.
    """

    path: Path
    counts: Mapping[str, int]
    target: str
    edges: Mapping[tuple[str, str], Any]
    features: Mapping[str, Any]
    paths: tuple[str, ...]
    labels: np.ndarray | None
    class_names: tuple[str, ...]
    lists: Mapping[int, Lists]

    def between(self, first: str, second: str) -> Any:
        """Edges of two kinds, rows of the first. Raises ConfigError where there are none."""
        if (first, second) in self.edges:
            return self.edges[first, second]
        if (second, first) in self.edges:
            return self.edges[second, first].T.tocsr()
        raise ConfigError(f"hetero_graph: {self.path} has no edges between {first} and {second}, only {self._said()}")

    def check_path(self, name: str) -> None:
        """Raise ConfigError for a path that does not lead from the target's kind back to it, by the same edges."""
        if name not in self.paths and not set(name) <= self.counts.keys():
            raise ConfigError(f"hetero_graph: no meta-path {name!r}: {suggest(name, self.paths)}")
        if len(name) < 3 or len(name) % 2 == 0 or name != name[::-1] or name[0] != self.target:
            raise ConfigError(
                f"hetero_graph: meta-path {name!r} must lead from {self.target} to some kind and the same way back, such as "
                f"{self.paths[0] if self.paths else 'pap'}"
            )
        for first, second in pairwise(name[: len(name) // 2 + 1]):
            self.between(first, second)

    def _said(self) -> str:
        return ", ".join(f"{first}{second}" for first, second in self.edges)


def graph_of(path: Path, arrays: Arrays) -> GraphFile:
    """The graph in a file's arrays. Raises DataError where they are not of the layout."""
    kinds = [str(kind) for kind in _array(path, arrays, "node_type", "U", 1)]
    numbers = _array(path, arrays, "node_count", "iu", 1)
    if len(kinds) != len(numbers) or len(set(kinds)) != len(kinds) or any(len(kind) != 1 for kind in kinds) or (numbers < 1).any():
        raise DataError(f"{path}: node_type must be different letters, with a number above 0 each in node_count, got {kinds}")
    counts = dict(zip(kinds, map(int, numbers), strict=True))
    target = str(_array(path, arrays, "target_type", "U", 0))
    if target not in counts:
        raise DataError(f"{path}: target_type is {target!r}, expected one of {', '.join(kinds)}")
    edges = {(a, b): _edges(path, arrays, a, b, counts) for a in kinds for b in kinds if f"edges_{a}{b}" in arrays}
    features = {kind: found for kind, count in counts.items() if (found := _features(path, arrays, kind, count)) is not None}
    if target not in features:
        raise DataError(
            f"{path}: feat_{target} is missing: the nodes to be told apart need features; give each a column of its own for none"
        )
    names = tuple(str(name) for name in _array(path, arrays, "metapath", "U", 1)) if "metapath" in arrays else ()
    labels, class_names = _labels(path, arrays, counts[target])
    file = GraphFile(path, counts, target, edges, features, names, labels, class_names, _lists(path, arrays, counts[target]))
    try:
        for name in names:
            file.check_path(name)
    except ConfigError as error:
        raise DataError(f"{path}: metapath: {error}") from error
    if not names:
        raise DataError(f"{path}: metapath is missing or empty: name paths such as pap")
    return file


def _array(path: Path, arrays: Arrays, name: str, kinds: str, rank: int) -> np.ndarray:
    """An array of the file. Raises DataError where it is missing or something else."""
    if name not in arrays:
        raise DataError(f"{path}: the array {name} is missing: see the layout that `ssl show hetero_graph` describes")
    found = arrays[name]
    if found.dtype.kind not in kinds or found.ndim != rank:
        wanted = " or ".join({"U": "text", "i": "whole numbers", "f": "numbers"}[kind] for kind in kinds if kind in "Uif")
        raise DataError(f"{path}: {name} must be {wanted} of {rank} dimensions, got {found.dtype} {found.shape}")
    return found


def _edges(path: Path, arrays: Arrays, first: str, second: str, counts: Mapping[str, int]) -> Any:
    name = f"edges_{first}{second}"
    pairs = _array(path, arrays, name, "iu", 2).astype(np.int64)
    shape = counts[first], counts[second]
    if len(pairs) != 2:
        raise DataError(f"{path}: {name} must be (2, E), got {pairs.shape}")
    for row, kind in enumerate((first, second)):
        wrong = np.flatnonzero((pairs[row] < 0) | (pairs[row] >= shape[row]))
        if len(wrong):
            raise DataError(
                f"{path}: {name}: edge {wrong[0]} has {kind} {pairs[row, wrong[0]]}, and there are {kind} 0 to {shape[row] - 1}"
            )
    keys = pairs[0] * shape[1] + pairs[1]
    if len(np.unique(keys)) < len(keys):
        raise DataError(f"{path}: {name} lists {len(keys) - len(np.unique(keys))} edges twice: give each once")
    return incidence(pairs, shape)


def _features(path: Path, arrays: Arrays, kind: str, count: int) -> Any:
    """Features of a kind as a sparse matrix; None where the file has none."""
    name = f"feat_{kind}"
    if name in arrays:
        matrix = csr_array(_array(path, arrays, name, "iufb", 2).astype(np.float64))
    elif f"{name}_data" in arrays:
        shape = tuple(int(size) for size in _array(path, arrays, f"{name}_shape", "iu", 1))
        parts = [_array(path, arrays, f"{name}_{part}", kinds, 1) for part, kinds in (("data", "iuf"), ("indices", "iu"), ("indptr", "iu"))]
        try:
            matrix = csr_array((parts[0].astype(np.float64), *(part.astype(np.int64) for part in parts[1:])), shape=shape)
            matrix.check_format(full_check=True)
        except (ValueError, TypeError) as error:
            raise DataError(f"{path}: {name} is no sparse matrix: {error}; write data, indices and indptr of scipy's csr_array") from error
    else:
        return None
    if matrix.shape[0] != count or matrix.shape[1] < 1:
        raise DataError(f"{path}: {name} is {matrix.shape}, expected a row for each of {count} {kind} and at least one column")
    if not np.isfinite(matrix.data).all():
        raise DataError(f"{path}: {name} has values that are no numbers (NaN or infinity): fill them in or leave out the column")
    return matrix


def _labels(path: Path, arrays: Arrays, nodes: int) -> tuple[np.ndarray | None, tuple[str, ...]]:
    if "labels" not in arrays:
        return None, ()
    labels = _array(path, arrays, "labels", "iu", 1).astype(np.int64)
    if labels.shape != (nodes,) or labels.min() < 0:
        raise DataError(f"{path}: labels must be {nodes} numbers from 0 on, one for each node, got {labels.shape} from {labels.min()} on")
    names = tuple(str(name) for name in _array(path, arrays, "class_names", "U", 1)) if "class_names" in arrays else ()
    return labels, names


def _lists(path: Path, arrays: Arrays, nodes: int) -> dict[int, Lists]:
    """The published divisions, in ascending order of labels. Raises DataError for numbers out of range or in two lists."""
    found = {}
    for count in sorted(int(match[1]) for name in arrays if (match := re.fullmatch(r"train_([0-9]{1,6})", name))):
        parts = [_array(path, arrays, f"{part}_{count}", "iu", 1).astype(np.int64) for part in ("train", "val", "test")]
        every = np.concatenate(parts)
        if min(map(len, parts)) == 0 or every.min() < 0 or every.max() >= nodes:
            raise DataError(
                f"{path}: train_{count}, val_{count} and test_{count} must be numbers of nodes from 0 to {nodes - 1}, none empty"
            )
        if len(np.unique(every)) < len(every):
            raise DataError(f"{path}: train_{count}, val_{count} and test_{count} have nodes in common, or twice: they must not overlap")
        found[count] = Lists(*parts)
    return found
