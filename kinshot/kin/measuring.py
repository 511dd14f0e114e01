"""Several metrics of `METRICS` at once, over one ranking of the features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from kinshot.core.errors import ConfigError, DataError
from kinshot.kin.metric_names import Wanted
from kinshot.kin.metrics import METRICS
from kinshot.kin.neighbors.found import ByLabel, Kinship
from kinshot.kin.neighbors.ranking import Metric, ranked_blocks
from kinshot.kin.neighbors.retrieved import Retrieved


@dataclass(frozen=True)
class Figure:
    """What a metric says.

    Args:
        value: mean over the queries, in [0, 1] (`ami` may be a little below 0).
        queries: how many the mean is over.
        left_out: queries without any kin, which could find none.
    """

    value: float
    queries: int
    left_out: int


def measured(
    features: Tensor, kin: Kinship, wanted: Sequence[Wanted], *, references: Tensor | None = None, metric: Metric = "cosine"
) -> dict[str, Figure]:
    """What each metric says of features, by its text.

    Queries without kin among the references are left out, and counted.

    Args:
        features: of the queries (Q, D), ranked among themselves where there are no references.
        kin: who is kin to whom; `ByLabel` where a metric needs labels.
        wanted: the metrics.
        references: features (N, D).
        metric: what is near: "cosine" or "euclidean".

    Raises:
        ConfigError: more neighbours asked for than there are, or labels where there are none.
        DataError: no query with kin, or features that are not finite.
    """
    others = len(features) - 1 if references is None else len(references)
    total = kin.total(slice(0, len(features)))
    asking = total > 0
    if not asking.any():
        raise DataError(f"none of the {len(features)} queries has kin among the {others} references, so there is nothing to find")
    ranked = {one.text: one for one in wanted if METRICS.entry(one.name).facts["depth"] != "none"}
    found: dict[str, list[np.ndarray]] = {text: [] for text in ranked}
    if ranked:
        depth = max(_depth(one, int(total.max()), others) for one in ranked.values())
        for rows, near in ranked_blocks(features, references, k=depth, metric=metric):
            seen = _retrieved(kin, rows, near.index.cpu().numpy(), near.closeness.cpu().numpy(), total)
            for text, one in ranked.items():
                found[text].append(METRICS.get(one.name)(seen, **one.settings))
    count, left_out = int(asking.sum()), int((~asking).sum())
    figures = {text: Figure(float(np.concatenate(parts).mean()), count, left_out) for text, parts in found.items()}
    return {one.text: figures.get(one.text) or _of_features(features, kin, one, metric) for one in wanted}


def _depth(one: Wanted, kin: int, others: int) -> int:
    depth = METRICS.entry(one.name).facts["depth"]
    found: int = {"kin": kin, "all": others}.get(depth) or one.settings["k"]
    if found > others:
        raise ConfigError(f"metric {one.text} looks at {found} neighbours and there are {others}: lower k")
    return found


def _retrieved(kin: Kinship, rows: slice, index: np.ndarray, closeness: np.ndarray, total: np.ndarray) -> Retrieved:
    """What the queries with kin of a block found."""
    kept = total[rows] > 0
    among, own, labels = kin.among(rows, index)[kept], None, None
    if isinstance(kin, ByLabel):
        labels = (kin.labels if kin.references is None else kin.references)[index[kept]]
        own = kin.labels[rows][kept]
    return Retrieved(among, total[rows][kept], closeness[kept], own, labels)


def _of_features(features: Tensor, kin: Kinship, one: Wanted, metric: Metric) -> Figure:
    """A metric over the queries' features as they are (at unit length for cosine), each of which counts."""
    if not isinstance(kin, ByLabel):
        raise ConfigError(f"metric {one.text} compares clusters with labels, and kin are not said by labels here: leave it out")
    rows = features.detach().double().cpu().numpy()
    if metric == "cosine":
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        rows = rows / np.where(norms == 0, 1, norms)
    return Figure(float(METRICS.get(one.name)(rows, kin.labels, **one.settings)), len(rows), 0)
