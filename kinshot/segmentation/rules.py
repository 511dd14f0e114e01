"""The rules that make one figure of counts. They differ by several points on the same predictions: a result names its rule.

Each is a mean over groups (the classes, or background and foreground) of a quotient of sums over episodes. A group whose sum below the
line is 0 says nothing: it is left out of the mean, and counted in `excluded`.

Papers: Shaban, Bansal, Liu, Essa, Boots, 2017, arXiv 1709.03410 (IoU accumulated over all episodes of a class, mean over classes);
Rakelly, Shelhamer, Darrell, Efros, Levine, 2018, arXiv 1806.07373 (foreground and background); Wang, Liew, Zou, Zhou, Feng, 2019, arXiv
1908.06391 (`panet_*`, as its released code counts).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from kinshot.core.errors import ConfigError, DataError, suggest
from kinshot.segmentation.counts import Counts


@dataclass(frozen=True)
class Quotients:
    """A figure as what each episode adds to it: `value` is the mean over groups of summed `above` / summed `below`.

    Args:
        above: float64 (E, G).
        below: float64 (E, G).
        groups: what the quotients are of, (G,): numbers of classes, or names.
        classes: the class of each way of the episodes, int64 (E, W).
    """

    above: np.ndarray
    below: np.ndarray
    groups: np.ndarray
    classes: np.ndarray

    @property
    def of_classes(self) -> bool:
        """Whether each group is a class."""
        return self.groups.dtype.kind == "i"

    @property
    def each(self) -> np.ndarray:
        """The quotient of every group, float64 (G,); NaN where there is none."""
        return quotient(self.above.sum(axis=0), self.below.sum(axis=0))

    @property
    def value(self) -> float:
        """The figure; NaN where no group has a quotient."""
        return float(mean_over_groups(self.each))

    @property
    def excluded(self) -> int:
        """Groups without a quotient, which the mean leaves out."""
        return int(np.isnan(self.each).sum())

    @property
    def by_episode(self) -> np.ndarray:
        """The figure of each episode alone, float64 (E,); NaN where it has none."""
        return mean_over_groups(quotient(self.above, self.below))


def quotient(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Element by element, NaN where `below` is 0."""
    return np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below > 0)


