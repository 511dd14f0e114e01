"""Stanford Cars (Cars196) in the layout of one table for all images: photographs of 196 models of cars."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np

from kinshot.core.errors import DataError
from kinshot.core.small_files import check_regular
from kinshot.datasets import SOURCES
from kinshot.datasets.base import Source
from kinshot.datasets.listed_photos import Photos, found_place, inside, part_of_classes, photo_source

_FIELDS = ("relative_im_path", "class")


@SOURCES.register("cars_196")
def cars_196(
    *,
    root: str,
    split: Literal["train", "val", "test", "all"] = "train",
    size: int = 224,
    val_share: float = 0.0,
    in_memory_mib: int = 1024,
) -> Source:
    """Cars196: 16,185 photographs of 196 models of cars, the first 98 to train and the others to test, as metric learning has it.

    Reads the layout in which one table lists all images: cars_annos.mat and car_ims/ in root or root/stanford_cars (not the layout of
    cars_train and cars_test, whose test labels come apart). Bounding boxes are not used: the shorter side becomes `size` and the central
    square is kept. The published division of each class's images plays no part.

    Paper: Krause, Stark, Deng, Fei-Fei 2013, 3D Object Representations for Fine-Grained Categorization; split of Oh Song et al. 2016,
    arXiv 1511.06452

    Args:
        root: folder that holds cars_annos.mat and car_ims.
        split: train, val or test, which share no class, or all.
        size: side in pixels.
        val_share: share of the training classes that are for validation instead, drawn once for all; give train and val the same.
        in_memory_mib: decode once into memory when the set needs no more than this; otherwise decode on demand.
    """
    place = found_place(root, ("", "stanford_cars"), "cars_annos.mat", "Cars196")
    table = place / "cars_annos.mat"
    rows, names = _read(table)
    labels = np.array([int(row["class"]) - 1 for row in rows], dtype=np.int64)
    if labels.min(initial=0) < 0 or labels.max(initial=0) >= len(names):
        raise DataError(f"{table}: classes run from {labels.min() + 1} to {labels.max() + 1} for {len(names)} names: download it again")
    photos = Photos(place, [inside(place, str(row["relative_im_path"]), table) for row in rows], labels, names)
    return photo_source(
        f"cars_196/{split}", photos.of_classes(part_of_classes(len(names), split, val_share, "cars_196")), size, in_memory_mib
    )


def _read(path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Annotations, by name of their fields, and names of classes. Raises DataError."""
    from scipy.io import loadmat

    check_regular(path, remedy="copy it from the official release")
    try:
        found = loadmat(str(path), simplify_cells=True, variable_names=["annotations", "class_names"])
        rows, names = list(found["annotations"]), [str(name) for name in found["class_names"]]
        if not rows or any(key not in row for row in rows for key in _FIELDS):
            raise ValueError(f"annotations without {' and '.join(_FIELDS)}")
    except Exception as problem:  # a damaged file makes the reader raise nearly anything
        reason = " ".join(str(problem).split()) or type(problem).__name__
        raise DataError(f"cannot read the annotations of {path}: {reason}: download the table with all images, cars_annos.mat") from problem
    return rows, names
