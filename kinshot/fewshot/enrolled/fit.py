"""Everything that is computed of what a classifier was taught."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from kinshot.core.errors import DataError
from kinshot.fewshot.enrolled.open_set import OpenSet, fit_open_set
from kinshot.fewshot.enrolled.rows import Rows, fit_rows, left_out, means
from kinshot.fewshot.enrolled.support import Support
from kinshot.fewshot.enrolled.temperature import fit_temperature, probabilities
from kinshot.fewshot.transforms import unit


@dataclass(frozen=True)
class Sureness:
    """How sure answers are.

    Attributes:
        temperature: what scores are divided by before the softmax; None where nothing can be fitted.
        right: images that were recognised by a head that was not taught them.
        of: images that could be left out.
        how: how the temperature was found, or why not.
    """

    temperature: float | None
    right: int
    of: int
    how: str


@dataclass(frozen=True)
class Fit:
    """A classifier without its encoder.

    Attributes:
        means: unit mean of each class, float64 (C, D).
        rows: the head.
        sureness: the temperature, and what it stands on.
        open_set: the threshold, and what it stands on.
    """

    means: Tensor
    rows: Rows
    sureness: Sureness
    open_set: OpenSet

    def answer(self, features: Tensor) -> Answers:
        """What is said of features (N, D)."""
        scores = self.rows.scores(features)
        closeness = (unit(features.double()) @ self.means.double().T).amax(1)
        temperature = self.sureness.temperature
        return Answers(scores, closeness, None if temperature is None else probabilities(scores, temperature))


@dataclass(frozen=True)
class Answers:
    """What a classifier says of some images.

    Attributes:
        scores: of each class, float64 (N, C); the largest is the answer.
        closeness: to the nearest class, the cosine, float64 (N,).
        probabilities: of each class if the image shows one of them, float64 (N, C); None where no temperature could be fitted.
    """

    scores: Tensor
    closeness: Tensor
    probabilities: Tensor | None


def fit(support: Support, head: str, settings: Mapping[str, Any]) -> Fit:
    """A head, its temperature and the threshold for a support; a function of what was taught, in whatever order.

    Args:
        support: the images; at least one.
        head: imprint, prototype, ridge or logistic.
        settings: all settings of the head.

    Raises:
        ConfigError: a head, or settings of it, without a row for each class.
        DataError: no image.
    """
    if not len(support.shots):
        raise DataError("a classifier is fitted to images, and none is taught: enroll one")
    return Fit(means(support), fit_rows(support, head, settings), sureness(support, head, settings), fit_open_set(support))


def sureness(support: Support, head: str, settings: Mapping[str, Any]) -> Sureness:
    """The temperature by leaving images out: careful, as a class knows less without the image; bold where images were taken together."""
    if len(support.classes) < 2:
        return Sureness(None, 0, 0, "cannot be estimated: one class is not told apart from anything; teach a second one")
    out = left_out(support, head, settings)
    if not len(out.index):
        why = "no class has two images, so that no image can be left out: teach a second one of some class"
        return Sureness(None, 0, 0, f"cannot be estimated: {why}")
    labels = support.labels[out.index]
    right = int((out.scores.argmax(1) == labels).sum())
    alone = int((support.counts == 1).sum())
    beside = f"; {alone} of {len(support.classes)} classes have one image and play no part" if alone else ""
    return Sureness(fit_temperature(out.scores, labels), right, len(labels), f"{len(labels)} images left out one at a time{beside}")
