"""None of these: how close an image must be to the nearest class, fitted on the taught images alone, and how often that goes wrong.

Closeness is the largest cosine between a feature and the mean of a class. An image of a class that is taught is played by each taught
image without its part in the mean of its class; an image of no class, by each taught image with its whole class left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from kinshot.core.errors import DataError
from kinshot.fewshot.enrolled.rows import means
from kinshot.fewshot.enrolled.support import Support, class_sums
from kinshot.fewshot.transforms import unit

LEAST_REFUSED = 0.05
"""Share of known images that a threshold refuses which knows nothing of unknown ones; more where there are too few to say so little."""


@dataclass(frozen=True)
class OpenSet:
    """From which closeness an image is one of the classes, and how often that errs.

    Attributes:
        threshold: images below it are none of these; None where nothing can be said, and then none is refused.
        refused: expected share of images of known classes that are refused; None where it cannot be estimated.
        let_through: expected share of images of unknown classes that are not refused; None where it cannot be estimated.
        known: images that played known ones.
        unknown: images that played unknown ones.
        how: how the threshold and the shares were found, or why not.
    """

    threshold: float | None
    refused: float | None
    let_through: float | None
    known: int
    unknown: int
    how: str


@dataclass(frozen=True)
class Played:
    """How close each taught image lies to classes, in the two parts that it plays.

    Attributes:
        values: the largest cosines of each image with its own class without it (-inf where it is alone) and with others, descending,
            float64 (N, 3), -inf where there are no more.
        owners: class of each, int64 (N, 3).
        labels: class of each image, int64 (N,).
        counts: images of each class, int64 (C,).
    """

    values: np.ndarray
    owners: np.ndarray
    labels: np.ndarray
    counts: np.ndarray

    def closest(self, *without: np.ndarray | int) -> np.ndarray:
        """The largest cosine of each image with a class that is none of up to two, each a number or one for each image; -inf for none."""
        allowed = np.ones_like(self.values, dtype=bool)
        for which in without:
            allowed &= self.owners != np.reshape(which, (-1, 1))
        return np.where(allowed, self.values, -np.inf).max(1)

    def parts(self, without: int = -1) -> tuple[np.ndarray, np.ndarray]:
        """Closeness (N,) as a known image and as an unknown one, NaN where an image cannot play it, as if a class had not been taught."""
        classes = len(self.counts) - (without >= 0)
        present = self.labels != without
        known = np.where(present & (self.counts[self.labels] > 1), self.closest(without), np.nan)
        unknown = np.where(present & (classes > 1), self.closest(self.labels, without), np.nan)
        return known, unknown


def played(support: Support) -> Played:
    """The cosines that leaving images, and leaving classes out needs."""
    z, y = unit(support.features.double()), support.labels
    sums = class_sums(z, y, len(support.classes))
    cosines = z @ means(support).T
    own = torch.where(support.counts[y] > 1, (z * unit(sums[y] - z)).sum(1), -torch.inf)
    cosines = cosines.scatter(1, y[:, None], own[:, None])
    top = cosines.topk(min(3, len(support.classes)), dim=1)
    missing = 3 - top.values.shape[1]
    values = np.pad(top.values.numpy(), ((0, 0), (0, missing)), constant_values=-np.inf)
    owners = np.pad(top.indices.numpy(), ((0, 0), (0, missing)), constant_values=-1)
    return Played(values, owners, y.numpy(), support.counts.numpy())


def fit_open_set(support: Support) -> OpenSet:
    """The threshold for a support, with what it is expected to get wrong.

    With known and unknown images it is where both shares of errors are least in sum. The shares are those of each class under the
    threshold that is found as if this class had not been taught, where at least three classes are, two of them with several images; where
    not, they are those of the very images that the threshold was set by, which is too kind, and said. With one class nothing plays an
    unknown image: the threshold then refuses the furthest LEAST_REFUSED of known ones. Where every class has one image nothing plays a
    known one, and there is no threshold.
    """
    found = played(support)
    known, unknown = (part[np.isfinite(part)] for part in found.parts())
    if not len(known):
        why = "no class has two images, so that no image can be left out: teach a second one of some class"
        return OpenSet(None, None, None, 0, len(unknown), f"cannot be estimated: {why}")
    threshold, refused = threshold_between(known, unknown)
    if not len(unknown):
        how = f"{len(known)} images of one class left out one at a time; what is let through cannot be estimated: teach a second class"
        return OpenSet(threshold, refused, None, len(known), 0, how)
    counts = f"{len(known)} images left out one at a time and {len(unknown)} with their whole class"
    nested = len(found.counts) > 2 and (found.counts > 1).sum() > 1
    if not nested:
        let_through = float((unknown >= threshold).mean())
        how = f"{counts}, which the threshold was set by: too kind; teach three classes, two of them with several images"
        return OpenSet(threshold, refused, let_through, len(known), len(unknown), how)
    refused, let_through = _shares_by_class(found)
    return OpenSet(threshold, refused, let_through, len(known), len(unknown), f"{counts}, each under a threshold set without its class")


def _shares_by_class(found: Played) -> tuple[float, float]:
    """Shares of known images refused and of unknown ones let through, each class's under the threshold of the others."""
    known, unknown = found.parts()
    thresholds = np.empty(len(found.counts))
    for one in range(len(found.counts)):
        without = found.parts(one)
        thresholds[one] = threshold_between(*(part[np.isfinite(part)] for part in without))[0]
    own = thresholds[found.labels]
    return float((known < own)[np.isfinite(known)].mean()), float((unknown >= own)[np.isfinite(unknown)].mean())


