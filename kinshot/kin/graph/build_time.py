"""Graphs of what happened close together in time."""

from __future__ import annotations

from typing import Any

import numpy as np

from kinshot.core.errors import ConfigError, DataError
from kinshot.kin.graph.build_labels import code_values
from kinshot.kin.graph.csr import first_where, spans
from kinshot.kin.graph.edge_layer import EdgeLayer
from kinshot.kin.graph.graph import RelationGraph


def from_time(t: Any, group: Any, *, max_lag: float | None = None, steps: int | None = None, relation: str = "time") -> RelationGraph:
    """The graph that links samples of one group which lie close in time; never across groups.

    Args:
        t: time of each sample (n,), in any unit.
        group: sequence, patient or place of each sample (n,); negative, NaN or "" = none, such samples have no neighbours.
        max_lag: greatest difference in time of linked samples, in the unit of `t`.
        steps: linked are samples at most so many places apart in their group's order in time (equal times: in the order given).
        relation: name of the layer.

    Raises:
        ConfigError: not exactly one of max_lag and steps, or a value without sense.
        DataError: times that are not finite numbers, or of another length than `group`; names the node.

    >>> kinshot.kin.graph.from_time(np.array([0.0, 1.0, 9.0]), np.array([0, 0, 0]), max_lag=2.0).degrees()
    array([1, 1, 0])
    """
    if (max_lag is None) == (steps is None):
        raise ConfigError(f"give exactly one of max_lag and steps, got max_lag={max_lag} and steps={steps}")
    if max_lag is not None and not 0 <= max_lag < np.inf:
        raise ConfigError(f"max_lag must be finite and at least 0, got {max_lag}")
    if steps is not None and steps < 1:
        raise ConfigError(f"steps must be at least 1, got {steps}")
    groups, times = code_values(group, "group"), _times(t)
    if len(times) != len(groups):
        raise DataError(f"there are {len(times)} times and {len(groups)} groups: give one of each for every sample")
    order = np.lexsort((times, groups))
    order = order[groups[order] >= 0]
    first, count = np.arange(len(order)) + 1, len(order)
    end = np.searchsorted(groups[order], groups[order], side="right")
    if steps is not None:
        stop = np.minimum(first + steps, end)
    else:
        now, lag = times[order], max_lag
        stop = first_where(first, end, lambda k: now[k] - now > lag, count)
    earlier, later = spans(first, stop - first)
    layer = EdgeLayer.from_pairs(len(groups), order[earlier], order[later], both_ways=True)
    return RelationGraph(len(groups), {relation: layer}, groups=groups)


def _times(t: Any) -> np.ndarray:
    try:
        times = np.asarray(t)
        times = times if times.dtype.kind in "iu" else times.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"times must be numbers ({error})") from error
    if times.ndim != 1 or len(times) == 0:
        raise DataError(f"times must hold one number for each of at least one sample, got shape {times.shape}")
    if not np.isfinite(times).all():
        node = int((~np.isfinite(times)).argmax())
        raise DataError(f"node {node} has the time {times[node]}: give every sample a finite time")
    return times.astype(np.int64) if times.dtype.kind == "u" else times
