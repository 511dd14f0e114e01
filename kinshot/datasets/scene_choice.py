"""Which classes of a set of scenes episodes are made of, what becomes of the others, and which pictures are left."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from kinshot.core.errors import ConfigError, DataError
from kinshot.datasets.files import content_digests
from kinshot.datasets.frames import Frame
from kinshot.datasets.scene_files import FileScenes, Masks, Scan, scan
from kinshot.datasets.survey import named
from kinshot.samples.class_map import IGNORE

Novel = Literal["other", "ignore", "remove"]
"""What becomes of objects of other classes: they are marked as such, their pixels are ignored, or pictures with any are left out."""
Fit = Literal["squash", "letterbox"]


def interleaved(classes: int, folds: int, fold: int) -> list[int]:
    """The numbers, from 1, of a fold's classes where neighbours lie in different folds: fold + 1, fold + 1 + folds, ..."""
    return list(range(fold + 1, classes + 1, folds))


def contiguous(classes: int, folds: int, fold: int) -> list[int]:
    """The numbers, from 1, of a fold's classes where each fold is a block: the first classes / folds, ..."""
    size = classes // folds
    return list(range(fold * size + 1, (fold + 1) * size + 1))


def check_frame(name: str, size: int, min_area: int, in_memory_mib: int) -> None:
    """Raises ConfigError for settings of sources of scenes that no set fits."""
    if not 8 <= size <= 2048 or min_area < 1 or in_memory_mib < 0:
        wanted = "size must be in 8..2048, min_area at least 1 and in_memory_mib at least 0"
        raise ConfigError(f"{name}: {wanted}, got {size}, {min_area} and {in_memory_mib}")


def chosen_scenes(
    name: str, frame: Frame, pictures: Sequence[Path], masks: Masks, root: Path, own: Mapping[int, str], names: Mapping[int, str], *,
    needed: Sequence[int] | None = None, photos: np.ndarray | None = None, novel: Novel = "other", min_area: int = 1,
    in_memory_mib: int = 1024, notes: Sequence[str] = (), found: Scan | None = None,
) -> FileScenes:  # fmt: skip
    """The scenes that hold one of some classes.

    Args:
        name: used in messages.
        frame: the square that they are brought into.
        pictures: the file of each.
        masks: their class maps.
        root: folder that pictures are below.
        own: numbers of the classes that episodes are made of, with their names, in order.
        names: of all numbers that class maps may hold.
        needed: those of `own` that must be there; None for all. Others that are in no map are left out, with a note.
        photos: see `Scenes`.
        novel: what becomes of objects of classes that are not in `own`.
        min_area: see `FileScenes`.
        in_memory_mib: see `FileScenes`.
        notes: what to say beside.
        found: what a scan of them found, where there was one.

    Raises:
        DataError: maps without any object, numbers without a name, or classes that are in no map, or of which the square shows nothing.
    """
    found = scan(pictures, masks, root, frame) if found is None else found
    _check_numbers(name, found, masks, names)
    said, rows = [*notes, *_doubtful(found, masks, pictures, root)], np.arange(len(pictures))
    foreign = [value for value in found.values.tolist() if value not in (0, IGNORE) and value not in own]
    if novel == "remove":
        held = np.any([found.pixels(value) > 0 for value in foreign], axis=0) if foreign else np.zeros(len(rows), dtype=bool)
        rows = rows[~held]
        said += (
            [f"{int(held.sum())} of {len(held)} pictures hold other classes and are left out, as novel=remove asks"] if held.any() else []
        )
    shown, more = _shown(name, found, rows, masks, own, needed, min_area, frame.size, novel == "remove")
    said += more
    own = {value: own[value] for value in shown}
    shows = np.any([shown[value] for value in own], axis=0)
    said += [f"{int((~shows).sum())} of {len(shows)} pictures hold none of the classes and are left out"] if not shows.all() else []
    rows = rows[shows]
    ignored = foreign if novel == "ignore" else ()
    source = FileScenes(
        name, frame, [pictures[row] for row in rows.tolist()], masks.take(rows), root, found.take(rows), own, ignored, min_area,
        None if photos is None else photos[rows], in_memory_mib,
    )  # fmt: skip
    source.notes = [note for note in said if note]
    return source