def threshold_between(known: np.ndarray, unknown: np.ndarray) -> tuple[float, float]:
    """The value below which the fewest known and above which the fewest unknown figures lie, and the share of known ones below.

    The sum of both shares is least in the middle between two neighbouring figures; of several such places it is the widest. Without
    unknown figures, it is the k-th smallest of n known ones, with k / (n + 1) the expected share of new ones below it (they are
    exchangeable): LEAST_REFUSED, or 1 / (n + 1) where that is more.

    Raises:
        DataError: no known figure.
    """
    if not len(known):
        raise DataError("a threshold needs the figures of known images, and got none")
    if not len(unknown):
        rank = max(1, int(LEAST_REFUSED * (len(known) + 1)))
        return float(np.partition(known, rank - 1)[rank - 1]), rank / (len(known) + 1)
    known, unknown = np.sort(known), np.sort(unknown)
    figures = np.unique(np.concatenate([known, unknown]))  # a threshold lies below all, or behind one of these but the last
    below = np.append(0, np.searchsorted(known, figures[:-1], side="right"))
    passed = len(unknown) - np.append(0, np.searchsorted(unknown, figures[:-1], side="right"))
    # in whole numbers, so that equal sums are equal
    cost = below * len(unknown) + passed * len(known)
    widths = np.append(0.0, np.diff(figures))
    best = int(np.flatnonzero(cost == cost.min())[np.argmax(widths[cost == cost.min()])])
    if best == 0:  # refusing nothing costs least
        return float(np.nextafter(figures[0], -np.inf)), 0.0
    low, high = figures[best - 1], figures[best]
    middle = float((low + high) / 2)
    return middle if middle > low else float(high), float(below[best] / len(known))


def separation(known: np.ndarray, unknown: np.ndarray) -> float:
    """Area under the ROC curve: how often a known figure lies above an unknown one, equal ones as a half; in [0, 1].

    Raises:
        DataError: none of either.
    """
    if not len(known) or not len(unknown):
        raise DataError(f"the area under the ROC curve needs known and unknown figures, got {len(known)} and {len(unknown)}")
    ordered = np.sort(unknown)
    above, reached = np.searchsorted(ordered, known, side="left"), np.searchsorted(ordered, known, side="right")
    return float((above + reached).sum() / (2 * len(known) * len(unknown)))
