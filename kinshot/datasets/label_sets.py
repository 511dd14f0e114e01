"""Images of which each has several labels, as a list in JSON says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from kinshot.core.errors import ConfigError, DataError, suggest
from kinshot.core.small_files import read_json
from kinshot.datasets import SOURCES
from kinshot.datasets.base import Source
from kinshot.datasets.listed_photos import Photos, inside, photo_source
from kinshot.datasets.survey import named, survey
from kinshot.datasets.table_files import read_columns

_KNOWN = ("labels", "photo_id", "files")
_REMEDY = 'write {"files": [...], "labels": [[...], ...], "train": [rows], "test": [rows]}'


@SOURCES.register("label_sets")
def label_sets(*, root: str, sets: str = "", split: str = "", size: int = 128, in_memory_mib: int = 1024) -> Source:
    """Images with several labels each: root/images and a list of the labels of each image, divided into parts by rows.

    The list is JSON: `labels`, for each image a list of names or numbers, which may be empty; `files`, the path of each image without its
    ending, below root/images; where the images lie, `photo_id`, the photograph that each is of; and any number of parts, lists of rows
    counted from 0, such as `train` and `test`. Without `files` the rows are those of photos.csv in root, column stem. Where classes.json
    names numbers, as for source `mask_folder`, labels have these names.

    There is no class: the attribute `labels` says of each label whether an image has it, the same labels in the same order in every part,
    for kin `shared_labels` and graph `multilabels`; the attribute `photo` of which photograph it is, whose images are to be left out of an
    answer.

    Args:
        root: folder that holds images.
        sets: the list, FILE.json; empty for labels.json in root.
        split: a part of the list; empty for all images.
        size: side in pixels; the central square of each image is kept.
        in_memory_mib: decode once into memory when the set needs no more than this; otherwise decode on demand.

    Raises:
        ConfigError: a part that the list does not have.
        DataError: a list of another form, or an image that is not there.
    """
    place = Path(root).expanduser()
    listing = Path(sets).expanduser() if sets else place / "labels.json"
    if not (place / "images").is_dir():
        raise DataError(f"no folder images in {place}: set root to the folder that holds it")
    given = read_json(listing, remedy=_REMEDY)
    if not isinstance(given, dict) or not _lists(given.get("labels")):
        raise DataError(f"{listing} has no labels of images: {_REMEDY}")
    paths, count = _files(place, given, listing), len(given["labels"])
    names, held = _held(given["labels"], _names(place / "classes.json"))
    photo = given.get("photo_id", list(range(count)))
    if len(paths) != count or not isinstance(photo, list) or len(photo) != count:
        raise DataError(f"{listing} has {count} lists of labels for {len(paths)} images and what they are of: give one of each to an image")
    rows = _rows(given, split, count, listing)
    number = {one: k for k, one in enumerate(dict.fromkeys(map(str, photo)))}
    photographs = np.array([number[str(one)] for one in photo], dtype=np.int64)
    photos = Photos(place / "images", paths, None, (), {"labels": held, "photo": photographs}, {"labels": names})
    return photo_source(f"label_sets/{split}" if split else "label_sets", photos.at(rows), size, in_memory_mib)


def _lists(values: Any) -> bool:
    """Whether these are lists of names and numbers, one list at least."""
    if not isinstance(values, list) or not values or not all(isinstance(of_image, list) for of_image in values):
        return False
    return all(type(one) in (int, str) for of_image in values for one in of_image)


def _files(place: Path, given: dict[str, Any], listing: Path) -> list[Path]:
    """The image of each row. Raises DataError for one that is not there."""
    stems = given.get("files")
    if stems is None:
        stems = list(read_columns(place / "photos.csv").get("stem", ()))
    if not isinstance(stems, list) or not all(isinstance(stem, str) for stem in stems):
        raise DataError(f"{listing} names no files, and {place / 'photos.csv'} no column stem: add either")
    there = {path.relative_to(place / "images").with_suffix("").as_posix(): path for path in survey(place / "images").images}
    if gone := [stem for stem in stems if stem not in there]:
        raise DataError(f"{place / 'images'} has no image {named(gone)}, which {listing} is about: add it")
    return [inside(place / "images", there[stem].relative_to(place / "images").as_posix(), listing) for stem in stems]


def _names(path: Path) -> dict[str, str]:
    """Names of numbers, as far as there is a list of them."""
    if not path.exists():
        return {}
    given = read_json(path, remedy='write {"1": "cat", "2": {"name": "dog"}}, or remove it')
    entries = given.items() if isinstance(given, dict) else ()
    return {number: str(entry.get("name", number)) if isinstance(entry, dict) else str(entry) for number, entry in entries}


def _held(labels: list[list[Any]], names: dict[str, str]) -> tuple[list[str], np.ndarray]:
    """The labels that any image has, numbers by value and names by their letters, and which images have them, bool (N, L)."""
    different = sorted({one for of_image in labels for one in of_image}, key=lambda one: (isinstance(one, str), one))
    column = {one: number for number, one in enumerate(different)}
    held = np.zeros((len(labels), len(different)), dtype=bool)
    for row, of_image in enumerate(labels):
        held[row, [column[one] for one in of_image]] = True
    return [names.get(str(one), str(one)) for one in different], held


def _rows(given: dict[str, Any], split: str, count: int, listing: Path) -> np.ndarray:
    """The rows of a part. Raises ConfigError for one that there is not, or DataError for one that is no list of rows."""
    if not split:
        return np.arange(count)
    parts = {key: rows for key, rows in given.items() if key not in _KNOWN and isinstance(rows, list)}
    if split not in parts:
        raise ConfigError(f"label_sets: {listing} has no part {split!r}: {suggest(split, parts)}")
    rows = parts[split]
    if not rows or not all(type(row) is int and 0 <= row < count for row in rows) or len(set(rows)) < len(rows):
        raise DataError(f"{listing}: {split} is no list of different rows from 0 to {count - 1}: correct it")
    return np.array(rows, dtype=np.int64)
