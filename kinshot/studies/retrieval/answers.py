"""What metrics say of one model on both sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kinshot.kin.measuring import answered, of_features, over_rankings
from kinshot.kin.metric_names import Wanted
from kinshot.kin.neighbors.ranking import Metric
from kinshot.learn.model import Model
from kinshot.studies.answers import features_of
from kinshot.studies.retrieval.sides import Sides


@dataclass(frozen=True, eq=False)
class Answered:
    """Figures of one model.

    Args:
        queries: rows of the queries that have kin, int64 (q,).
        values: by metric, a share for each of them, float64 (q,).
        whole: by metric, a figure of all queries' features at once.
    """

    queries: np.ndarray
    values: dict[str, np.ndarray]
    whole: dict[str, float]


@dataclass(frozen=True, eq=False)
class Looked:
    """Features of both sides, the gallery's None where the queries are ranked among themselves."""

    queries: Tensor
    gallery: Tensor | None


def looked_up(model: Model | None, sides: Sides, feature: str, device: torch.device) -> Looked:
    """The features of a model on both sides, from the cache where they are known, or the raw samples; on the CPU."""

    def of(side: str) -> Tensor:
        found = getattr(sides, side)
        name = found.source.spec.raw_feature if model is None else feature
        return features_of(model, found.source, device)[name].float()[torch.from_numpy(found.rows)]

    return Looked(of("queries"), None if sides.itself else of("gallery"))


def measured(features: Looked, sides: Sides, metrics: Sequence[Wanted], distance: Metric, device: torch.device) -> Answered:
    """What every metric says; the ranking runs on `device`."""
    queries, gallery = features.queries.to(device), None if features.gallery is None else features.gallery.to(device)
    found = answered(queries, sides.kinship, metrics, references=gallery, metric=distance)
    whole = {one.text: of_features(queries, sides.kinship, one, distance).value for one in metrics if not over_rankings(one)}
    return Answered(found.queries, found.values, whole)
