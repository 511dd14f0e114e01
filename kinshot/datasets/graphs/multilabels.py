"""Samples with similar sets of labels as neighbors."""

from __future__ import annotations

from kinshot.core.errors import ConfigError, suggest
from kinshot.datasets.base import Source
from kinshot.datasets.graphs import GRAPHS
from kinshot.kin.graph import RelationGraph, from_multilabel


@GRAPHS.register("multilabels", labelled=True)
def multilabel_graph(
    source: Source, *, by: str, k: int | None = None, radius: float | None = None, min_shared: int | None = None
) -> RelationGraph:
    """Samples whose sets of labels are alike, where a sample has several: each differing label is a step, an unknown one half a step.

    Paper: McDermott, Yap, Szolovits, Zitnik, 2023, arXiv 2103.10334

    Args:
        by: name of the source's label of which a sample has several.
        k: each set of labels is adjacent to its k nearest.
        radius: sets at most so many steps apart are adjacent; 1.5 where no rule is given.
        min_shared: samples with so many labels in common are neighbors.

    Raises:
        ConfigError: a label that the source does not have, or more than one of the rules.
    """
    several = {key: values for key, values in source.attributes.items() if values.ndim > 1}
    if by not in several:
        raise ConfigError(f"graph.by: {source.name} has no label {by!r} of which a sample has several: {suggest(by, several)}")
    return from_multilabel(several[by], k=k, radius=radius, min_shared=min_shared)
