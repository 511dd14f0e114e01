"""A graph read from a file of edges."""

from __future__ import annotations

from pathlib import Path

from kinshot.core.errors import DataError
from kinshot.datasets.base import Source
from kinshot.datasets.graphs import GRAPHS
from kinshot.kin.graph import RelationGraph, read_graph


@GRAPHS.register("edges")
def edge_graph(source: Source, *, file: str, directed: bool = False) -> RelationGraph:
    """Edges listed in a file (.csv, .tsv, .npy, .npz, .mtx), by row number of the source.

    Args:
        file: columns source, target and, where wanted, weight, found by these names, or two or three in this order; samples from 0.
        directed: whether an edge links its first sample to its second only.

    Raises:
        DataError: a file that cannot be read, or an edge beyond the source's samples.
    """
    graph = read_graph(Path(file), n=len(source), directed=directed)
    if graph.n != len(source):
        raise DataError(
            f"{file} describes {graph.n} nodes, but {source.name} has {len(source)} samples: one node to a sample, in its order"
        )
    return graph
