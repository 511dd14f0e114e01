"""Scenes: images with class maps, several classes in one image; what segmentation learns from."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kinshot.core.errors import ConfigError, DataError
from kinshot.datasets.base import Source
from kinshot.datasets.frames import Frame
from kinshot.datasets.identity import Chunk
from kinshot.samples.class_map import IGNORE, ClassMapSpec
from kinshot.samples.pixels import PixelSpec
from kinshot.samples.spec import Spec

IMAGE, MASK, PHOTO = "image", "mask", "photo"
"""The two fields, and the attribute that says which photograph a sample is of."""


class Scenes(Source):
    """Samples of two fields: `image`, uint8 (C, size, size), and `mask`, int64 (size, size).

    A mask's values are 0 for background, c + 1 for the class `class_names[c]`, `other` for an object of a class that is none of these
    (of another fold, of another split), and 255 where nobody says anything. `contains[:, c]` says which samples count as images of
    class c, each of which shows some of it in the frame. Two samples of one photograph are never support and query of one episode.

    Args:
        name: used in messages.
        frame: the square that images are brought into.
        channels: of the images.
        class_names: of the classes that episodes are made of.
        contains: bool (N, C).
        photos: for each sample the photograph that it is of, int64 (N,); None for one each.
        sizes: height and width of every sample as it is, int64 (N, 2).
        more: what every source can say of its samples.
    """

    def __init__(
        self, name: str, frame: Frame, channels: int, class_names: Sequence[str], contains: np.ndarray, photos: np.ndarray | None,
        sizes: np.ndarray, **more: Any,
    ) -> None:  # fmt: skip
        count = len(contains)
        fields: dict[str, Spec] = {
            IMAGE: PixelSpec.unmeasured((channels, frame.size, frame.size)),
            MASK: ClassMapSpec(frame.size, frame.size, len(class_names) + 2, IGNORE),
        }
        if len(class_names) + 1 >= IGNORE:
            raise DataError(f"{name} has {len(class_names)} classes: class maps of 8 bits hold up to {IGNORE - 2}, leave some out")
        photos = np.arange(count) if photos is None else np.unique(photos, return_inverse=True)[1].reshape(-1)
        attributes = {**more.pop("attributes", {}), PHOTO: photos}
        super().__init__(name, fields, None, class_names, count, contains=contains, attributes=attributes, **more)
        self.frame, self.sizes = frame, np.asarray(sizes, dtype=np.int64).reshape(count, 2)

    @property
    def other(self) -> int:
        """The value of masks that marks objects of other classes."""
        return len(self.class_names) + 1

    @property
    def photos(self) -> np.ndarray:
        """The photograph that each sample is of, int64 (N,)."""
        return self.attributes[PHOTO]

    def said(self) -> list[str]:
        """What is to be said before it is used: what was left out of it, and what of its objects is lost, with its name in front."""
        return [f"{self.name}: {note}" for note in self.notes]

    @abstractmethod
    def native_image(self, row: int) -> Tensor:
        """The image of a sample as it is, uint8 (C, H, W)."""

    @abstractmethod
    def native_mask(self, row: int) -> Tensor:
        """The class map of a sample as it is, int64 (H, W)."""

    def _load(self, rows: np.ndarray, field: str) -> Tensor:
        if field == IMAGE:
            return torch.stack([self.frame.image(self.native_image(row)) for row in rows.tolist()]) if len(rows) else self._none(IMAGE)
        return torch.stack([self.frame.mask(self.native_mask(row), IGNORE) for row in rows.tolist()]) if len(rows) else self._none(MASK)

    def _none(self, field: str) -> Tensor:
        return torch.zeros((0, *self.fields[field].shape), dtype=torch.uint8 if field == IMAGE else torch.int64)


class ArrayScenes(Scenes):
    """Scenes of one size that are held in memory.

    Args:
        images: uint8 (N, C, H, W); kept, not copied.
        masks: uint8 (N, H, W), values as in `Scenes`.
        class_names: of values 1 to C.
        photos: see `Scenes`.
        frame: the square that they are brought into; None for their own size, which then is square.
        contains: bool (N, C); None takes every class that a mask shows in the frame, where small objects may be lost.
        name: used in messages.
        more: what every source can say of its samples.

    Raises:
        DataError: arrays of other types or shapes, masks with values that are no class, or `contains` of a class that is lost in the frame.
    """

    def __init__(
        self, images: np.ndarray, masks: np.ndarray, class_names: Sequence[str], photos: np.ndarray | None = None,
        frame: Frame | None = None, contains: np.ndarray | None = None, name: str = "scenes", **more: Any,
    ) -> None:  # fmt: skip
        if images.dtype != np.uint8 or images.ndim != 4 or masks.dtype != np.uint8 or masks.shape != (len(images), *images.shape[2:]):
            got = f"{images.dtype} {images.shape} and {masks.dtype} {masks.shape}"
            raise DataError(f"{name}: expected images uint8 (N, C, H, W) and masks uint8 (N, H, W), got {got}: convert them first")
        if frame is None and images.shape[2] != images.shape[3]:
            raise ConfigError(f"{name}: images of {images.shape[2]} x {images.shape[3]} need a square: give a frame")
        known = len(class_names) + 1
        wrong = masks[(masks > known) & (masks != IGNORE)]
        if len(wrong):
            raise DataError(f"{name}: masks hold 0 to {known} and {IGNORE}, got {int(wrong[0])}: give each class a number of these")
        frame = frame or Frame(images.shape[2])
        shown = _shown(masks, frame, len(class_names))
        if contains is not None and contains.shape == shown.shape and len(lost := np.argwhere(contains & ~shown)):
            row, c = lost[0].tolist()
            raise DataError(
                f"{name}: contains says of {len(lost)} images, {row} the first, that they show a class ({class_names[c]!r} there) of which "
                f"a square of {frame.size} pixels shows nothing: give a larger frame, or leave contains out"
            )
        contains = shown if contains is None else contains
        sizes = np.full((len(images), 2), images.shape[2:])
        super().__init__(name, frame, images.shape[1], class_names, contains, photos, sizes, **more)
        self.images, self.masks = images, masks
        self._as_they_are = images.shape[2:] == (self.frame.size, self.frame.size)

    def native_image(self, row: int) -> Tensor:
        """The image of a sample."""
        return torch.from_numpy(self.images[row])

    def native_mask(self, row: int) -> Tensor:
        """The class map of a sample."""
        return torch.from_numpy(self.masks[row]).long()

    def _load(self, rows: np.ndarray, field: str) -> Tensor:
        if not self._as_they_are:
            return super()._load(rows, field)
        return torch.from_numpy(self.images[rows]) if field == IMAGE else torch.from_numpy(self.masks[rows]).long()

    def _content(self) -> Iterable[Chunk]:
        yield repr(self.frame).encode()
        yield np.ascontiguousarray(self.images)
        yield np.ascontiguousarray(self.masks)


def _shown(masks: np.ndarray, frame: Frame, classes: int) -> np.ndarray:
    """Which classes each mask shows in a frame, bool (N, C)."""
    if len(masks) and masks.shape[1:] != (frame.size, frame.size):
        masks = np.stack([frame.mask(torch.from_numpy(mask), IGNORE).numpy() for mask in masks])
    return np.stack([(masks == c + 1).any(axis=(1, 2)) for c in range(classes)], axis=1)
