"""A graph of several kinds of nodes from one file, one kind of which is to be told apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from kinshot.core.errors import ConfigError, suggest
from kinshot.core.small_files import read_arrays
from kinshot.datasets import SOURCES
from kinshot.datasets.base import Indices, Source
from kinshot.datasets.files import digest
from kinshot.datasets.hetero_graph_file import GraphFile, Lists, graph_of
from kinshot.datasets.identity import Chunk
from kinshot.datasets.path_sim import meta_path, row_means
from kinshot.samples.meta_paths import Csr, MetaPaths
from kinshot.samples.nodes import NodeSpec


class NodeSource(Source):
    """The target nodes of a graph.

    Args:
        graph: what is known of them.
        labels: integers (N,), or None.
        class_names: names that labels index.
        name: used in messages.
        lists: published divisions for few-label classification, by how many labels a class has in each.

    Raises:
        DataError: labels that do not fit.
    """

    def __init__(
        self,
        graph: MetaPaths,
        labels: np.ndarray | None = None,
        class_names: tuple[str, ...] = (),
        name: str = "nodes",
        lists: Mapping[int, Lists] | None = None,
    ) -> None:
        super().__init__(name, NodeSpec.of(graph), labels, class_names, graph.nodes)
        self.paths, self.lists = graph, dict(lists or {})

    def digests(self, indices: Indices) -> np.ndarray:
        """A hash of each node's number and its graph: a node is what its graph makes of it."""
        own = self.paths.digest.encode()
        return np.array([digest(own + int(row).to_bytes(8, "little")) for row in np.asarray(indices)], dtype="S32")

    def _load(self, rows: np.ndarray, field: str) -> torch.Tensor:
        return torch.from_numpy(rows.copy()).unsqueeze(1)

    def _content(self) -> Iterable[Chunk]:
        yield self.paths.digest.encode()


@SOURCES.register("hetero_graph", kind="node")
def hetero_graph(
    *,
    root: str,
    paths: tuple[str, ...] = (),
    neighbors: tuple[int, ...] = (),
    averaged: tuple[str, ...] = (),
    scale: Literal["sum", "none"] = "sum",
) -> NodeSource:
    """The nodes of one kind of a graph with several kinds of nodes, such as papers with authors and subjects, from an .npz file.

    The file's arrays, with X and Y letters that stand for kinds of nodes:

    - `node_type` (T,), the letters, and `node_count` (T,), how many there are of each; `target_type`, the letter of the N nodes to be
      told apart;
    - `edges_XY` (2, E), numbers of the X and Y that are linked, each pair once;
    - `feat_X`, a matrix of X's features, or its sparse rows `feat_X_data`, `feat_X_indices`, `feat_X_indptr`, `feat_X_shape`; the
      target's must be there;
    - `metapath` (P,), paths by the kinds that they lead over, there and back: `pap`, `apcpa`;
    - optionally `labels` (N,), from 0 on, `class_names` (C,), and for numbers K of labels a class `train_K`, `val_K`, `test_K`, numbers of
      target nodes that do not overlap.

    Paper: Sun, Han, Yan, Yu, Wu 2011, VLDB (PathSim); the layout's first file is ACM as of Yu, Ge, Li, Zhou 2023, arXiv 2212.13847.

    Args:
        root: the file.
        paths: meta-paths to use; empty for all that the file names.
        neighbors: of each path, how many of the most alike a node keeps by PathSim, itself and ties for the last place included; 0, or
            left out, keeps all.
        averaged: kinds without features of their own that get the mean of those of the target nodes that they are linked with; other kinds
            without any are told apart by their number.
        scale: what rows of features are divided by: their sum, or nothing.

    Raises:
        ConfigError: a path or kind that the file does not have, or settings that do not fit together.
        DataError: a file that cannot be read or is not of this layout, values that are no numbers, edges or lists out of range.
    """
    path = Path(root).expanduser()
    file = graph_of(path, read_arrays(path, remedy="set root to an .npz file in the layout that `ssl show hetero_graph` describes"))
    return NodeSource(
        _prepared(file, paths, neighbors, averaged, scale), file.labels, file.class_names, f"hetero_graph/{path.stem}", file.lists
    )


def _prepared(file: GraphFile, paths: tuple[str, ...], neighbors: tuple[int, ...], averaged: tuple[str, ...], scale: str) -> MetaPaths:
    """What a network may know of a file's graph."""
    chosen = paths or file.paths
    for name in chosen:
        file.check_path(name)
    if len(set(chosen)) != len(chosen):
        raise ConfigError(f"hetero_graph: paths names one twice: {', '.join(chosen)}")
    if neighbors and (len(neighbors) != len(chosen) or min(neighbors) < 0):
        raise ConfigError(f"hetero_graph: neighbors is {list(neighbors)}: give a number from 0 on for each of {', '.join(chosen)}")
    found = tuple(meta_path(name, file.edges, count) for name, count in zip(chosen, neighbors or (0,) * len(chosen), strict=True))
    kinds = sorted({hop.kind for one in found for hop in one.hops} - {file.target})
    features = {kind: _scaled(file, kind, matrix, scale) for kind, matrix in file.features.items()}
    others: dict[str, Csr | int] = {kind: Csr.of(features[kind]) for kind in kinds if kind in features}
    for kind in averaged:
        if kind not in kinds:
            raise ConfigError(f"hetero_graph: averaged names {kind!r}: {suggest(kind, kinds)}")
        if kind in others:
            raise ConfigError(f"hetero_graph: averaged names {kind!r}, which has features of its own: leave it out")
        others[kind] = Csr.of(row_means(file.between(kind, file.target)))
    others |= {kind: file.counts[kind] for kind in kinds if kind not in others}
    return MetaPaths(file.target, Csr.of(features[file.target]), {kind: others[kind] for kind in kinds}, tuple(sorted(averaged)), found)


def _scaled(file: GraphFile, kind: str, matrix: Any, scale: str) -> Any:
    if scale == "none":
        return matrix
    if (matrix.data < 0).any():
        raise ConfigError(f"hetero_graph: {file.path}: features of {kind} have values below 0, whose sum says nothing: set scale=none")
    return row_means(matrix)
