"""Photographs and drawings of the same things, for retrieval across the two: each drawing is made from its photograph."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
import torch

from kinshot.core.errors import ConfigError, DataError, suggest
from kinshot.core.part_text import read_settings, split_text
from kinshot.datasets import SOURCES
from kinshot.datasets.base import Source
from kinshot.datasets.cache import cached_images
from kinshot.datasets.edge_drawings import edge_drawings
from kinshot.datasets.files import digest
from kinshot.datasets.identity import Chunk

MODALITIES = ("photo", "drawing")
_EXAMPLE = "grocery_store:label=coarse"
# Raise when a drawing changes.
_VERSION = 1
_AT_A_TIME = 256


@SOURCES.register("photo_drawings")
def photo_drawings(
    *,
    of: str = "folder",
    root: str = "",
    split: str = "",
    size: int | None = None,
    modality: Literal["both", "photo", "drawing"] = "both",
    ink: float = 0.08,
) -> PhotoDrawings:
    """Every photograph of another source and a drawing made from it: its edges as black lines on white, found by a filter.

    Nobody drew anything: what crosses from photograph to drawing here is easier than what a person's sketch asks, and figures compare
    with no benchmark of sketches. Those of photographs in memory are made once and cached. All photographs come first, then their
    drawings in the same order. The attribute `modality` says which a sample is, the attribute `photo` which photograph it is or was
    made from: leave the query's own out of a gallery, or it is found by its edges, as in
    `fewshot retrieve RUN --query modality=drawing --gallery modality=photo --camera photo`.

    Paper: edges as in Canny 1986, A Computational Approach to Edge Detection

    Args:
        of: the source of photographs, NAME or NAME:setting=value:setting=value.
        root: its setting of that name; empty leaves it to `of`.
        split: likewise.
        size: likewise.
        modality: both, or the photographs or the drawings alone.
        ink: share of pixels that are steep enough for black, between 0 and 1.

    Raises:
        ConfigError: a source or setting that there is not, or a number out of range.
        DataError: a source that gives no images.
    """
    name, *assignments = split_text(of, ":", "photo_drawings: of", _EXAMPLE)
    settings = read_settings(of, assignments, "photo_drawings: of", _EXAMPLE)
    known = SOURCES.entry(name).parameters
    for key, value in {"root": root, "split": split, "size": size}.items():
        if value in ("", None):
            continue
        if key not in known:
            raise ConfigError(f"photo_drawings: source {name} has no setting {key!r}: {suggest(key, known)}, or leave it out")
        settings[key] = value
    return PhotoDrawings(SOURCES.build(name, settings=settings), modality, ink)


class PhotoDrawings(Source):
    """Samples of another source, drawings made from them, or both, the samples first.

    Args:
        photos: images.
        modality: "photo", "drawing" or "both".
        ink: of `edge_drawings`.

    Raises:
        ConfigError: an ink out of range.
        DataError: a source that gives no images of one label each.
    """

    def __init__(self, photos: Source, modality: str = "both", ink: float = 0.08) -> None:
        if len(photos.fields) != 1 or photos.kind != "image":
            raise DataError(f"photo_drawings: {photos.name} gives {', '.join(photos.fields)}, and drawings are made from images alone")
        edge_drawings(np.zeros((1, 1, 2, 2), dtype=np.uint8), ink=ink)  # says now what is wrong with it
        parts = (modality,) if modality in MODALITIES else MODALITIES
        self.photos, self.ink, self.in_memory = photos, ink, photos.in_memory
        self.drawn = np.repeat([part == "drawing" for part in parts], len(photos))
        self.of = np.tile(np.arange(len(photos)), len(parts))
        beside: dict[str, Any] = photos.beside(self.of)
        beside["attributes"] |= {"modality": self.drawn.astype(np.int64), "photo": self.of}
        beside["attribute_names"] = {**photos.attribute_names, "modality": list(MODALITIES)}
        labels = None if photos.labels is None else photos.labels[self.of]
        super().__init__(f"drawings of {photos.name}", photos.fields, labels, photos.class_names, len(self.of), **beside)
        self.drawings = None
        if photos.in_memory and self.drawn.any():
            key = f"drawings-{_VERSION}-{digest(f'{photos.fingerprint()} {ink!r}'.encode())}"
            self.drawings = cached_images(key, (len(photos), 1, *photos.shape[1:]), self._all_drawings)
        self.notes = [*photos.notes, "drawings are made from the photographs: edges found by a filter, nobody's sketches"]

    def said(self) -> list[str]:
        """That nobody drew these."""
        return [*self.photos.said(), f"{self.name}: {self.notes[-1]}"]

    def _load(self, rows: np.ndarray, field: str) -> torch.Tensor:
        drawn = torch.from_numpy(self.drawn[rows])
        if not drawn.any():
            return self.photos.load(self.of[rows])
        batch = torch.empty((len(rows), *self.shape), dtype=torch.uint8)
        batch[~drawn] = self.photos.load(self.of[rows][~drawn.numpy()])
        batch[drawn] = torch.from_numpy(self._drawings(self.of[rows][drawn.numpy()]))  # the same in every channel
        return batch

    def _drawings(self, photos: np.ndarray) -> np.ndarray:
        """The drawings of some photographs, uint8 (M, 1, H, W)."""
        return edge_drawings(self.photos.load(photos).numpy(), ink=self.ink) if self.drawings is None else self.drawings[photos]

    def _all_drawings(self) -> np.ndarray:
        parts = np.array_split(np.arange(len(self.photos)), len(self.photos) // _AT_A_TIME + 1)
        return np.concatenate([edge_drawings(self.photos.load(part).numpy(), ink=self.ink) for part in parts])

    def _content(self) -> Iterable[Chunk]:
        yield self.photos.fingerprint().encode()
        yield repr((_VERSION, self.ink)).encode()
        yield self.drawn
