"""Sources of photographs that files of an official release list: what those of metric learning share."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kinshot.core.errors import ConfigError, DataError
from kinshot.core.rng import keyed_numpy
from kinshot.core.small_files import read_text
from kinshot.datasets.base import ArraySource, FileSource, Source
from kinshot.datasets.images import decode_all, load_image
from kinshot.datasets.survey import named, say_once

_LARGEST_LIST = 2**30


@dataclass(frozen=True)
class Photos:
    """Photographs by a list.

    Args:
        place: folder that their paths are relative to.
        paths: one file each.
        labels: int64 (N,); None without classes.
        class_names: what labels index.
        attributes: further labels, int64 (N,) each.
        attribute_names: of their values.
        notes: what a person should know of them.
    """

    place: Path
    paths: Sequence[Path]
    labels: np.ndarray | None
    class_names: Sequence[str]
    attributes: Mapping[str, np.ndarray] = field(default_factory=dict)
    attribute_names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def of_classes(self, chosen: Sequence[int]) -> Photos:
        """Those of some classes, relabelled in the order given. Raises DataError where there are no classes."""
        if self.labels is None:
            raise DataError(f"the photographs in {self.place} have no classes: choose data with labels")
        number = np.full(len(self.class_names), -1, dtype=np.int64)
        number[list(chosen)] = np.arange(len(chosen))
        labels = number[self.labels]
        rows = np.flatnonzero(labels >= 0)
        return replace(self.at(rows), labels=labels[rows], class_names=[self.class_names[c] for c in chosen])

    def at(self, rows: np.ndarray) -> Photos:
        """Those of some rows, of the same classes."""
        paths, attributes = [self.paths[row] for row in rows], {key: values[rows] for key, values in self.attributes.items()}
        return replace(self, paths=paths, labels=None if self.labels is None else self.labels[rows], attributes=attributes)


def part_of_classes(count: int, split: str, val_share: float, name: str, *, first: int | None = None) -> list[int]:
    """The classes of a split by the field's convention: the first half is train and the second is test; ascending.

    Args:
        count: classes, in their official order.
        split: train, val, test or all.
        val_share: of train's classes, drawn by a keyed permutation that never changes, for val; at least one where it is above 0.
        name: of the source, for messages.
        first: classes of train; None for half of them.

    Raises:
        ConfigError: a share out of range, val without a share, or no class left.
    """
    if not 0 <= val_share < 1:
        raise ConfigError(f"{name}: val_share must be from 0 to below 1, got {val_share:g}")
    half = count // 2 if first is None else first
    if split == "test":
        return list(range(half, count))
    if split == "all":
        return list(range(count))
    held = sorted(keyed_numpy(0, f"{name}/val").permutation(half)[: max(1, round(val_share * half)) if val_share else 0].tolist())
    if split == "val":
        if not held:
            raise ConfigError(f"{name}: no class is for validation: set val_share above 0, the same for train, or choose another split")
        return held
    rest = sorted(set(range(half)) - set(held))
    if not rest:
        raise ConfigError(f"{name}: val_share={val_share:g} leaves none of {half} classes to train on: lower it")
    return rest


def photo_source(name: str, photos: Photos, size: int, in_memory_mib: int, *, whole: bool = False, **more: Any) -> Source:
    """Photographs as a source of colour images, decoded once where they fit into memory, else on demand.

    Args:
        name: of the source.
        photos: which.
        size: side of the square images.
        in_memory_mib: decode once when the set needs no more than this.
        whole: squeeze all of a photograph into the square, in place of cutting out its central square.
        more: what every source can say of its samples.

    Raises:
        ConfigError: a number out of range.
        DataError: no photograph, or one that is not there or cannot be read.
    """
    if not 1 <= size <= 1024 or in_memory_mib < 0:
        raise ConfigError(f"{name}: size must be in 1..1024 and in_memory_mib at least 0, got {size} and {in_memory_mib}")
    if not photos.paths:
        raise DataError(f"{name}: {photos.place} has no photograph of this split: unpack the data set again, or set root")
    paths, decode, shape = list(photos.paths), partial(load_image, size=size, channels=3, whole=whole), (3, size, size)
    said = {"attributes": photos.attributes, "attribute_names": photos.attribute_names, **more}
    source: Source
    if len(paths) * 3 * size * size <= in_memory_mib * 2**20:
        pixels = decode_all(paths, decode, shape)
        source = ArraySource(pixels, photos.labels, photos.class_names, name, files=paths, **said)
    else:
        if gone := [path for path in paths if not path.is_file()]:
            raise DataError(f"{name}: {len(gone)} of {len(paths)} photographs are not there, the first is {gone[0]}: unpack them again")
        source = FileSource(paths, photos.place, decode, shape, photos.labels, photos.class_names, name, **said)
    source.notes = list(photos.notes)
    for note in source.notes:
        say_once(f"{name}: {note}")
    return source


def listed_rows(path: Path, columns: int, *, header: int = 0) -> Iterator[list[str]]:
    """The words of each line of a list, of which there are so many, behind `header` lines. Raises DataError naming file and line."""
    lines = read_text(path, most=_LARGEST_LIST, remedy="copy it from the official release").splitlines()
    for number, line in enumerate(lines[header:], start=header + 1):
        words = line.split()
        if words and len(words) != columns:
            raise DataError(f"{path}, line {number}: expected {columns} words, got {line[:80]!r}: copy it from the official release")
        if words:
            yield words


def inside(place: Path, name: str, listing: Path) -> Path:
    """A listed file in its folder. Raises DataError where it lies elsewhere."""
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise DataError(f"{listing}: {name!r} leaves the folder {place}: copy the list from the official release")
    return place / name


def found_place(root: str, folders: Sequence[str], wanted: str, name: str) -> Path:
    """The first of some folders below root that holds a file or folder. Raises DataError with what was looked for."""
    top = Path(root).expanduser()
    for folder in folders:
        if (top / folder / wanted).exists():
            return top / folder
    there = named(sorted(path.name for path in top.iterdir())) if top.is_dir() else ""
    places = ", ".join(folder or "itself" for folder in folders)
    raise DataError(f"no {name} in {top}{f', which has {there}' if there else ''}: looked for {wanted} in it ({places}); set root")


def numbered(values: Sequence[Hashable]) -> tuple[np.ndarray, list[str]]:
    """Each value's number among the different ones, int64 (N,), sorted, and these as text."""
    different = sorted(set(values))  # type: ignore[type-var]
    number = {value: row for row, value in enumerate(different)}
    return np.array([number[value] for value in values], dtype=np.int64), [str(value) for value in different]
