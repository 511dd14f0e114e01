"""Market-1501 in its official layout: people as six cameras saw them, with queries and a gallery."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import numpy as np

from kinshot.core.errors import DataError
from kinshot.datasets import SOURCES
from kinshot.datasets.base import Source
from kinshot.datasets.listed_photos import Photos, found_place, numbered, part_of_classes, photo_source
from kinshot.datasets.survey import class_folders

_NAME = re.compile(r"(-1|[0-9]{4})_c([1-6])s([0-9]+)_[0-9]{6}_[0-9]{2}\.jpg(?:\.jpg)?")
_FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
_PARTS = ("query", "gallery")
_JUNK, DISTRACTOR = "-1", "0000"


@SOURCES.register("market_1501")
def market_1501(
    *,
    root: str,
    split: Literal["train", "val", "test", "query", "gallery"] = "train",
    size: int = 128,
    val_share: float = 0.0,
    distractors: Literal["keep", "leave_out"] = "keep",
    in_memory_mib: int = 1024,
) -> Source:
    """Market-1501: 32,668 pictures of 1,501 people in front of six cameras, 751 people to train, the others as queries and a gallery.

    Reads bounding_box_train, query and bounding_box_test in root or root/Market-1501-v15.09.15, whose files' names say person and camera:
    attributes `camera` and `sequence`. `query` and `gallery` are splits of their own with the same classes; `test` is both, and its
    attribute `part` says which. Pictures that the release calls junk (person -1), neither right nor wrong in its protocol, are left out
    and counted; distractors (person 0000), which are wrong for every query, are one class, called 0000. A correct answer comes from another
    camera than its query: leave those of the same person and camera out.

    All of a picture, which is twice as high as wide, is squeezed into the square.

    Paper: Zheng, Shen, Tian, Wang, Wang, Tian 2015, Scalable Person Re-identification: A Benchmark, ICCV

    Args:
        root: folder that holds bounding_box_train, query and bounding_box_test.
        split: train, val, query, gallery, or test for the last two; train, val and test share no person.
        size: side of the square in pixels.
        val_share: share of the training people that are for validation instead, drawn once for all; give train and val the same.
        distractors: keep those of the gallery, or leave them out.
        in_memory_mib: decode once into memory when the set needs no more than this; otherwise decode on demand.
    """
    place = found_place(root, ("", "Market-1501-v15.09.15"), _FOLDERS["train"], "Market-1501")
    learned = split in ("train", "val")
    parts = ("train",) if learned else _PARTS
    rows = [(part, *row) for part in parts for row in _pictures(place / _FOLDERS[part])]
    junk = sum(person == _JUNK for _, _, person, *_ in rows)
    out = {_JUNK, *([DISTRACTOR] if distractors == "leave_out" else [])}
    rows = [row for row in rows if row[2] not in out]
    labels, names = numbered([person for _, _, person, *_ in rows])
    sequence, sequences = numbered([number for *_, number in rows])
    values = {"camera": np.array([camera - 1 for *_, camera, _ in rows], dtype=np.int64), "sequence": sequence}
    value_names = {"camera": [str(camera) for camera in range(1, 7)], "sequence": sequences}
    if not learned:
        values["part"], value_names["part"] = np.array([_PARTS.index(part) for part, *_ in rows], dtype=np.int64), list(_PARTS)
    notes = [f"{junk} pictures that the release calls junk (person -1) are left out"] if junk else []
    photos = Photos(place, [path for _, path, *_ in rows], labels, names, values, value_names, notes)
    if learned:
        photos = photos.of_classes(part_of_classes(len(names), split, val_share, "market_1501", first=len(names)))
    elif split in _PARTS:
        photos = photos.at(np.flatnonzero(values["part"] == _PARTS.index(split)))
    return photo_source(f"market_1501/{split}", photos, size, in_memory_mib, whole=True)


def _pictures(folder: Path) -> list[tuple[Path, str, int, int]]:
    """File, person, camera and sequence of every picture in a folder. Raises DataError for a name of another form."""
    class_folders(folder)  # says what is wrong with the folder itself
    found = []
    for path in sorted(folder.glob("*.jpg")):
        named = _NAME.fullmatch(path.name)
        if named is None:
            raise DataError(f"{path}: expected a name such as 0002_c1s1_000451_03.jpg, with person and camera: unpack the folder again")
        found.append((path, named[1], int(named[2]), int(named[3])))
    if not found:
        raise DataError(f"no picture (*.jpg) in {folder}: unpack Market-1501 again, every folder has some")
    return found
