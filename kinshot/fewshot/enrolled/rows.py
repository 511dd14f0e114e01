"""Heads as one linear map of a feature, and what each would have said of an image that it was not taught with.

Scores are t(z) W^T + b, with t the head's transform. They are the scores of the head of that name in `kinshot.heads` on the same support,
up to a constant of each image, which changes no answer and no probability.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from kinshot.core.errors import ConfigError
from kinshot.fewshot.enrolled.support import Support, class_sums
from kinshot.fewshot.heads.ridge import ridge_weights
from kinshot.fewshot.logistic_regression import fit_logistic
from kinshot.fewshot.transforms import transform, unit

FOLDS = 5
"""Fits of `logistic` that leave images out: each leaves out at most one image in this many of every class."""


@dataclass(frozen=True)
class Rows:
    """A fitted head: scores of features z are t(z) W^T + b.

    Attributes:
        weight: float64 (C, D).
        bias: float64 (C,).
        transform: what is done to a feature first, `none` or `l2n`.
    """

    weight: Tensor
    bias: Tensor
    transform: str

    def scores(self, features: Tensor) -> Tensor:
        """Scores (N, C), float64, of features (N, D)."""
        return transform(features.double(), self.transform) @ self.weight.double().T + self.bias.double()


@dataclass(frozen=True)
class LeftOut:
    """Scores of images that the head was not taught with, each given by a fit without it.

    Attributes:
        index: int64 (M,), which images: those whose class has another one.
        scores: float64 (M, C).
    """

    index: Tensor
    scores: Tensor


def means(support: Support) -> Tensor:
    """u(mean of u(z)) over the images of each class, float64 (C, D): what an image's closeness is measured to, whatever the head."""
    return unit(class_sums(unit(support.features.double()), support.labels, len(support.classes)))


def fit_rows(support: Support, head: str, settings: Mapping[str, Any]) -> Rows:
    """A head fitted to all images of a support; `settings` are complete.

    Raises:
        ConfigError: a head or a setting that is no row for each class.
    """
    return _head(head, settings)[0](support, settings)


def left_out(support: Support, head: str, settings: Mapping[str, Any]) -> LeftOut:
    """What a head says of every image of which it is not told, where the image's class has others.

    Exact for `imprint`, `prototype` and `ridge`, without a fit for each image. For `logistic` one of up to FOLDS fits leaves out one image
    in so many of every class, so that it knows a little less than leaving out one image alone.
    """
    index = torch.nonzero(support.counts[support.labels] > 1).squeeze(1)
    if not len(index):
        return LeftOut(index, torch.empty(0, len(support.classes), dtype=torch.float64))
    return LeftOut(index, _head(head, settings)[1](support, settings, index))


def check_head(head: str, settings: Mapping[str, Any]) -> None:
    """Raises ConfigError for a head that cannot be written as a row for each class, or for such settings of it."""
    _head(head, settings)


def _head(head: str, settings: Mapping[str, Any]) -> tuple[Callable[..., Rows], Callable[..., Tensor]]:
    if head not in FITTED:
        raise ConfigError(f"head {head} looks at all images anew for every question: a classifier keeps one of {', '.join(FITTED)}")
    if settings["transform"] == "cl2n":
        raise ConfigError(f"head {head}: transform=cl2n needs base classes, which a classifier of your own has none of: use l2n or none")
    if settings.get("proxies") == "multi" or settings.get("distance") == "euclidean":
        other = "proxies=average" if head == "imprint" else "distance=squared, which answers the same,"
        raise ConfigError(f"head {head} with these settings has no single row for each class: use {other} or head ridge or logistic")
    return FITTED[head]


def _cosine_rows(support: Support, settings: Mapping[str, Any]) -> Rows:
    seen = transform(support.features.double(), settings["transform"])
    weight = settings.get("scale", 1.0) * unit(class_sums(seen, support.labels, len(support.classes)))
    return Rows(weight, weight.new_zeros(len(weight)), "l2n")


def _cosine_left_out(support: Support, settings: Mapping[str, Any], index: Tensor) -> Tensor:
    fitted, y = _cosine_rows(support, settings), support.labels
    seen = transform(support.features.double(), settings["transform"])
    own = unit(class_sums(seen, y, len(support.classes))[y[index]] - seen[index])
    scores = fitted.scores(support.features[index])
    asked = unit(support.features[index].double())
    return scores.scatter(1, y[index, None], settings.get("scale", 1.0) * (asked * own).sum(1, keepdim=True))