def mean_over_groups(each: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Mean over the last axis of what is not NaN, perhaps weighted; NaN where nothing is left."""
    there = ~np.isnan(each)
    weighted = there if weights is None else there * weights
    return quotient((np.where(there, each, 0.0) * weighted).sum(axis=-1), weighted.sum(axis=-1).astype(np.float64))


def miou(counts: Counts) -> Quotients:
    """Mean over classes of intersection by union, both summed over all episodes; labels of N ways are put to their classes first.

    >>> counts = Counts(np.array([[3], [3], [5]]), np.array([[[[6, 1], [1, 2]]], [[[8, 0], [2, 0]]], [[[5, 0], [0, 5]]]]))
    >>> miou(counts).each.round(3).tolist(), round(miou(counts).value, 3)
    ([0.333, 1.0], 0.667)
    """
    return _by_class(counts, counts.overlap[..., 1:].sum(axis=1), counts.union[..., 1:].sum(axis=1))


def dice(counts: Counts) -> Quotients:
    """Mean over classes of the Dice coefficient 2 I / (predicted + true), summed over all episodes."""
    below = counts.predicted[..., 1:] + counts.true[..., 1:]
    return _by_class(counts, 2 * counts.overlap[..., 1:].sum(axis=1), below.sum(axis=1))


def panet_miou(counts: Counts) -> Quotients:
    """`miou`, where an image counts for a class only if it shows it: what is wrongly found in the others costs nothing."""
    overlap, union = _where_shown(counts)
    return _by_class(counts, overlap[..., 1:].sum(axis=1), union[..., 1:].sum(axis=1))


def fb_iou(counts: Counts) -> Quotients:
    """Mean over background and foreground of intersection by union, summed over all episodes; over the ways too for foreground."""
    return _two(counts, counts.overlap, counts.union)


def panet_fb_iou(counts: Counts) -> Quotients:
    """`fb_iou`, where an image counts for a label only if it shows it."""
    return _two(counts, *_where_shown(counts))


def image_iou(counts: Counts) -> Quotients:
    """Mean over images, and over their ways, of the foreground's intersection by union; small objects weigh as much as large ones."""
    each = quotient(counts.overlap[..., 1:], counts.union[..., 1:])
    above, below = np.nansum(each, axis=(1, 2)), (~np.isnan(each)).sum(axis=(1, 2))
    return Quotients(above[:, None], below[:, None].astype(np.float64), np.array(["images"]), counts.classes)


def boundary_f(counts: Counts) -> Quotients:
    """Mean over classes of the mean over images of the F-score of outlines, see `kinshot.segmentation.boundary`.

    An image without an outline of the class, neither true nor predicted, says nothing; one where only one of them is there scores 0.

    Raises:
        DataError: outlines were not compared.
    """
    if counts.edges is None:
        raise DataError("these counts hold no outlines: evaluate with a boundary tolerance")
    hit, said, found, true = (counts.edges[..., n].astype(np.float64) for n in range(4))
    precision, recall = (np.nan_to_num(quotient(a, b)) for a, b in ((hit, said), (found, true)))
    f = np.nan_to_num(quotient(2 * precision * recall, precision + recall))
    told = said + true > 0
    return _by_class(counts, (f * told).sum(axis=1), told.sum(axis=1))


Rule = Callable[[Counts], Quotients]
RULES: dict[str, Rule] = {
    rule.__name__: rule for rule in (miou, fb_iou, dice, image_iou, panet_miou, panet_fb_iou, boundary_f)
}  # fmt: skip
"""Every rule by its name."""


def rule_named(name: str) -> Rule:
    """One of `RULES`. Raises ConfigError for another name, with the closest."""
    if name not in RULES:
        raise ConfigError(f"unknown rule {name!r}: {suggest(name, RULES)}")
    return RULES[name]


@dataclass(frozen=True)
class ClassRow:
    """What counts say of one class; figures are None where nothing can be said.

    Args:
        value: the class in masks.
        name: its name.
        episodes: in which it is a way.
        images: queries of these episodes that show it.
        pixels: of it, in all these queries.
        iou: intersection by union.
        dice: 2 I / (predicted + true).
        precision: share of what was said to be it that is.
        recall: share of it that was found.
        boundary: mean F-score of its outlines, where they were compared.
    """

    value: int
    name: str
    episodes: int
    images: int
    pixels: int
    iou: float | None
    dice: float | None
    precision: float | None
    recall: float | None
    boundary: float | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for `json.dumps`."""
        return asdict(self)


def class_table(counts: Counts, class_names: Sequence[str] = ()) -> list[ClassRow]:
    """A row for every class that is a way of an episode, ascending.

    Args:
        counts: of the episodes.
        class_names: `class_names[c]` names the class of value c + 1; without them it is called by its value.
    """
    overlap, predicted, true = (a[..., 1:].sum(axis=1) for a in (counts.overlap, counts.predicted, counts.true))
    measured = [miou(counts), dice(counts), _by_class(counts, overlap, predicted), _by_class(counts, overlap, true)]
    rates = [one.each for one in measured]
    rates.append(boundary_f(counts).each if counts.edges is not None else np.full(len(rates[0]), np.nan))
    shown = _by_class(counts, (counts.true[..., 1:] > 0).sum(axis=1), np.ones_like(overlap))
    images, episodes = (a.sum(axis=0).astype(int).tolist() for a in (shown.above, shown.below))
    pixels = measured[3].below.sum(axis=0).astype(int).tolist()
    values = measured[0].groups.tolist()
    names = [class_names[value - 1] if 0 < value <= len(class_names) else str(value) for value in values]
    figures = [[None if np.isnan(x) else float(x) for x in column] for column in rates]
    return [ClassRow(*row) for row in zip(values, names, episodes, images, pixels, *figures, strict=True)]


def _by_class(counts: Counts, above: np.ndarray, below: np.ndarray) -> Quotients:
    """What each way adds (E, W) as what its class does (E, K)."""
    groups, place = np.unique(counts.classes, return_inverse=True)
    where = np.arange(len(counts))[:, None], place.reshape(counts.classes.shape)
    sums = np.zeros((2, len(counts), len(groups)))
    np.add.at(sums[0], where, above)
    np.add.at(sums[1], where, below)
    return Quotients(sums[0], sums[1], groups.astype(np.int64), counts.classes)


def _where_shown(counts: Counts) -> tuple[np.ndarray, np.ndarray]:
    shown = counts.true > 0
    return counts.overlap * shown, counts.union * shown


def _two(counts: Counts, overlap: np.ndarray, union: np.ndarray) -> Quotients:
    """Sums (E, Q, 1 + W) as those of background and of all ways."""

    def parts(of: np.ndarray) -> np.ndarray:
        return np.stack([of[..., 0].sum(axis=1), of[..., 1:].sum(axis=(1, 2))], axis=1).astype(np.float64)

    return Quotients(parts(overlap), parts(union), np.array(["background", "foreground"]), counts.classes)
