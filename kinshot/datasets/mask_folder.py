"""Your own scenes: a folder of images and a folder of masks with the same names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kinshot.core.errors import ConfigError, DataError, suggest
from kinshot.core.small_files import read_json
from kinshot.datasets import SOURCES
from kinshot.datasets.class_lists import class_part, names_a_list
from kinshot.datasets.frames import Frame
from kinshot.datasets.mask_files import Colours, MaskFiles
from kinshot.datasets.scene_choice import check_frame, chosen_scenes
from kinshot.datasets.scene_files import FileScenes, scan
from kinshot.datasets.survey import named, survey
from kinshot.datasets.table_files import read_columns
from kinshot.samples.class_map import IGNORE

_TABLE, _PHOTOS = "classes.json", "photos.csv"


@dataclass(frozen=True)
class Named:
    """A class of a folder: its name, and its fold, -1 for none."""

    name: str
    fold: int = -1


@SOURCES.register("mask_folder", masks=True)
def mask_folder(
    *,
    root: str,
    split: str = "",
    fold: int = 0,
    size: int = 128,
    fit: Literal["squash", "letterbox"] = "squash",
    novel: Literal["other", "ignore", "remove"] = "other",
    foldless: Literal["other", "base"] = "other",
    min_area: int = 1,
    kind: str = "",
    binary: bool = False,
    unpaired: Literal["refuse", "leave_out"] = "refuse",
    in_memory_mib: int = 1024,
) -> FileScenes:
    """Your own scenes: root/images and root/masks with the same names, masks as PNG whose numbers are classes.

    A mask's number is that of a grey PNG, or the index of one with a palette, never its colour: 0 is background, 255 says nothing of a
    pixel. classes.json in root names the numbers, {"1": "cat"} or {"1": {"name": "cat", "fold": 0, "colour": [255, 0, 0]}}, where a
    colour is for masks that are coloured pictures; without it classes are called by their numbers. photos.csv, with the columns stem and
    photo_id, tells which samples are of one photograph, which then are never support and query of one episode; without it each is its own.
    Pictures that hold none of the split's classes are left out.

    Args:
        root: folder with images, masks and, as far as there are, classes.json and photos.csv.
        split: empty or all for all classes; train, those of the other folds; test, those of the fold; a list of names or numbers, as
            cat,dog or 3,7; or FILE.json:PART, a list of names.
        fold: the fold whose classes are held out.
        size: side of the square that images are brought into.
        fit: squash fills it, letterbox keeps proportions and ignores the rest.
        novel: objects of classes outside of the split are marked as other classes, ignored, or pictures with any are removed.
        foldless: what classes of no fold are in a split by folds: other classes always, as they often have too few pictures, or base
            classes, which train has and test has not.
        min_area: pixels of a class, at the picture's own size, from which on it counts as a picture of the class.
        kind: take only samples whose column kind in photos.csv says this; empty for all.
        binary: masks are 0 and 1, or 0 and 255, which is taken for the foreground instead of being ignored.
        unpaired: refuse a picture without a mask and a mask without a picture, or leave them out.
        in_memory_mib: decode once into memory when the set needs no more than this; otherwise decode on demand.
    """
    check_frame("mask_folder", size, min_area, in_memory_mib)
    place = Path(root).expanduser()
    table, colours = _table(place / _TABLE)
    pairs, notes = _pairs(place, unpaired == "leave_out")
    pairs, photos = _photographs(place / _PHOTOS, pairs, kind)
    pictures, masks = [picture for picture, _ in pairs.values()], MaskFiles([mask for _, mask in pairs.values()], place, binary, colours)
    frame = Frame(size, fit)
    found = scan(pictures, masks, place, frame)
    if table is None:
        table = {1: Named("foreground")} if binary else _by_number(found.values)
    split = split or "all"
    own, needed = _own(table, split, fold, foldless == "base", place)
    names = {value: of.name for value, of in table.items()}
    return chosen_scenes(
        f"mask_folder/{split}" + (f"/{fold}" if split in ("train", "test") else ""), frame, pictures, masks, place,
        {value: names[value] for value in own}, names, needed=needed, photos=photos, novel=novel, min_area=min_area,
        in_memory_mib=in_memory_mib, notes=notes, found=found,
    )  # fmt: skip


def _by_number(values: np.ndarray) -> dict[int, Named]:
    return {value: Named(str(value)) for value in values.tolist() if value not in (0, IGNORE)}


def _table(path: Path) -> tuple[dict[int, Named] | None, Colours | None]:
    """Names and folds by number, without those of background and 255, and numbers by colour; None where there is no such list."""
    if not path.exists():
        return None, None
    given = read_json(path, remedy='write {"1": "cat", "2": {"name": "dog", "fold": 0}}, or remove it')
    if not isinstance(given, dict) or not given:
        raise DataError(f'{path} is no list of classes: write {{"1": "cat", "2": {{"name": "dog", "fold": 0}}}}, or remove it')
    table: dict[int, Named] = {}
    colours: dict[tuple[int, int, int], int] = {}
    for key, value in given.items():
        number, entry = _number(key, path), {"name": value} if isinstance(value, str) else value
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str) or type(entry.get("fold", -1)) is not int:
            raise DataError(f'{path}: class {key} is {value!r}: give its name, or {{"name": "cat", "fold": 0}}')
        if "colour" in entry:
            colours[_colour(entry["colour"], key, path)] = number
        if number not in (0, IGNORE):
            table[number] = Named(entry["name"], entry.get("fold", -1))
    called = [entry.name for entry in table.values()]
    if twice := sorted({name for name in called if called.count(name) > 1}):
        raise DataError(f"{path}: several numbers are called {twice[0]!r}: give every class a name of its own")
    if colours:
        colours.setdefault((0, 0, 0), 0)
    return dict(sorted(table.items())), colours or None


def _number(key: str, path: Path) -> int:
    if not key.isascii() or not key.isdigit() or int(key) > IGNORE:
        raise DataError(f"{path}: {key!r} is no number of a class: give 1 to {IGNORE - 1}, as masks hold them")
    return int(key)


def _colour(given: Any, key: str, path: Path) -> tuple[int, int, int]:
    if not isinstance(given, list) or len(given) != 3 or not all(type(part) is int and 0 <= part <= 255 for part in given):
        raise DataError(f"{path}: the colour of class {key} is {given!r}: give [red, green, blue], each 0 to 255")
    return given[0], given[1], given[2]


def _pairs(place: Path, leave_out: bool) -> tuple[dict[str, tuple[Path, Path]], list[str]]:
    """Picture and mask by their common name, sorted, and what is said of those that have no counterpart. Raises DataError."""
    if not place.is_dir() or not all((place / part).is_dir() for part in ("images", "masks")):
        raise DataError(f"no folders images and masks in {place}: set root to the folder that holds both")
    pictures, masks = _by_stem(place / "images"), _by_stem(place / "masks")
    without = {"image has no mask": sorted(set(pictures) - set(masks)), "mask has no image": sorted(set(masks) - set(pictures))}
    notes = []
    for what, stems in without.items():
        if not stems:
            continue
        there = (pictures if what.startswith("image") else masks)[stems[0]]
        if not leave_out:
            more = f", and {len(stems) - 1} others" if len(stems) > 1 else ""
            raise DataError(f"{there}: this {what}{more}: add what is missing under the same name, or set unpaired=leave_out")
        notes.append(f"left out, as each {what}: {named(stems)}")
    pairs = {stem: (pictures[stem], masks[stem]) for stem in sorted(set(pictures) & set(masks))}
    if not pairs:
        raise DataError(f"no picture in {place / 'images'} has a mask of the same name in {place / 'masks'}: name them alike, or set root")
    return pairs, notes


def _by_stem(folder: Path) -> dict[str, Path]:
    """Image files below a folder by their path without ending. Raises DataError where two share one."""
    found: dict[str, Path] = {}
    for path in survey(folder).images:
        stem = path.relative_to(folder).with_suffix("").as_posix()
        if stem in found:
            raise DataError(f"{found[stem]} and {path} have one name: rename or remove one of them")
        found[stem] = path
    return found


def _photographs(path: Path, pairs: Mapping[str, tuple[Path, Path]], kind: str) -> tuple[dict[str, tuple[Path, Path]], np.ndarray | None]:
    """The samples of a kind, and the photograph of each, as far as a table says any. Raises DataError, or ConfigError for the kind."""
    if not path.exists():
        if kind:
            raise ConfigError(f"mask_folder: kind={kind} asks for a column kind in {path}, which is not there: add it, or leave kind empty")
        return dict(pairs), None
    columns = read_columns(path)
    wanted = ["stem", "photo_id", *(["kind"] if kind else [])]
    if missing := [name for name in wanted if name not in columns]:
        raise DataError(f"{path} has no column {missing[0]}, but {', '.join(columns)}: add it, or remove the file")
    row = {stem: number for number, stem in enumerate(columns["stem"])}
    if unlisted := [stem for stem in pairs if stem not in row]:
        raise DataError(f"{path} has no row for {named(unlisted)}: add a row for every image, or remove the file")
    kept = {stem: pair for stem, pair in pairs.items() if not kind or columns["kind"][row[stem]] == kind}
    if not kept:
        raise ConfigError(f"mask_folder: no sample in {path} is of the kind {kind!r}: {suggest(kind, set(columns['kind']))}")
    return kept, np.unique([columns["photo_id"][row[stem]] for stem in kept], return_inverse=True)[1]


def _own(table: Mapping[int, Named], split: str, fold: int, base: bool, place: Path) -> tuple[list[int], list[int] | None]:
    """Numbers of the split's classes, and which of them must be there (None for all of them)."""
    if split == "all":
        return list(table), []
    if split in ("train", "test"):
        folds = sorted({entry.fold for entry in table.values() if entry.fold >= 0})
        if fold not in folds:
            there = f"{place / _TABLE} has the folds {', '.join(map(str, folds))}" if folds else f"no class in {place / _TABLE} has a fold"
            raise ConfigError(
                f"mask_folder: fold {fold} has no class: {there}: choose another fold, or set split to all or a list of classes"
            )
        kept = [
            value for value, of in table.items() if (of.fold == fold if split == "test" else of.fold != fold and (base or of.fold >= 0))
        ]
        return kept, [value for value in kept if table[value].fold >= 0]
    by_name = {entry.name: value for value, entry in table.items()}
    known = {**{str(value): value for value in table}, **by_name}
    wanted = class_part(split).classes if names_a_list(split) else [name.strip() for name in split.split(",") if name.strip()]
    for name in wanted:
        if name not in known:
            raise ConfigError(f"mask_folder: split names {name!r}, which is neither all, train, test nor a class: {suggest(name, known)}")
    return sorted({known[name] for name in wanted}), None
