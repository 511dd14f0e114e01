"""The graph that a source brings along."""

from __future__ import annotations

from kinshot.core.errors import DataError
from kinshot.datasets.base import Source
from kinshot.datasets.graphs import GRAPHS
from kinshot.kin.graph import RelationGraph


@GRAPHS.register("own")
def own_graph(source: Source) -> RelationGraph:
    """The graph that the source itself brings, as task_topology and manifold do.

    Raises DataError for a source that has none.
    """
    if source.graph is None:
        raise DataError(f"{source.name} brings no graph of its own: choose another one, for example graph=labels, knn or edges")
    return source.graph
