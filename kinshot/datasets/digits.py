"""Handwritten digits that come with scikit-learn: no files needed."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch.nn import functional

from kinshot.core.errors import ConfigError
from kinshot.datasets import SOURCES
from kinshot.datasets.base import ArraySource

_TEST_EVERY = 5


@SOURCES.register("digits")
def digits(*, split: Literal["train", "test", "all"] = "train", size: int = 28) -> ArraySource:
    """1797 handwritten digits of 8x8 pixels from scikit-learn, ten classes.

    The fifth, tenth, ... image of each class is test (355 images), the others train (1442): both hold every class.

    Paper: Kaynak 1995, Methods of Combining Multiple Classifiers and Their Applications to Handwritten Digit Recognition

    Args:
        split: train, test or all; the splits share classes but no image.
        size: side in pixels; 8 keeps the original pixels, other sizes are resized with a bilinear filter.

    >>> source = kinshot.sources.digits(split="test")
    >>> len(source), source.shape, source.class_names[:3]
    (355, (1, 28, 28), ['0', '1', '2'])
    >>> source.load([0, 1]).shape
    torch.Size([2, 1, 28, 28])
    """
    if size < 1:
        raise ConfigError(f"digits: size must be at least 1, got {size}")
    bunch = load_digits()
    images = torch.from_numpy(np.rint(bunch.images * (255 / 16)).astype(np.uint8))[:, None]
    labels = np.asarray(bunch.target, dtype=np.int64)
    if size != 8:
        resized = functional.interpolate(images.float(), (size, size), mode="bilinear", antialias=True)
        images = resized.round().clamp(0, 255).to(torch.uint8)
    chosen = _chosen(labels, split)
    return ArraySource(images[chosen], labels[chosen], [str(digit) for digit in range(10)], f"digits/{split}")


def _chosen(labels: np.ndarray, split: str) -> np.ndarray:
    is_test = np.zeros(len(labels), dtype=bool)
    for digit in range(10):
        is_test[np.flatnonzero(labels == digit)[_TEST_EVERY - 1 :: _TEST_EVERY]] = True
    return np.flatnonzero({"train": ~is_test, "test": is_test, "all": np.ones_like(is_test)}[split])
