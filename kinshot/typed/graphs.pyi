"""The parts of `kinshot.graphs` for type checkers, written by `make api`."""

from kinshot.datasets.graphs.edges import edge_graph as edges
from kinshot.datasets.graphs.knn import knn_graph as knn
from kinshot.datasets.graphs.labels import label_graph as labels
from kinshot.datasets.graphs.multilabels import multilabel_graph as multilabels
from kinshot.datasets.graphs.own import own_graph as own
from kinshot.datasets.graphs.time import time_graph as time

__all__ = [
    "edges",
    "knn",
    "labels",
    "multilabels",
    "own",
    "time",
]
