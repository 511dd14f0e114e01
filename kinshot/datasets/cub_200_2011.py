"""Caltech-UCSD Birds 200-2011 in its official layout: photographs of 200 kinds of birds."""

from __future__ import annotations

from typing import Literal

import numpy as np

from kinshot.core.errors import DataError
from kinshot.datasets import SOURCES
from kinshot.datasets.base import Source
from kinshot.datasets.listed_photos import Photos, found_place, inside, listed_rows, part_of_classes, photo_source


@SOURCES.register("cub_200_2011")
def cub_200_2011(
    *,
    root: str,
    split: Literal["train", "val", "test", "all"] = "train",
    size: int = 224,
    val_share: float = 0.0,
    in_memory_mib: int = 1024,
) -> Source:
    """CUB-200-2011: 11,788 photographs of 200 kinds of birds, the first 100 to train and the others to test, as metric learning has it.

    Reads images.txt, image_class_labels.txt, classes.txt and images/ in root or root/CUB_200_2011. Bounding boxes are not used: the shorter
    side becomes `size` and the central square is kept. The published division of each class's images, train_test_split.txt, plays no part;
    few-shot splits of these classes are had by source `folder` with split=cub_torchmeta:test, for example.

    Paper: Wah, Branson, Welinder, Perona, Belongie 2011, The Caltech-UCSD Birds-200-2011 Dataset; split of Oh Song et al. 2016, arXiv
    1511.06452

    Args:
        root: folder that holds images.txt, or CUB_200_2011.
        split: train, val or test, which share no class, or all.
        size: side in pixels.
        val_share: share of the training classes that are for validation instead, drawn once for all; give train and val the same.
        in_memory_mib: decode once into memory when the set needs no more than this; otherwise decode on demand.
    """
    place = found_place(root, ("", "CUB_200_2011"), "images.txt", "CUB-200-2011")
    names = dict(listed_rows(place / "classes.txt", 2))
    files, classes = dict(listed_rows(place / "images.txt", 2)), dict(listed_rows(place / "image_class_labels.txt", 2))
    order = sorted(names, key=_number)
    number = {one: row for row, one in enumerate(order)}
    if missing := [one for one in files if classes.get(one) not in number]:
        raise DataError(f"{place}: image {missing[0]} has no class that classes.txt names: copy the lists from the official release")
    labels = np.array([number[classes[one]] for one in files], dtype=np.int64)
    paths = [inside(place / "images", file, place / "images.txt") for file in files.values()]
    photos = Photos(place / "images", paths, labels, [names[one] for one in order])
    chosen = part_of_classes(len(order), split, val_share, "cub_200_2011")
    return photo_source(f"cub_200_2011/{split}", photos.of_classes(chosen), size, in_memory_mib)


def _number(text: str) -> int:
    if not text.isdecimal():
        raise DataError(f"classes.txt of CUB-200-2011 has the class number {text!r}: copy it from the official release")
    return int(text)
