"""Several metrics of `METRICS` at once, over one ranking of the features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from kinshot.core.errors import ConfigError, DataError
from kinshot.kin.metric_names import Wanted
from kinshot.kin.metrics import METRICS
from kinshot.kin.neighbors.found import Kinship
from kinshot.kin.neighbors.ranking import ROWS, Metric, ranked_blocks
from kinshot.kin.neighbors.retrieved import Retrieved

PLACES = 1 << 21
"""Places of rankings that are held at a time."""


@dataclass(frozen=True)
class Figure:
    """What a metric says.

    Args:
        value: mean over the queries, in [0, 1] (`ami` and `ari` may be a little below 0, `acg_at_k` and `wap` are as large as relevance).
        queries: how many the mean is over.
        left_out: queries without any kin, which could find none.
    """

    value: float
    queries: int
    left_out: int


@dataclass(frozen=True, eq=False)
class Answers:
    """What metrics say query by query.

    Args:
        queries: rows of the queries that have kin, int64 (q,), ascending.
        values: by the text of each metric over rankings, a figure for each of them, float64 (q,).
    """

    queries: np.ndarray
    values: dict[str, np.ndarray]


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
    answers = answered(features, kin, wanted, references=references, metric=metric)
    count = len(answers.queries)
    found = {text: Figure(float(values.mean()), count, len(features) - count) for text, values in answers.values.items()}
    return {one.text: found[one.text] if over_rankings(one) else of_features(features, kin, one, metric) for one in wanted}


def answered(
    features: Tensor, kin: Kinship, wanted: Sequence[Wanted], *, references: Tensor | None = None, metric: Metric = "cosine"
) -> Answers:
    """What each metric over rankings says of every query that has kin; those over features are left out. As `measured`."""
    ranked = {one.text: one for one in wanted if over_rankings(one)}
    found: dict[str, list[np.ndarray]] = {text: [] for text in ranked}
    total = _totals(features, kin, references)
    if ranked:
        for seen in _seen(features, kin, list(ranked.values()), total, references, metric):
            for text, one in ranked.items():
                found[text].append(METRICS.get(one.name)(seen, **one.settings))
    return Answers(np.flatnonzero(total > 0), {text: np.concatenate(parts) for text, parts in found.items()})


def over_rankings(one: Wanted) -> bool:
    """Whether a metric says something of every query, and not of all features at once."""
    return bool(METRICS.entry(one.name).facts["depth"] != "none")


def of_features(features: Tensor, kin: Kinship, one: Wanted, metric: Metric = "cosine") -> Figure:
    """A metric over the queries' features as they are (at unit length for cosine), each of which counts.

    Raises ConfigError where kin are not said by labels.
    """
    if kin.classes is None:
        raise ConfigError(f"metric {one.text} compares clusters with labels, and kin are not said by labels here: leave it out")
    rows = features.detach().double().cpu().numpy()
    if metric == "cosine":
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        rows = rows / np.where(norms == 0, 1, norms)
    return Figure(float(METRICS.get(one.name)(rows, kin.classes[0], **one.settings)), len(rows), 0)


def _totals(features: Tensor, kin: Kinship, references: Tensor | None) -> np.ndarray:
    total = kin.total(slice(0, len(features)))
    if not (total > 0).any():
        others = len(features) - 1 if references is None else len(references)
        raise DataError(f"none of the {len(features)} queries has kin among the {others} references, so there is nothing to find")
    return total


def _seen(
    features: Tensor, kin: Kinship, wanted: Sequence[Wanted], total: np.ndarray, references: Tensor | None, metric: Metric
) -> Iterator[Retrieved]:
    """What the queries with kin found, some of them at a time, as deep as any metric looks."""
    others = len(features) - 1 if references is None else len(references)
    depth = max(_depth(one, int(total.max()), others) for one in wanted)
    graded = any(METRICS.entry(one.name).facts.get("graded") for one in wanted)
    deep = min(depth + kin.barred, others)
    for rows, near in ranked_blocks(features, references, k=deep, metric=metric, chunk=max(1, min(ROWS, PLACES // deep))):
        asking = total[rows] > 0
        if asking.any():
            found = _retrieved(kin, rows, near.index.cpu().numpy(), near.closeness.cpu().numpy(), total[rows], depth, graded)
            yield found if asking.all() else _some(found, asking)


def _depth(one: Wanted, kin: int, others: int) -> int:
    depth = METRICS.entry(one.name).facts["depth"]
    found: int = {"kin": kin, "all": others}.get(depth) or one.settings["k"]
    if found > others:
        raise ConfigError(f"metric {one.text} looks at {found} neighbours and there are {others}: lower k")
    return found


def _retrieved(
    kin: Kinship, rows: slice, index: np.ndarray, closeness: np.ndarray, total: np.ndarray, depth: int, graded: bool
) -> Retrieved:
    """What a block of queries found; those that a query must not meet make place for the next ones."""
    kept, missing = kin.kept(rows, index), None
    if kept is not None:
        order = np.argsort(~kept, axis=1, kind="stable")[:, :depth]
        index, closeness, missing = (np.take_along_axis(each, order, axis=1) for each in (index, closeness, ~kept))
        closeness = np.where(missing, -np.inf, closeness)
    labels, own = None, None
    if kin.classes is not None:
        own, labels = kin.classes[0][rows], kin.classes[1][index]
        labels = labels if missing is None else np.where(missing, -1, labels)
    gains, best = (kin.gains(rows, index), kin.best(rows, depth)) if graded else (None, None)
    return Retrieved(kin.among(rows, index), total, closeness, own, labels, gains, best)


def _some(found: Retrieved, rows: np.ndarray) -> Retrieved:
    return Retrieved(*(None if each is None else each[rows] for each in vars(found).values()))  # type: ignore[arg-type]
