"""Relation graphs: which samples are kin, said by the user; built, read, checked, described and sampled without torch."""

from __future__ import annotations

from kinshot.kin.graph.block_layer import BlockLayer
from kinshot.kin.graph.build_edges import from_edges, from_networkx, from_scipy
from kinshot.kin.graph.build_knn import from_knn
from kinshot.kin.graph.build_labels import from_labels, from_metadata
from kinshot.kin.graph.build_multilabel import from_multilabel
from kinshot.kin.graph.build_time import from_time
from kinshot.kin.graph.build_union import union
from kinshot.kin.graph.diagnostics import Leakage, auroc_bound, describe, describe_labels, homophily, leakage, local_consistency
from kinshot.kin.graph.edge_layer import EdgeLayer
from kinshot.kin.graph.files import read_graph
from kinshot.kin.graph.graph import DegreeStats, RelationGraph
from kinshot.kin.graph.induced import Induced
from kinshot.kin.graph.layers import Layer, Neighbors
from kinshot.kin.graph.retrieval import neighbor_retrieval

__all__ = [
    "BlockLayer",
    "DegreeStats",
    "EdgeLayer",
    "Induced",
    "Layer",
    "Leakage",
    "Neighbors",
    "RelationGraph",
    "auroc_bound",
    "describe",
    "describe_labels",
    "from_edges",
    "from_knn",
    "from_labels",
    "from_metadata",
    "from_multilabel",
    "from_networkx",
    "from_scipy",
    "from_time",
    "homophily",
    "leakage",
    "local_consistency",
    "neighbor_retrieval",
    "read_graph",
    "union",
]
