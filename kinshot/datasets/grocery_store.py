"""Grocery Store Dataset in its official layout: photographs of fruit, vegetables and cartons with fine, coarse and super classes."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib import resources
from pathlib import Path
from typing import Literal

import numpy as np

from kinshot.core.errors import ConfigError, DataError
from kinshot.datasets import SOURCES
from kinshot.datasets.base import ArraySource
from kinshot.datasets.cache import cached_images
from kinshot.datasets.files import content_listing
from kinshot.datasets.images import decode_all, load_image
from kinshot.datasets.survey import list_images

# Raise when decoding changes a pixel.
_VERSION = 1
_FOLDERS = ("train", "val", "test")
_COLUMNS = {
    "official": ("Class Name (str)", "Coarse Class Name (str)", "Iconic Image Path (str)"),
    "short": ("fine", "coarse", "super"),
}


@dataclass(frozen=True)
class Grocery:
    """One fine class and what it belongs to."""

    fine: str
    coarse: str
    super: str


@SOURCES.register("grocery_store")
def grocery_store(
    *,
    root: str,
    split: Literal["train", "val", "test", "all"] = "train",
    label: Literal["fine", "coarse"] = "fine",
    size: int = 48,
    part: Literal["all", "train", "val", "test"] = "all",
) -> ArraySource:
    """Grocery Store: 5,421 colour photographs of 81 fine classes in 43 coarse and 3 super classes, split by class for few-shot use.

    Reads classes.csv and the folders train, val and test below root or root/dataset; an image's class is the name of the folder
    it lies in, at any depth. The published folders share their classes: they are merged by class name, and `split` is a split of
    classes instead (50, 16 and 15 fine classes, each coarse class on one side). It was made for this package and is not published.
    The shorter side becomes `size` and the central square is kept; decoded images are cached.

    Paper: Klasson, Zhang, Kjellstrom 2019, A Hierarchical Grocery Store Image Dataset, arXiv:1901.00711

    Args:
        root: folder that holds classes.csv and train, val, test, or a folder dataset with them.
        split: train, val or test, parts with no class in common, or all.
        label: fine or coarse; both, and super, are attributes of the source, too.
        size: side in pixels.
        part: published folder whose images are taken, or all; train and test divide the images of every class, val lacks some classes.
    """
    if not 1 <= size <= 512:
        raise ConfigError(f"grocery_store: size must be in 1..512, got {size}")
    place = _place(Path(root).expanduser())
    table = read_classes(place / "classes.csv")
    classes = _chosen(table, split, place)
    paths, fine = _files(place, table, [entry.fine for entry in classes], _FOLDERS if part == "all" else (part,))
    digest = hashlib.sha256(content_listing(paths, place)).hexdigest()[:24]
    shape = (3, size, size)
    key = f"grocery-{size}-{_VERSION}-{digest}"
    decode = partial(load_image, size=size, channels=3)
    images = cached_images(key, (len(paths), *shape), lambda: decode_all(paths, decode, shape))
    levels = {level: _level([getattr(entry, level) for entry in classes], fine) for level in ("fine", "coarse", "super")}
    labels, names = levels[label]
    return ArraySource(
        images,
        labels,
        names,
        f"grocery_store/{split}",
        attributes={level: numbers for level, (numbers, _) in levels.items()},
        attribute_names={level: found for level, (_, found) in levels.items()},
    )


@cache
def class_lists() -> dict[str, list[str]]:
    """The split of fine classes made for this package: part to class names, in the order of official class ids."""
    text = resources.files("kinshot.datasets").joinpath("splits/grocery_store.json").read_text(encoding="utf-8")
    return {part: names for part, names in json.loads(text).items() if part in _FOLDERS}


def read_classes(path: Path) -> dict[str, Grocery]:
    """Fine class name to its classes, from the official classes.csv or one with the columns fine, coarse, super.

    Raises DataError naming the file.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, skipinitialspace=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read the class table {path}: {error}: copy it from the official release") from error
    header = set(rows[0]) if rows else set()
    form = next((form for form, columns in _COLUMNS.items() if header.issuperset(columns)), "")
    if not form:
        raise DataError(f"{path} has the columns {sorted(map(str, header))}: expected {_COLUMNS['official']} or {_COLUMNS['short']}")
    cells = [tuple(str(row[column] or "") for column in _COLUMNS[form]) for row in rows]
    if form == "official":  # the super class stands in the path of the class's icon: /iconic-images-and-descriptions/Fruit/...
        cells = [(fine, coarse, (icon.split("/") + [""] * 3)[2]) for fine, coarse, icon in cells]
    for line, row in enumerate(cells, start=2):
        if not all(row):
            raise DataError(f"{path}, line {line}: a class name is missing in {row}: copy the table from the official release")
    return {row[0]: Grocery(*row) for row in cells}


def _chosen(table: dict[str, Grocery], split: str, place: Path) -> list[Grocery]:
    lists = class_lists()
    parts = _FOLDERS if split == "all" else (split,)
    wanted = {name for part in parts for name in lists[part]}
    missing = sorted(wanted - set(table))
    if missing:
        raise DataError(f"{place / 'classes.csv'} has no class {', '.join(missing[:5])}: copy it from the official release")
    return [entry for name, entry in table.items() if name in wanted]


def _place(root: Path) -> Path:
    for place in (root, root / "dataset"):
        if (place / "classes.csv").is_file() and any((place / folder).is_dir() for folder in _FOLDERS):
            return place
    raise DataError(f"no Grocery Store data in {root}: looked for classes.csv and train, val, test there and in dataset; set root")


def _files(place: Path, table: dict[str, Grocery], names: Sequence[str], folders: Sequence[str]) -> tuple[list[Path], np.ndarray]:
    """The images of the named classes, class by class, and each one's place in `names`."""
    groups: dict[str, list[Path]] = {name: [] for name in table}
    for path in (path for folder in folders for path in _published(place, folder)):
        if path.parent.name not in groups:
            raise DataError(f"{path} lies in a folder that classes.csv does not name: move it to the folder of its class, or remove it")
        groups[path.parent.name].append(path)
    chosen = [groups[name] for name in names]
    empty = [name for name, paths in zip(names, chosen, strict=True) if not paths]
    if empty:
        raise DataError(f"no image of {', '.join(empty[:5])} below {place}: unpack the data set again, every class needs some")
    return [path for paths in chosen for path in paths], np.repeat(np.arange(len(names)), [len(paths) for paths in chosen])


def _published(place: Path, folder: str) -> list[Path]:
    """The images of one published part: those that its list names where there is a list, else all."""
    listing = place / f"{folder}.txt"
    if not listing.is_file():
        return list_images(place / folder)
    try:
        lines = [line for line in listing.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the list {listing}: {error}: copy it from the official release, or remove it") from error
    names = [line.split(",")[0].strip() for line in lines]
    for number, name in enumerate(names, start=1):
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise DataError(f"{listing}, image {number}: {name!r} leaves the folder {place}: copy the list from the official release")
    return [place / name for name in names]


def _level(names: Sequence[str], fine: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Numbers of the images' classes at one level, in the order in which names first occur, and those names."""
    found = list(dict.fromkeys(names))
    return np.array([found.index(name) for name in names], dtype=np.int64)[fine], found
