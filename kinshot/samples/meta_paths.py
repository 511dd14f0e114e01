"""A graph of several kinds of nodes as one of them sees it: its own features, its meta-paths, and who is met on the way."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Csr:
    """A sparse matrix by rows.

    Args:
        indptr: int32 (R + 1,), where each row begins.
        indices: int32 (E,), columns of the entries.
        values: float32 (E,).
        columns: how many there are.
    """

    indptr: np.ndarray
    indices: np.ndarray
    values: np.ndarray
    columns: int

    @classmethod
    def of(cls, matrix: Any) -> Csr:
        """That of a `scipy.sparse` matrix."""
        found = matrix.tocsr().sorted_indices()
        return cls(found.indptr.astype(np.int32), found.indices.astype(np.int32), found.data.astype(np.float32), int(matrix.shape[1]))

    @classmethod
    def blank(cls, sizes: Sequence[int]) -> Csr:
        """A matrix of zeros of the sizes that `sizes` says, to be filled from a checkpoint."""
        rows, columns, entries = sizes
        return cls(np.zeros(rows + 1, np.int32), np.zeros(entries, np.int32), np.zeros(entries, np.float32), columns)

    @property
    def rows(self) -> int:
        """R."""
        return len(self.indptr) - 1

    @property
    def sizes(self) -> list[int]:
        """Rows, columns, entries."""
        return [self.rows, self.columns, len(self.values)]

    def dense(self, rows: np.ndarray) -> np.ndarray:
        """Some rows in full, float32 (len(rows), columns)."""
        counts = np.diff(self.indptr)[rows]
        entries = np.repeat(self.indptr[rows] - np.concatenate([[0], np.cumsum(counts)[:-1]]), counts) + np.arange(counts.sum())
        found = np.zeros((len(rows), self.columns), dtype=np.float32)
        found[np.repeat(np.arange(len(rows)), counts), self.indices[entries]] = self.values[entries]
        return found

    def arrays(self) -> Iterator[np.ndarray]:
        """What it consists of."""
        yield from (self.indptr, self.indices, self.values)


@dataclass(frozen=True)
class Hop:
    """The nodes that are met at one place of a meta-path.

    Args:
        kind: of these nodes.
        mean: (N, M), their mean over all ways that lead from a target node to them; a row of zeros where there is none.
    """

    kind: str
    mean: Csr


@dataclass(frozen=True)
class MetaPath:
    """A meta-path from target nodes to target nodes.

    Args:
        name: of it, such as pap.
        hops: who is met on the way, the ends left out.
        ways: (N, N), by how many ways a node reaches each neighbour that was kept, itself among them; None where `block` says it.
        block: int32 (N,) for a path on which nodes of one block reach one another by one way each, and no others; else None.
    """

    name: str
    hops: tuple[Hop, ...]
    ways: Csr | None = None
    block: np.ndarray | None = None

    def arrays(self) -> Iterator[np.ndarray]:
        """What it consists of."""
        if self.ways is not None:
            yield from self.ways.arrays()
        if self.block is not None:
            yield self.block
        for hop in self.hops:
            yield from hop.mean.arrays()


@dataclass(frozen=True, eq=False)
class MetaPaths:
    """All that a network may know of a graph.

    Args:
        target: kind of the nodes that are to be told apart, N of them.
        features: (N, F), theirs.
        others: features of the other kinds that paths lead by, by kind: a matrix (M, G) of their own; a mean (M, N) over target nodes,
            whose features are then theirs; or the number M of nodes that have none.
        derived: the kinds whose matrix is such a mean.
        paths: the meta-paths.
    """

    target: str
    features: Csr
    others: Mapping[str, Csr | int]
    derived: tuple[str, ...]
    paths: tuple[MetaPath, ...]

    @property
    def nodes(self) -> int:
        """N."""
        return self.features.rows

    def described(self) -> dict[str, Any]:
        """Kinds, paths and the sizes of all matrices as plain data, which `blank` reads back."""
        return {
            "target": self.target,
            "features": self.features.sizes,
            "others": {kind: found if isinstance(found, int) else found.sizes for kind, found in self.others.items()},
            "derived": list(self.derived),
            "paths": [
                {
                    "name": path.name,
                    "ways": None if path.ways is None else path.ways.sizes,
                    "hops": [[hop.kind, *hop.mean.sizes] for hop in path.hops],
                }
                for path in self.paths
            ],
        }

    @classmethod
    def blank(cls, given: Mapping[str, Any]) -> MetaPaths:
        """A graph of the sizes that `described` gave, all zeros. Raises KeyError, TypeError or ValueError where they are none."""
        nodes = _sizes(given["features"], 3)[0]
        others = {str(kind): found if isinstance(found, int) else Csr.blank(_sizes(found, 3)) for kind, found in given["others"].items()}
        if any(isinstance(found, int) and found < 1 for found in others.values()):
            raise ValueError(f"expected numbers of nodes above 0, got {given['others']!r}")
        paths = []
        for path in given["paths"]:
            hops = tuple(Hop(str(kind), Csr.blank(_sizes(sizes, 3))) for kind, *sizes in path["hops"])
            ways = None if path["ways"] is None else Csr.blank(_sizes(path["ways"], 3))
            paths.append(MetaPath(str(path["name"]), hops, ways, np.zeros(nodes, np.int32) if ways is None else None))
        if not paths:
            raise ValueError("expected at least one meta-path")
        derived = tuple(str(kind) for kind in given["derived"])
        return cls(str(given["target"]), Csr.blank(_sizes(given["features"], 3)), others, derived, tuple(paths))

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of all of it."""
        found = hashlib.sha256(repr(self.described()).encode())
        others = [other for other in self.others.values() if isinstance(other, Csr)]
        matrices: list[Csr | MetaPath] = [self.features, *others, *self.paths]
        for part in matrices:
            for array in part.arrays():
                found.update(np.ascontiguousarray(array).data)
        return found.hexdigest()


def _sizes(given: Any, length: int) -> list[int]:
    """Raises ValueError where these are not so many whole numbers of entries."""
    found = list(given)
    if len(found) != length or any(type(one) is not int or not 0 <= one < 2**31 for one in found) or found[0] < 1:
        raise ValueError(f"expected {length} sizes of a matrix, got {given!r}")
    return found
