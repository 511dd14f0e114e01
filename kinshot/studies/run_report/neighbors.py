"""Strips of neighbours: a few samples with the nearest others, itself and copies left out."""

from __future__ import annotations

import numpy as np

from kinshot.kin.neighbors.ranking import rank
from kinshot.studies.run_report.content import Near, Strip, Strips
from kinshot.studies.run_report.looked import Looked

STRIPS, NEAREST = 10, 10


def neighbor_strips(looked: Looked) -> Strips | None:
    """Up to STRIPS queries with their NEAREST; None where no sample has another that is no copy of it.

    With labels they go from the query whose nearest are most often of its class to the one whose are least; else evenly through the data.
    """
    count, copies = len(looked.rows), looked.copies
    sizes = np.bincount(copies)[copies]
    if (sizes == count).all():
        return None
    near = rank(looked.features, k=min(NEAREST + int(sizes.max()) - 1, count - 1))
    index, value = near.index.numpy(), near.value.numpy()
    kept = copies[index] != copies[:, None]
    order = np.argsort(~kept, axis=1, kind="stable")[:, :NEAREST]
    index, value, there = (np.take_along_axis(each, order, axis=1) for each in (index, value, kept))
    labels = looked.labels
    kin = None if labels is None else (labels[index] == labels[:, None]) & there
    by = np.arange(count) if kin is None else np.argsort(-kin.sum(axis=1), kind="stable")
    chosen = by[np.unique(np.linspace(0, count - 1, min(STRIPS, count)).round().astype(np.int64))]
    strips = [
        Strip(
            int(looked.rows[row]),
            [
                Near(int(looked.rows[index[row, j]]), round(float(value[row, j]), 6), None if kin is None else bool(kin[row, j]))
                for j in np.flatnonzero(there[row])
            ],
        )
        for row in chosen.tolist()
    ]
    return Strips(strips, count, int((sizes > 1).sum()))
