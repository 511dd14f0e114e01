"""DeepFashion In-Shop Clothes Retrieval in its official layout: photographs of garments, with queries and a gallery."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from kinshot.core.errors import DataError
from kinshot.datasets import SOURCES
from kinshot.datasets.base import Source
from kinshot.datasets.listed_photos import Photos, found_place, inside, listed_rows, numbered, part_of_classes, photo_source

_LIST = "list_eval_partition.txt"
_PARTS = ("query", "gallery")


@SOURCES.register("in_shop")
def in_shop(
    *,
    root: str,
    split: Literal["train", "val", "test", "query", "gallery"] = "train",
    size: int = 224,
    val_share: float = 0.0,
    in_memory_mib: int = 1024,
) -> Source:
    """In-Shop Clothes Retrieval: 52,712 photographs of 7,982 garments, 3,997 to train, the others as queries and a gallery.

    Reads list_eval_partition.txt, in root or root/Eval, and the pictures that it names below root or root/Img. `query` and `gallery` are
    splits of their own with the same classes; `test` is both, and its attribute `part` says which. The attribute `category` is the kind of
    garment, a coarse class. The shorter side becomes `size` and the central square is kept.

    Paper: Liu, Luo, Qiu, Wang, Tang 2016, DeepFashion: Powering Robust Clothes Recognition and Retrieval with Rich Annotations

    Args:
        root: folder that holds Eval and Img, or the list and the folder img.
        split: train, val, query, gallery, or test for the last two; train, val and test share no garment.
        size: side in pixels.
        val_share: share of the training garments that are for validation instead, drawn once for all; give train and val the same.
        in_memory_mib: decode once into memory when the set needs no more than this; otherwise decode on demand.
    """
    listing = found_place(root, ("", "Eval"), _LIST, "In-Shop Clothes Retrieval") / _LIST
    place = found_place(root, ("", "Img"), "img", "pictures of In-Shop Clothes Retrieval")
    rows = list(listed_rows(listing, 3, header=2))
    if strange := [row for row in rows if row[2] not in ("train", *_PARTS)]:
        raise DataError(f"{listing}: {strange[0][0]} is of {strange[0][2]!r}, expected train, query or gallery: copy it again")
    learned = split in ("train", "val")
    rows = [row for row in rows if (row[2] == "train") == learned]
    labels, names = numbered([item for _, item, _ in rows])
    category, categories = numbered(["/".join(Path(path).parts[1:-2]) for path, *_ in rows])
    values, value_names = {"category": category}, {"category": categories}
    if not learned:
        values["part"], value_names["part"] = np.array([_PARTS.index(part) for *_, part in rows], dtype=np.int64), list(_PARTS)
    photos = Photos(place, [inside(place, path, listing) for path, *_ in rows], labels, names, values, value_names)
    if learned:
        photos = photos.of_classes(part_of_classes(len(names), split, val_share, "in_shop", first=len(names)))
    elif split in _PARTS:
        photos = photos.at(np.flatnonzero(values["part"] == _PARTS.index(split)))
    return photo_source(f"in_shop/{split}", photos, size, in_memory_mib)
