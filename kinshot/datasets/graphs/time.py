"""Samples that follow one another."""

from __future__ import annotations

from kinshot.datasets.base import Source
from kinshot.datasets.graphs import GRAPHS
from kinshot.datasets.graphs.labels import label_column
from kinshot.kin.graph import RelationGraph, from_time


@GRAPHS.register("time")
def time_graph(source: Source, *, time: str = "time", group: str = "group", steps: int = 1) -> RelationGraph:
    """Samples next to one another in time within one recording, never across recordings.

    A source with a clock needs no labels for it: it is asked where the source has no label of that name.

    Args:
        time: name of the source's label, or measured attribute, that orders samples.
        group: name of the label that tells recordings apart.
        steps: link a sample with so many that follow it.

    Raises:
        ConfigError: a label that the source does not have.
    """
    if source.clock is not None and not {time, group} & source.attributes.keys():
        return from_time(source.clock.time, source.clock.recording, steps=steps)
    measured = source.attributes.get(time)
    times = measured if measured is not None and measured.dtype.kind == "f" else label_column(source, time)
    return from_time(times, label_column(source, group), steps=steps)
