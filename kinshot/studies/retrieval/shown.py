"""Queries of one run with what they found, for people to look at: from those that find most of their kin to those that find least."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from kinshot.kin.measuring import answered
from kinshot.kin.metric_names import wanted_metric
from kinshot.kin.neighbors.ranking import Metric, rank
from kinshot.studies.report.words import printable
from kinshot.studies.retrieval.answers import Looked, looked_up
from kinshot.studies.retrieval.sides import Side, Sides
from kinshot.studies.retrieval.study import Bench, Lookup

QUERIES, NEAREST = 12, 10
CHOSEN_BY = "map_at_r"


@dataclass(frozen=True)
class Found:
    """A sample of the gallery: its number, what it is, and whether it is kin."""

    index: int
    name: str
    kin: bool


@dataclass(frozen=True)
class Shown:
    """A query: its number, what it is, its figure in percent by `CHOSEN_BY`, how many kin it has, and the nearest, nearest first."""

    index: int
    name: str
    percent: float
    kin: int
    nearest: list[Found]

    def as_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


def shown_queries(bench: Bench, wanted: Lookup, device: torch.device) -> list[Shown]:
    """Queries of the first run, evenly spaced in the order of what they find, the best first."""
    run = bench.runs[0]
    sides = bench.of(run)
    features = looked_up(run.model, sides, wanted.feature, device)
    known = answered(features.queries, sides.kinship, [wanted_metric(CHOSEN_BY)], references=features.gallery, metric=wanted.distance)
    order = np.argsort(-known.values[CHOSEN_BY], kind="stable")
    places = np.unique(np.linspace(0, len(order) - 1, min(QUERIES, len(order))).round().astype(np.int64))
    chosen = order[places]
    return [
        _shown(features, sides, int(known.queries[place]), float(known.values[CHOSEN_BY][place]), wanted.distance)
        for place in chosen.tolist()
    ]


def _shown(features: Looked, sides: Sides, query: int, value: float, distance: Metric) -> Shown:
    kin, rows = sides.kinship, slice(query, query + 1)
    references = features.queries if features.gallery is None else features.gallery
    near = rank(features.queries[rows], references, k=min(NEAREST + kin.barred + 1, len(references)), metric=distance)
    index = near.index.cpu().numpy()
    met = kin.kept(rows, index)
    allowed = np.ones_like(index, dtype=bool) if met is None else met
    if sides.itself:
        allowed = allowed & (index != query)
    index = index[:, allowed[0]][:, :NEAREST]
    among = kin.among(rows, index)[0]
    found = [
        Found(int(sides.gallery.rows[one]), _named(sides.gallery, one, sides.names), bool(same))
        for one, same in zip(index[0].tolist(), among, strict=True)
    ]
    return Shown(int(sides.queries.rows[query]), _named(sides.queries, query, sides.names), 100 * value, int(kin.total(rows)[0]), found)


def _named(side: Side, row: int, names: tuple[str, ...]) -> str:
    """The class of a sample, or its labels."""
    known = side.known[row]
    text = names[known] if side.known.ndim == 1 else ", ".join(names[label] for label in np.flatnonzero(known))
    return printable(text or "no label")
