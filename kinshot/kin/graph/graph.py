"""`RelationGraph`: which samples are kin, given by the user, in several layers at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from kinshot.core.errors import ConfigError, DataError, suggest
from kinshot.kin.graph import sampling
from kinshot.kin.graph.balls import ball
from kinshot.kin.graph.block_layer import BlockLayer
from kinshot.kin.graph.components import components
from kinshot.kin.graph.csr import chunks, pointers
from kinshot.kin.graph.edge_layer import EdgeLayer
from kinshot.kin.graph.findings import check_layers, findings, without_conflicts
from kinshot.kin.graph.induced import Induced, induce
from kinshot.kin.graph.intervals import Order, closed_neighborhoods, make_order, runs_of
from kinshot.kin.graph.layers import Layer, Neighbors


@dataclass(frozen=True)
class DegreeStats:
    """How many neighbours nodes have; `links` counts an undirected link once."""

    nodes: int
    links: int
    isolated: int
    minimum: int
    median: float
    mean: float
    maximum: int


class RelationGraph:
    """Kinship of n samples: named layers of links, optional explicit negatives and groups. Never n x n, never changed after it is made.

    Paper: McDermott, Yap, Szolovits, Zitnik, "Structure-inducing pre-training", 2023, Nature Machine Intelligence,
    arXiv 2103.10334 (there one unweighted layer).

    Args:
        n: number of nodes, the samples 0 .. n - 1.
        layers: links by name; a node's neighbours are those of all layers together, and their weights add up.
        layer_weights: factor > 0 of each layer's link weights; 1 for those not named.
        negatives: pairs known to be strangers; those that a layer links are dropped and reported by `validate`.
        groups: group of each node, int (n,), -1 = none, for negatives of the same group.
        directed: links lead one way; neighbours are then where links lead to.

    Raises:
        ConfigError: unknown or unfit layer weights.
        DataError: no layer, no node, or layers, negatives and groups of different sizes.

    >>> graph = kinshot.kin.graph.from_edges(np.array([[0, 1], [1, 2], [3, 4]]), n=5)
    >>> graph
    RelationGraph(5 nodes, undirected entries {edges: 6})
    >>> graph.degrees()
    array([1, 2, 1, 1, 1])
    >>> graph.induced(np.array([0, 1, 3])).positive
    array([[1., 1., 0.],
           [1., 1., 0.],
           [0., 0., 1.]], dtype=float32)
    """

    def __init__(
        self,
        n: int,
        layers: Mapping[str, Layer],
        *,
        layer_weights: Mapping[str, float] | None = None,
        negatives: EdgeLayer | None = None,
        groups: ArrayLike | None = None,
        directed: bool = False,
    ) -> None:
        self.n, self.layers, self.directed = int(n), dict(layers), bool(directed)
        self.layer_weights = _layer_weights(self.layers, layer_weights)
        self.groups = None if groups is None else np.asarray(groups)
        check_layers(self.n, self.layers, negatives, self.groups)
        self.negatives, self.conflicts = without_conflicts(self.layers, negatives)

    def __repr__(self) -> str:
        names = ", ".join(f"{name}: {layer.entries()}" for name, layer in self.layers.items())
        return f"RelationGraph({self.n} nodes, {'directed' if self.directed else 'undirected'} entries {{{names}}})"

    def __len__(self) -> int:
        return self.n

    @cached_property
    def order(self) -> Order:
        """The order of nodes in which neighbourhoods are few intervals."""
        return make_order(self.n, list(self.layers.values()), self.groups)

    @cached_property
    def _group_runs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if self.groups is None:
            raise ConfigError("this graph has no groups: give RelationGraph(groups=...)")
        codes, group = np.unique(self.groups, return_inverse=True)
        runs = runs_of(group[self.order.nodes(np.arange(self.n))], len(codes))
        return group, runs.starts, runs.ends

    def group_window(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First and one past the last position of each node's group in `order`, int64 (B,); an empty window for nodes in none."""
        group, starts, ends = self._group_runs
        low, known = starts[group[ids]], np.asarray(self.groups)[ids] >= 0
        return low, np.where(known, ends[group[ids]], low)

    def degrees(self) -> np.ndarray:
        """How many different neighbours each node has, int64 (n,)."""
        layers = list(self.layers.values())
        if len(layers) == 1:
            return layers[0].degrees()
        found = np.zeros(self.n, dtype=np.int64)
        for start, stop in chunks(sum((layer.cost(1) for layer in layers), np.ones(self.n, dtype=np.int64))):
            ids = np.arange(start, stop)
            found[start:stop] = closed_neighborhoods(self.order, layers, ids, self.n).sizes() - 1
        return found

    def neighbors(self, ids: ArrayLike) -> Neighbors:
        """Neighbours of some nodes (B,) in all layers, with the summed link weights. Lists them all: large blocks give long lists.

        Raises:
            DataError: an id that is not a node.
        """
        ids = self.checked(ids)
        rows, columns, weights = zip(*(self._weighted_pairs(name, ids) for name in self.layers), strict=True)
        if len(rows) == 1 and not isinstance(next(iter(self.layers.values())), BlockLayer):
            return Neighbors(pointers(np.bincount(rows[0], minlength=len(ids))), columns[0], weights[0])
        key, place = np.unique(np.concatenate(rows) * self.n + np.concatenate(columns), return_inverse=True)
        summed = np.bincount(place, np.concatenate(weights), len(key)).astype(np.float32)
        return Neighbors(pointers(np.bincount(key // self.n, minlength=len(ids))), key % self.n, summed)

    def _weighted_pairs(self, name: str, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rows, columns, weights = self.layers[name].pairs(ids)
        factor = np.float32(self.layer_weights[name])
        return rows, columns, np.full(len(rows), factor) if weights is None else weights * factor

    def ball(self, ids: ArrayLike, hops: int) -> Neighbors:
        """All nodes within `hops` hops of some nodes (B,), themselves left out; every weight is 1.

        Raises:
            ConfigError: `hops` below 1.
            DataError: an id that is not a node.
        """
        if hops < 1:
            raise ConfigError(f"hops must be at least 1, got {hops}")
        return ball(list(self.layers.values()), self.checked(ids), hops, self.n)

    def weights(self, a: ArrayLike, b: ArrayLike) -> np.ndarray:
        """Link weights of the pairs (a[e], b[e]), float32 (len,), 0 = not linked; a node is not linked with itself.

        Raises:
            DataError: an id that is not a node, or lists of different lengths.
        """
        a, b = self.checked(a), self.checked(b)
        if len(a) != len(b):
            raise DataError(f"weights of pairs need two lists of one length, got {len(a)} and {len(b)} ids")
        found = np.zeros(len(a), dtype=np.float32)
        for name, layer in self.layers.items():
            found += layer.weights_of(a, b) * np.float32(self.layer_weights[name])
        return found

    def sample_positives(
        self, ids: ArrayLike, count: int, rng: np.random.Generator, how: str = "edge", hops: int = 2, walk_length: int = 4
    ) -> np.ndarray:
        """`count` independent draws of kin for each of `ids` (B,): int64 (B, count), -1 where a node has none.

        Args:
            ids: node ids, repeats allowed.
            count: draws for each.
            rng: where the draws come from.
            how: "edge": a neighbour, with probability proportional to link weight; "hops": any node within `hops` hops,
                uniformly; "walk": where a random walk of `walk_length` steps ends (never at the node itself).
            hops: for "hops".
            walk_length: for "walk".

        Raises:
            ConfigError: an unknown `how`, `hops` or `walk_length` below 1.
            DataError: an id that is not a node.
        """
        sampling.check_choice("positives", how, sampling.POSITIVES)
        ids = self.checked(ids)
        if how == "hops":
            return sampling.draw_from_balls(self, ids, count, rng, hops)
        if how == "walk":
            if walk_length < 1:
                raise ConfigError(f"walk_length must be at least 1, got {walk_length}")
            return sampling.draw_walks(self, ids, count, rng, walk_length)
        return sampling.draw_neighbors(self, ids, count, rng)

    def sample_negatives(self, ids: ArrayLike, count: int, rng: np.random.Generator, how: str = "any", hops: int = 2) -> np.ndarray:
        """`count` independent draws of strangers for each of `ids` (B,): int64 (B, count), -1 where a node has none.

        Never the node itself, never a neighbour. All but explicit ones are uniform.

        Args:
            ids: node ids, repeats allowed.
            count: draws for each.
            rng: where the draws come from.
            how: "any": every other node; "same_group": of the node's own group; "hops": more than `hops` hops away;
                "explicit": from the explicit negatives, with probability proportional to their weight.
            hops: for "hops".

        Raises:
            ConfigError: an unknown `how`, `hops` below 1, or groups or explicit negatives that the graph does not have.
            DataError: an id that is not a node.
        """
        sampling.check_choice("negatives", how, sampling.NEGATIVES)
        ids = self.checked(ids)
        if how == "hops":
            return sampling.draw_distant(self, ids, count, rng, hops)
        draw = {"any": sampling.draw_strangers, "same_group": sampling.draw_group_strangers, "explicit": sampling.draw_explicit}[how]
        return draw(self, ids, count, rng)

    def induced(self, rows: ArrayLike, columns: ArrayLike | None = None, *, mask_hops: int = 0) -> Induced:
        """The links between two lists of ids (R,) and (C,), repeats allowed; without `columns`, among `rows`.

        Args:
            rows: node ids.
            columns: node ids.
            mask_hops: pairs within so many hops that are not linked are marked as masked; 0 and 1 mask nothing.

        Returns:
            `positive` float32 (R, C), 1 where both ids are the same node, and `masked` bool (R, C).

        Raises:
            ConfigError: `mask_hops` below 0.
            DataError: an id that is not a node.
        """
        if mask_hops < 0:
            raise ConfigError(f"mask_hops must be at least 0, got {mask_hops}")
        rows = self.checked(rows)
        return induce(self, rows, rows if columns is None else self.checked(columns), mask_hops)

    def components(self) -> tuple[int, np.ndarray]:
        """How many connected components there are and which one each node is in (n,); directions are ignored."""
        return components(self.n, self.layers.values())

    def degree_stats(self) -> DegreeStats:
        """Summary of `degrees`."""
        degrees = self.degrees()
        links, isolated = int(degrees.sum()), int((degrees == 0).sum())
        return DegreeStats(
            self.n,
            links if self.directed else links // 2,
            isolated,
            int(degrees.min()),
            float(np.median(degrees)),
            float(degrees.mean()),
            int(degrees.max()),
        )

    def validate(self) -> list[str]:
        """What is remarkable or wrong about the graph, one line each: repairs, isolated nodes, rows that are unsorted or not symmetric."""
        return findings(self)

    def subgraph(self, keep: ArrayLike) -> RelationGraph:
        """The graph among some nodes: ids (in the order they shall have) or a bool mask (n,).

        Raises:
            DataError: an id that is not a node, or given twice.
        """
        keep = np.asarray(keep)
        if keep.dtype == bool and keep.shape != (self.n,):
            raise DataError(f"a mask of nodes must have shape ({self.n},), got {keep.shape}")
        ids = np.flatnonzero(keep) if keep.dtype == bool else self.checked(keep)
        if len(np.unique(ids)) < len(ids):
            raise DataError("subgraph: a node is given twice; give each node once")
        groups = None if self.groups is None else self.groups[ids]
        negatives = None if self.negatives is None else self.negatives.take(ids)
        return self._with(len(ids), {name: layer.take(ids) for name, layer in self.layers.items()}, negatives, groups)

    def split(self, part: ArrayLike) -> RelationGraph:
        """The same nodes without the links between parts, int (n,); nodes in no part (-1) lose all links.

        Raises:
            DataError: `part` is not one integer for each node.
        """
        part = np.asarray(part)
        if part.shape != (self.n,) or part.dtype.kind not in "iu":
            raise DataError(f"a split needs one integer for each of the {self.n} nodes, got {part.dtype} of shape {part.shape}")
        part = part.astype(np.int64)
        negatives = None if self.negatives is None else self.negatives.split(part)
        return self._with(self.n, {name: layer.split(part) for name, layer in self.layers.items()}, negatives, self.groups)

    def _with(self, n: int, layers: dict[str, Any], negatives: EdgeLayer | None, groups: np.ndarray | None) -> RelationGraph:
        weights = self.layer_weights
        return RelationGraph(n, layers, layer_weights=weights, negatives=negatives, groups=groups, directed=self.directed)

    def checked(self, ids: ArrayLike) -> np.ndarray:
        """Node ids as int64 (B,).

        Raises:
            DataError: they are not integers in one dimension, or one is not a node.
        """
        found = np.asarray(ids)
        if found.ndim != 1 or (found.dtype.kind not in "iu" and len(found)):
            raise DataError(f"node ids must be integers in one dimension, got {found.dtype} of shape {found.shape}")
        found = found.astype(np.int64)
        wrong = np.flatnonzero((found < 0) | (found >= self.n))
        if len(wrong):
            raise DataError(f"id {found[wrong[0]]} (place {wrong[0]}) is not a node: the graph has nodes 0 to {self.n - 1}")
        return found


def _layer_weights(layers: Mapping[str, Layer], weights: Mapping[str, float] | None) -> dict[str, float]:
    found = dict.fromkeys(layers, 1.0)
    for name, weight in (weights or {}).items():
        if name not in found:
            raise ConfigError(f"layer weight for {name!r}, which is no layer: {suggest(name, found)}")
        if not 0 < float(weight) < np.inf:
            raise ConfigError(f"layer weight of {name!r} must be finite and above 0, got {weight}: leave out a layer that shall not count")
        found[name] = float(weight)
    return found
