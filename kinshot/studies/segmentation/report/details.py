"""Counts of one head, read for a report: classes, mistakes, episodes. Pure functions of counts and names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from kinshot.segmentation.counts import Counts
from kinshot.segmentation.episodes import DenseEpisodes
from kinshot.segmentation.mistakes import BESIDE
from kinshot.segmentation.rules import class_table, miou, quotient
from kinshot.studies.segmentation.report.content import (
    ClassLine,
    EpisodeLine,
    Mistakes,
    Said,
    ShownEpisode,
    ShownQuery,
    Spread,
    Taken,
)

EXTREMES, BINS, TAKEN = 5, 20, 12
QUERIES_SHOWN = 3
GROUND, OTHERS = "plain background", "an object of another class"
SHOWN = (
    ("the worst", 0.0),
    ("one of the worst 5 %", 0.05),
    ("the lower quarter", 0.25),
    ("the median", 0.5),
    ("the upper quarter", 0.75),
    ("the best", 1.0),
)
"""Which episodes the gallery shows: why, and their place among all by IoU."""


def classes_of(counts: Counts, rules: Mapping[str, Counts], names: Sequence[str]) -> list[ClassLine]:
    """Figures of every class, the worst first; those that have none last.

    Args:
        counts: of the head.
        rules: of each class-blind rule on the same episodes.
        names: `names[c]` names the class of value c + 1.
    """
    blind = {name: {row.value: row.iou for row in class_table(found)} for name, found in rules.items()}
    rows = [
        ClassLine(
            row.name, row.episodes, row.images, _percent(row.iou), _percent(row.dice), _percent(row.precision), _percent(row.recall),
            {name: _percent(found.get(row.value)) for name, found in blind.items()},
        )
        for row in class_table(counts, names)
    ]  # fmt: skip
    return sorted(rows, key=lambda row: (row.iou is None, row.iou))


def mistakes_of(taken: np.ndarray, names: Sequence[str]) -> Mistakes:
    """What is wrongly found.

    Args:
        taken: pixels, int64 (2, V, V), see `kinshot.segmentation.mistakes.count_taken`.
        names: of the values 1 to C; value C + 1 are objects of other classes.
    """
    named = [GROUND, *names, *[OTHERS] * (taken.shape[1] - 1 - len(names))]
    every, beside = taken.sum(axis=0), taken[BESIDE]
    found = every[:, 1:].sum(axis=0)
    right = np.diagonal(every)[1:]
    shares = 100 * quotient(np.stack([right, found - right - every[0, 1:], every[0, 1:]]), np.broadcast_to(found, (3, len(found))))
    said = [Said(named[v + 1], int(found[v]), *(float(x) for x in shares[:, v])) for v in np.flatnonzero(found)]
    wrong = every * ~np.eye(len(every), dtype=bool)
    wrong[0], wrong[:, 0] = 0, 0
    true, predicted = np.nonzero(wrong)
    order = np.argsort(-wrong[true, predicted], kind="stable")[:TAKEN]
    pairs = [(int(true[i]), int(predicted[i])) for i in order]
    return Mistakes(
        said=sorted(said, key=lambda row: row.right),
        objects=_share(beside[1:, 1:].sum(), beside[1:].sum()),
        ground=_share(beside[0, 1:].sum(), beside[0].sum()),
        taken=[Taken(named[t], named[p], int(wrong[t, p]), 100 * float(wrong[t, p] / every[:, p].sum())) for t, p in pairs],
    )


def spread_of(counts: Counts, names: Sequence[str]) -> Spread:
    """How IoU differs between episodes; those whose queries show nothing and where nothing was found have none."""
    percent = 100 * miou(counts).by_episode
    told = np.flatnonzero(~np.isnan(percent))
    order = told[np.argsort(percent[told], kind="stable")]
    bins, edges = np.histogram(percent[told], bins=BINS, range=(0, 100))

    def rows(numbers: np.ndarray) -> list[EpisodeLine]:
        return [EpisodeLine(int(e), float(percent[e]), _classes(counts, int(e), names)) for e in numbers]

    mean = float(percent[told].mean()) if len(told) else 0.0
    return Spread(mean, edges.tolist(), bins.tolist(), rows(order[::-1][:EXTREMES]), rows(order[:EXTREMES]), len(percent) - len(told))


def gallery_of(counts: Counts, episodes: DenseEpisodes, names: Sequence[str]) -> list[ShownEpisode]:
    """Episodes from the worst to the best, each once."""
    percent = 100 * miou(counts).by_episode
    told = np.flatnonzero(~np.isnan(percent))
    order = told[np.argsort(percent[told], kind="stable")]
    chosen: dict[int, str] = {}
    for why, place in SHOWN if len(order) else ():
        chosen.setdefault(int(order[round(place * (len(order) - 1))]), why)
    each = 100 * quotient(counts.overlap[..., 1:], counts.union[..., 1:])
    return [_shown(e, why, float(percent[e]), each[e], episodes, _classes(counts, e, names)) for e, why in chosen.items()]


def _shown(number: int, why: str, iou: float, each: np.ndarray, episodes: DenseEpisodes, classes: list[str]) -> ShownEpisode:
    queries = [
        ShownQuery(int(sample), int(target), [None if np.isnan(value) else float(value) for value in each[q]])
        for q, (sample, target) in enumerate(zip(episodes.query[number], episodes.target[number], strict=True))
    ]
    return ShownEpisode(number, why, iou, classes, episodes.support[number].tolist(), queries[:QUERIES_SHOWN], len(queries))


def _classes(counts: Counts, number: int, names: Sequence[str]) -> list[str]:
    return [names[value - 1] for value in counts.classes[number].tolist()]


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _share(above: np.integer, below: np.integer) -> float | None:
    return 100 * float(above / below) if below else None
