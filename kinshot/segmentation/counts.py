"""Pixels counted by true and predicted label, image by image: all that a rule of segmentation looks at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kinshot.core.errors import DataError
from kinshot.samples.class_map import IGNORE


@dataclass(frozen=True)
class Counts:
    """What was predicted in E episodes of W ways and Q queries, as counts; pixels whose truth is 255 are in none of them.

    Args:
        classes: the class of each way, int64 (E, W); the same number is the same class in every episode.
        confusion: int64 (E, Q, 1 + W, 1 + W): [e, q, t, p] pixels of label t were said to be p, background first.
        edges: of each query and way, int64 (E, Q, W, 4), see `kinshot.segmentation.boundary`; None where outlines were not compared.

    Raises:
        DataError: arrays whose shapes do not belong together.
    """

    classes: np.ndarray
    confusion: np.ndarray
    edges: np.ndarray | None = None

    def __post_init__(self) -> None:
        (count, ways), labels = self.classes.shape, self.classes.shape[1] + 1
        fits = self.confusion.ndim == 4 and self.confusion.shape[::2] == (count, labels) and self.confusion.shape[3] == labels
        if not fits or (self.edges is not None and self.edges.shape != (*self.confusion.shape[:2], ways, 4)):
            edges = None if self.edges is None else self.edges.shape
            raise DataError(
                f"counts of {count} episodes of {ways} ways are ({count}, queries, {labels}, {labels}), outlines "
                f"({count}, queries, {ways}, 4), got {self.confusion.shape} and {edges}"
            )

    def __len__(self) -> int:
        return len(self.classes)

    def __getitem__(self, rows: slice | np.ndarray) -> Counts:
        """Some of the episodes."""
        return Counts(self.classes[rows], self.confusion[rows], None if self.edges is None else self.edges[rows])

    @property
    def overlap(self) -> np.ndarray:
        """Pixels of each label that were found, int64 (E, Q, 1 + W): true positives, the intersection."""
        return np.diagonal(self.confusion, axis1=2, axis2=3)

    @property
    def predicted(self) -> np.ndarray:
        """Pixels that were said to be of each label, int64 (E, Q, 1 + W)."""
        return self.confusion.sum(axis=2)

    @property
    def true(self) -> np.ndarray:
        """Pixels that are of each label, int64 (E, Q, 1 + W)."""
        return self.confusion.sum(axis=3)

    @property
    def union(self) -> np.ndarray:
        """Pixels that are of each label or were said to be, int64 (E, Q, 1 + W)."""
        return self.predicted + self.true - self.overlap


def joined(parts: Sequence[Counts]) -> Counts:
    """Counts of several lists of episodes, of equal ways and queries, as one.

    Raises:
        DataError: nothing to join, or lists of other ways or queries, or outlines in some alone.
    """
    shapes = {(part.confusion.shape[1:], part.edges is None) for part in parts}
    if len(shapes) != 1:
        raise DataError(f"counts are joined of episodes of one shape, got {sorted(map(str, shapes))}: measure each shape by itself")
    edges = [part.edges for part in parts if part.edges is not None]
    return Counts(
        np.concatenate([part.classes for part in parts]),
        np.concatenate([part.confusion for part in parts]),
        np.concatenate(edges) if edges else None,
    )


def count_pixels(prediction: Tensor, truth: Tensor, labels: int) -> Tensor:
    """Pixels of each image by true and predicted label, int64 (B, labels, labels), those apart whose truth is 255.

    Args:
        prediction: whole numbers (B, H, W), 0 to labels - 1; anything where the truth is 255.
        truth: whole numbers (B, H, W), 0 to labels - 1 or 255.
        labels: how many there are, background among them.

    Raises:
        DataError: shapes that differ, or values that are no label.
    """
    if prediction.shape != truth.shape or truth.ndim != 3:
        raise DataError(f"expected predictions and truth (B, H, W) of one shape, got {tuple(prediction.shape)} and {tuple(truth.shape)}")
    known = truth != IGNORE
    said, is_ = prediction.long(), truth.long()
    wrong = known & ((said < 0) | (said >= labels) | (is_ < 0) | (is_ >= labels))
    if bool(wrong.any()):
        got = f"a prediction {int(said[wrong][0])} for {int(is_[wrong][0])}"
        raise DataError(f"labels are 0 to {labels - 1}, and in truth {IGNORE} where nothing is said: got {got}")
    cells = labels * labels + 1  # the last one takes what is not counted
    image = torch.arange(len(truth), device=truth.device).view(-1, 1, 1) * cells
    cell = (is_ * labels + said).where(known, cells - 1) + image
    found = torch.bincount(cell.flatten(), minlength=len(truth) * cells)
    return found.view(-1, cells)[:, :-1].reshape(-1, labels, labels)


def counted(prediction: Tensor, truth: Tensor, classes: Tensor | np.ndarray) -> Counts:
    """Counts of episodes whose queries are of one size.

    Args:
        prediction: labels (E, Q, H, W): 0 background, w + 1 way w.
        truth: way maps (E, Q, H, W), as `kinshot.segmentation.dense.way_maps` makes them.
        classes: the class of each way, (E, W).

    Raises:
        DataError: see `count_pixels`.

    >>> truth = torch.tensor([[0, 1], [1, 255]]).view(1, 1, 2, 2)
    >>> counts = counted(torch.ones_like(truth), truth, torch.tensor([[7]]))
    >>> counts.overlap.tolist(), counts.union.tolist()
    ([[[0, 2]]], [[[1, 3]]])
    """
    whose = np.asarray(classes, dtype=np.int64) if isinstance(classes, np.ndarray) else classes.cpu().numpy()
    labels = whose.shape[1] + 1
    found = count_pixels(prediction.flatten(0, 1), truth.flatten(0, 1), labels)
    return Counts(whose, found.view(*truth.shape[:2], labels, labels).cpu().numpy())