def _prototype(support: Support, settings: Mapping[str, Any]) -> Rows:
    if settings["distance"] == "cosine":
        return _cosine_rows(support, settings)
    seen = transform(support.features.double(), settings["transform"])
    centre = class_sums(seen, support.labels, len(support.classes)) / support.counts.unsqueeze(1)
    return Rows(2 * centre, -centre.square().sum(1), settings["transform"])


def _prototype_left_out(support: Support, settings: Mapping[str, Any], index: Tensor) -> Tensor:
    if settings["distance"] == "cosine":
        return _cosine_left_out(support, settings, index)
    y, seen = support.labels, transform(support.features.double(), settings["transform"])
    sums = class_sums(seen, y, len(support.classes))
    own = (sums[y[index]] - seen[index]) / (support.counts[y[index]] - 1).unsqueeze(1)
    alone = 2 * (seen[index] * own).sum(1, keepdim=True) - own.square().sum(1, keepdim=True)
    return _prototype(support, settings).scores(support.features[index]).scatter(1, y[index, None], alone)


def _targets(support: Support) -> Tensor:
    return one_hot(support.labels, len(support.classes)).double()


def _ridge(support: Support, settings: Mapping[str, Any]) -> Rows:
    seen = transform(support.features.double(), settings["transform"])
    weight = settings["scale"] * ridge_weights(seen[None], _targets(support)[None], settings["penalty"])[0].T
    return Rows(weight, weight.new_full((len(weight),), settings["bias"]), settings["transform"])


def _ridge_left_out(support: Support, settings: Mapping[str, Any], index: Tensor) -> Tensor:
    # a ridge fit without row i says (y^_i - h_i y_i) / (1 - h_i) of it, with h its leverage in the whole fit
    seen, targets = transform(support.features.double(), settings["transform"]), _targets(support)
    said = seen @ ridge_weights(seen[None], targets[None], settings["penalty"])[0]
    rest = _one_minus_leverage(seen, settings["penalty"])[:, None]
    return (settings["scale"] * (said - (1 - rest) * targets) / rest + settings["bias"])[index]


def _one_minus_leverage(x: Tensor, penalty: float) -> Tensor:
    """1 - x_i (X^T X + penalty)^-1 x_i of every row, (N,), solved in the smaller of the two spaces."""
    if len(x) <= x.shape[1]:
        gram = x @ x.T
        gram.diagonal().add_(penalty)
        return penalty * torch.cholesky_inverse(torch.linalg.cholesky(gram)).diagonal()
    moments = x.T @ x
    moments.diagonal().add_(penalty)
    half = torch.linalg.solve_triangular(torch.linalg.cholesky(moments), x.T, upper=False)
    return 1 - half.square().sum(0)


def _logistic(support: Support, settings: Mapping[str, Any]) -> Rows:
    return _fit_logistic(support.features, _targets(support), settings)


def _fit_logistic(features: Tensor, targets: Tensor, settings: Mapping[str, Any]) -> Rows:
    if targets.shape[1] == 1:  # nothing to tell apart: every score is 0
        return Rows(torch.zeros(1, features.shape[1], dtype=torch.float64), torch.zeros(1, dtype=torch.float64), settings["transform"])
    seen = transform(features.double(), settings["transform"])
    weight, bias = fit_logistic(seen[None], targets[None], settings["C"], max_iter=settings["max_iter"])
    return Rows(weight[0].T, bias[0], settings["transform"])


def _logistic_left_out(support: Support, settings: Mapping[str, Any], index: Tensor) -> Tensor:
    y, targets = support.labels, _targets(support)
    starts = torch.searchsorted(y, torch.arange(len(support.classes)))
    place = torch.arange(len(y)) - starts[y]
    fold = torch.where(support.counts[y] > 1, place % FOLDS, -1)  # the only image of a class stays in every fit
    scores = torch.empty(len(y), len(support.classes), dtype=torch.float64)
    for part in fold[index].unique().tolist():
        out = fold == part
        scores[out] = _fit_logistic(support.features[~out], targets[~out], settings).scores(support.features[out])
    return scores[index]


FITTED: dict[str, tuple[Callable[..., Rows], Callable[..., Tensor]]] = {
    "imprint": (_cosine_rows, _cosine_left_out),
    "prototype": (_prototype, _prototype_left_out),
    "ridge": (_ridge, _ridge_left_out),
    "logistic": (_logistic, _logistic_left_out),
}
"""Heads that are a row for each class: how each is fitted, and what it says of images left out."""