def _shown(
    name: str, found: Scan, rows: np.ndarray, masks: Masks, own: Mapping[int, str], needed: Sequence[int] | None, min_area: int, size: int,
    removed: bool,
) -> tuple[dict[int, np.ndarray], list[str]]:  # fmt: skip
    """For each class that some picture counts for, which of the rows do, and what is said of other classes and pictures.

    Raises DataError for needed classes that are in no map, or of which the square shows nothing, and where no class is left.
    """
    shown = {value: found.shows(value, min_area)[rows] for value in own}
    lost = {value: rows[found.vanished(value, min_area)[rows]] for value in own}
    absent = [value for value, shows in shown.items() if not shows.any()]
    gone = [value for value in absent if len(lost[value])]
    missing = [value for value in absent if value not in gone]
    at_all = f"in no mask{f' with at least {min_area} pixels' if min_area > 1 else ''}{' of those left' if removed else ''}"
    if some := [own[value] for value in missing if needed is None or value in needed]:
        raise DataError(
            f"{name}: {len(some)} classes of the split are {at_all} ({named(some)}): add pictures of them, choose other classes"
            f"{', lower min_area' if min_area > 1 else ''}{', or set novel=other' if removed else ''}"
        )
    if refused := [value for value in gone if needed is None or value in needed]:
        raise DataError(
            f"{name}: a square of {size} pixels shows nothing of {len(refused)} classes of the split "
            f"({_places(lost, refused, own, masks)}): raise size, or choose other classes"
        )
    if len(absent) == len(own):
        raise DataError(
            f"{name}: no mask holds any of the classes: choose others"
            if not gone
            else f"{name}: a square of {size} pixels shows nothing of any class ({_places(lost, gone, own, masks)}): raise size"
        )
    said = [f"classes that are in no mask are left out: {named(own[value] for value in missing)}"] if missing else []
    if gone:
        said.append(f"classes of which a square of {size} pixels shows nothing are left out: {named(own[value] for value in gone)}")
    if count := sum(map(len, lost.values())):
        said.append(
            f"{count} times a picture does not count for a class, as a square of {size} pixels shows nothing of it "
            f"({_places(lost, own, own, masks)}): raise size if it is to count"
        )
    return {value: shows for value, shows in shown.items() if value not in absent}, said


def _places(lost: Mapping[int, np.ndarray], values: Iterable[int], own: Mapping[int, str], masks: Masks) -> str:
    """The first few objects that the square loses: their classes, and the masks that they are in."""
    return named(f"{own[value]} in {masks.where(row)}" for value in values for row in lost[value].tolist())


def _doubtful(found: Scan, masks: Masks, pictures: Sequence[Path], root: Path) -> list[str]:
    """What may be wrong with masks and cannot be known: some that ignore all but the background, and one mask for several pictures."""
    said = []
    objects = found.counts[:, ~np.isin(found.values, (0, IGNORE))].any(axis=1)
    silent = np.flatnonzero(~objects & (found.pixels(IGNORE) > 0))
    if len(silent):
        said.append(f"{len(silent)} masks hold 0 and {IGNORE} alone, which ignores all but the background ({masks.where(int(silent[0]))})")
    held = np.flatnonzero(objects)
    maps, shown = masks.digests(held), content_digests([pictures[row] for row in held.tolist()], root)
    order = np.argsort(maps, kind="stable")
    twice = np.flatnonzero((maps[order][1:] == maps[order][:-1]) & (shown[order][1:] != shown[order][:-1]))
    if len(twice):
        one, other = (masks.where(int(held[order[twice[0] + step]])) for step in (0, 1))
        said.append(f"{len(twice)} masks are copies of others, though their pictures differ ({one} and {other}): is one another picture's?")
    return said


def _check_numbers(name: str, found: Scan, masks: Masks, names: Mapping[int, str]) -> None:
    objects = [value for value in found.values.tolist() if value not in (0, IGNORE)]
    if not objects and IGNORE in found.values:
        first = masks.where(found.first(IGNORE))
        raise DataError(
            f"{name}: no mask holds an object: all hold 0 and {IGNORE} alone, {first} for one, and {IGNORE} says nothing of a pixel: "
            "if it is the foreground, set binary=true"
        )
    if not objects:
        raise DataError(f"{name}: none of {len(masks)} masks holds an object, all are 0: give masks whose pixels are numbers of classes")
    unknown = [value for value in objects if value not in names]
    if unknown:
        first = masks.where(found.first(unknown[0]))
        raise DataError(
            f"{name}: masks hold {named(map(str, unknown))}, which no class is called by ({first} holds {unknown[0]}): "
            "name these numbers in the list of classes, or correct the masks"
        )
