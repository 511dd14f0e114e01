"""Samples that follow one another."""

from __future__ import annotations

from kinshot.datasets.base import Source
from kinshot.datasets.graphs import GRAPHS
from kinshot.datasets.graphs.labels import label_column
from kinshot.kin.graph import RelationGraph, from_time


@GRAPHS.register("time")
def time_graph(source: Source, *, time: str = "time", group: str = "group", steps: int = 1) -> RelationGraph:
    """Samples next to one another in time within one recording, never across recordings.

    Args:
        time: name of the source's label that orders samples.
        group: name of the label that tells recordings apart.
        steps: link a sample with so many that follow it.

    Raises:
        ConfigError: a label that the source does not have.
    """
    return from_time(label_column(source, time), label_column(source, group), steps=steps)
