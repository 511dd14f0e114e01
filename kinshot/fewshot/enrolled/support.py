"""The images that a classifier was taught with: a set, whose order never matters.

Classes are sorted by name and images by class and content, so that whatever is computed of them is a function of what was taught, and
not of when: adding in two steps, in another order, or after a removal gives the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from kinshot.core.errors import DataError


@dataclass(frozen=True, order=True)
class Shot:
    """One image of a class.

    Attributes:
        label: name of its class.
        digest: hash of the file's content, by which the image is known.
        name: what the file was called.
    """

    label: str
    digest: str
    name: str


@dataclass(frozen=True)
class Support:
    """Images with their features, in the order of class and content.

    Attributes:
        shots: what each image is, sorted; no content occurs twice.
        features: float32 (N, D) as the encoder gives them.
        thumbnails: uint8 (N, 3, S, S), or None where none are kept.
    """

    shots: tuple[Shot, ...]
    features: Tensor
    thumbnails: Tensor | None = None

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, sorted; each has an image."""
        return tuple(sorted({shot.label for shot in self.shots}))

    @cached_property
    def labels(self) -> Tensor:
        """The class of each image as a number in `classes`, int64 (N,), ascending."""
        number = {name: place for place, name in enumerate(self.classes)}
        return torch.tensor([number[shot.label] for shot in self.shots], dtype=torch.int64)

    @cached_property
    def counts(self) -> Tensor:
        """Images of each class, int64 (C,)."""
        return torch.bincount(self.labels, minlength=len(self.classes))

    def taken(self, keep: Sequence[int]) -> Support:
        """Some of the images, by their numbers."""
        rows = torch.as_tensor(list(keep), dtype=torch.int64)
        thumbnails = None if self.thumbnails is None else self.thumbnails[rows]
        return Support(tuple(self.shots[row] for row in keep), self.features[rows], thumbnails)


def nothing(dim: int, thumbnail: int = 0) -> Support:
    """No image yet, of an encoder with `dim` features, with thumbnails of that side, or none."""
    pictures = torch.empty(0, 3, thumbnail, thumbnail, dtype=torch.uint8) if thumbnail else None
    return Support((), torch.empty(0, dim), pictures)


def joined(support: Support, more: Support) -> Support:
    """The images of both.

    Raises:
        DataError: features of another number, thumbnails of another size, or an image that is in both (look for it first).
    """
    if support.features.shape[1] != more.features.shape[1]:
        raise DataError(
            f"the classifier has features of {support.features.shape[1]} numbers, the new images have {more.features.shape[1]}: "
            "embed them with the classifier's own encoder"
        )
    shots = (*support.shots, *more.shots)
    if len({shot.digest for shot in shots}) < len(shots):
        raise DataError("an image is given twice, or is taught already: leave it out")
    order = sorted(range(len(shots)), key=lambda row: shots[row])
    both = Support(shots, torch.cat([support.features, more.features]), _pictures(support, more))
    return both.taken(order)


def _pictures(support: Support, more: Support) -> Tensor | None:
    if support.thumbnails is None or more.thumbnails is None:
        if support.thumbnails is not None or more.thumbnails is not None:
            raise DataError("thumbnails are kept of every image or of none: give them for the new images as the classifier has them")
        return None
    if support.thumbnails.shape[1:] != more.thumbnails.shape[1:]:
        raise DataError(
            f"thumbnails are {tuple(support.thumbnails.shape[1:])}, the new ones {tuple(more.thumbnails.shape[1:])}: equal sizes"
        )
    return torch.cat([support.thumbnails, more.thumbnails])


def renamed(support: Support, digest: str, label: str) -> Support:
    """The same with one image under another class."""
    shots = tuple(replace(shot, label=label) if shot.digest == digest else shot for shot in support.shots)
    return Support(shots, support.features, support.thumbnails).taken(sorted(range(len(shots)), key=lambda row: shots[row]))


def class_sums(values: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Sum of the rows of each class, float64 (C, D), of values (N, D) whose labels ascend and of which each class has one.

    Rows of a class are added one after the other and those of other classes play no part: a class's sum is the same bits whatever is
    taught beside it.
    """
    if not classes:
        return values.new_zeros(0, values.shape[1], dtype=torch.float64)
    starts = np.searchsorted(labels.numpy(), np.arange(classes))
    return torch.from_numpy(np.add.reduceat(values.double().numpy(), starts, axis=0))
