"""What heads may know of the base classes: the mean of all base features, and each class's mean and covariance."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from kinshot.core.errors import DataError


@dataclass(frozen=True, eq=False)
class BaseStatistics:
    """Moments of the base features; C base classes, D features.

    Args:
        mean: mean of all base features, every image counted once, (D,).
        class_means: mean of each class, classes in ascending order of their label, (C, D).
        class_covariances: covariance of each class, divisor n - 1, (C, D, D); None where no head needs them.

    Raises:
        DataError: shapes that do not fit together, or a number that is not finite.
    """

    mean: Tensor
    class_means: Tensor
    class_covariances: Tensor | None = None

    def __post_init__(self) -> None:
        parts = [self.mean, self.class_means] + ([] if self.class_covariances is None else [self.class_covariances])
        dim = self.mean.shape[-1] if self.mean.ndim == 1 else -1
        classes = len(self.class_means) if self.class_means.ndim else 0
        if classes == 0 or any(p.shape != s for p, s in zip(parts, ((dim,), (classes, dim), (classes, dim, dim)), strict=False)):
            raise DataError(
                f"base statistics need a mean (D,), class means (C, D) with C >= 1 and covariances (C, D, D) or None, "
                f"got {', '.join(str(tuple(p.shape)) for p in parts)}: make them with base_statistics()"
            )
        if not all(bool(torch.isfinite(p).all()) for p in parts):
            raise DataError("base statistics hold a number that is not finite: check the base features")

    @cached_property
    def class_factors(self) -> Tensor:
        """Symmetric square root of each covariance, (C, D, D) float64: F F^T is the covariance, which may be singular.

        Computed once for an object. Raises DataError where there are no covariances.
        """
        if self.class_covariances is None:
            raise DataError("these base statistics hold no covariances: make them with base_statistics(..., covariances=True)")
        # one class at a time: the temporaries of a few hundred wide matrices at once would not fit
        return torch.stack([_root(c.double()) for c in self.class_covariances])


def base_statistics(features: Tensor, labels: Tensor | np.ndarray, *, covariances: bool = True) -> BaseStatistics:
    """Moments of base features, summed in float64 and returned in the dtype and on the device of the features.

    Args:
        features: (N, D) float, one row per base image.
        labels: class of every image, integers (N,), any values.
        covariances: whether to compute the class covariances, C * D * D numbers.

    Raises:
        DataError: shapes or dtypes that do not fit, features that are not finite, no image, or a class with one image
            where covariances are asked for.

    >>> features, labels = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 2.0], [0.0, 4.0]]), torch.tensor([0, 0, 1, 1])
    >>> base = kinshot.base_statistics(features, labels)
    >>> base.mean, base.class_means
    (tensor([1.0000, 1.5000]), tensor([[2., 0.],
            [0., 3.]]))
    """
    label = torch.as_tensor(labels, device=features.device)
    _check(features, label)
    classes, position = label.unique(sorted=True, return_inverse=True)
    counts = position.bincount(minlength=len(classes))
    if covariances and int(counts.min()) < 2:
        single = int(classes[counts.argmin()])
        raise DataError(f"base class {single} has one image, a covariance needs two: leave the class out or pass covariances=False")
    z = features.double()
    means = z.new_zeros(len(classes), z.shape[1]).index_add_(0, position, z) / counts.unsqueeze(-1)
    found = None
    if covariances:
        found = torch.stack([_covariance(z[position == c] - means[c]).to(features.dtype) for c in range(len(classes))])
    return BaseStatistics(z.mean(0).to(features.dtype), means.to(features.dtype), found)


def _covariance(centred: Tensor) -> Tensor:
    return centred.T @ centred / (len(centred) - 1)


def _root(covariance: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    # rounding leaves tiny negative eigenvalues where a class has fewer images than features
    return (vectors * values.clamp_min(0).sqrt()) @ vectors.mT


def _check(features: Tensor, labels: Tensor) -> None:
    if features.ndim != 2 or not features.is_floating_point() or not len(features):
        raise DataError(f"base features must be float (N, D) with N >= 1, got {features.dtype} {tuple(features.shape)}")
    if labels.shape != features.shape[:1] or labels.is_floating_point() or labels.dtype == torch.bool:
        raise DataError(
            f"base statistics need one integer label for each of {len(features)} features, got {labels.dtype} {tuple(labels.shape)}"
        )
    if not bool(torch.isfinite(features).all()):
        row = int((~torch.isfinite(features)).any(1).nonzero()[0])
        raise DataError(f"the base features of image {row} are not finite: check the encoder's weights and the image")
