"""FSS-1000: a thousand classes of ten pictures, each with one object."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from kinshot.core.errors import ConfigError, DataError
from kinshot.core.rng import keyed_numpy
from kinshot.core.small_files import read_text
from kinshot.datasets import SOURCES
from kinshot.datasets.frames import Frame
from kinshot.datasets.mask_files import MaskFiles
from kinshot.datasets.scene_choice import check_frame, chosen_scenes
from kinshot.datasets.scene_files import FileScenes
from kinshot.datasets.survey import class_folders, named

_PARTS = ("train", "val", "test")
# Classes before each of the published parts, of all.
_BOUNDS, _ALL = (0, 520, 760, 1000), 1000
_MOST_CLASSES = 250
_PICTURES = (".jpg", ".jpeg")
_THRESHOLD = 128


@SOURCES.register("fss_1000", masks=True)
def fss_1000(
    *,
    root: str,
    split: Literal["train", "val", "test"] = "train",
    size: int = 224,
    fit: Literal["squash", "letterbox"] = "squash",
    classes: int = 250,
    in_memory_mib: int = 1024,
) -> FileScenes:
    """FSS-1000 in its layout, fewshot_data/CLASS/N.jpg with its mask N.png: 520, 240 and 240 classes for train, val and test.

    Which classes are which say train.txt, val.txt and test.txt in root or beside the classes, a name to a line; where there are none, the
    sorted names are divided by a keyed permutation in the proportions 520 : 240 : 240, which is nobody's published split. Masks are
    black and white pictures with shades between: from a brightness of 128 on a pixel is the class's.

    Not all of train's 520 classes are in one source: a class is a value of class maps of 8 bits, of which 255 says nothing wherever a map
    goes (files, views, losses, truth), and a second value for it, or a gap among the classes, would have to be known at each of these.
    `classes` takes some evenly; to choose them, as to train on the others in a second run that starts from the first (`--init`), write
    their names into train.txt, which may list fewer.

    Licence: none is stated for the pictures, which are from the web. Get your own copy; nothing of it is shipped here.

    Paper: Li, Wei, Chen, Tai, Tang 2020, FSS-1000: A 1000-Class Dataset for Few-Shot Segmentation, arXiv:1907.12347

    Args:
        root: folder of the class folders, or one that holds fewshot_data.
        split: train, val or test, which share no class.
        size: side of the square that images are brought into.
        fit: squash fills it, letterbox keeps proportions and ignores the rest.
        classes: at most so many of the split's, up to 250, taken evenly from their sorted names.
        in_memory_mib: decode once into memory when the set needs no more than this; otherwise decode on demand.
    """
    check_frame("fss_1000", size, 1, in_memory_mib)
    if not 1 <= classes <= _MOST_CLASSES:
        raise ConfigError(
            f"fss_1000: classes must be in 1..{_MOST_CLASSES}, as class maps of 8 bits hold no more, got {classes}: name those that are "
            "meant in train.txt to choose others"
        )
    top = Path(root).expanduser()
    place = _place(top)
    every, whose = _split(top, place, split)
    kept = min(classes, len(every))
    chosen = [every[row * len(every) // kept] for row in range(kept)]
    pictures, masks, values = _files(place, chosen)
    names = dict(enumerate(chosen, start=1))
    notes = [whose] + ([f"{kept} of the {len(every)} classes of {split} are taken, as classes={classes} asks"] if kept < len(every) else [])
    maps = MaskFiles(masks, place, values=values, threshold=_THRESHOLD)
    return chosen_scenes(
        f"fss_1000/{split}", Frame(size, fit), pictures, maps, place, names, names, in_memory_mib=in_memory_mib, notes=notes
    )  # fmt: skip


def _place(root: Path) -> Path:
    for place in (root / "fewshot_data" / "fewshot_data", root / "fewshot_data", root):
        if place.is_dir() and any(_pictures(folder) for folder in class_folders(place)):
            return place
    raise DataError(f"no FSS-1000 in {root}: looked for folders of classes with 1.jpg and 1.png there and in fewshot_data; set root")


def _pictures(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in _PICTURES and not path.name.startswith("."))


def _split(top: Path, place: Path, split: str) -> tuple[list[str], str]:
    """The sorted classes of a split, and what to say of how they were found."""
    there = [folder.name for folder in class_folders(place)]
    for folder in (top, place):
        lists = {part: folder / f"{part}.txt" for part in _PARTS}
        found = [part for part, path in lists.items() if path.is_file()]
        if found and len(found) < len(_PARTS):
            raise DataError(f"{folder} has a list of classes for {named(found)} alone: add {named(p for p in lists if p not in found)}.txt")
        if found:
            return _listed(lists, split, there, place), f"classes of {split} as {lists[split]} lists them"
    order = keyed_numpy(0, "fss_1000/split").permutation(len(there))
    bounds = [len(there) * share // _ALL for share in _BOUNDS]
    part = _PARTS.index(split)
    rows = sorted(order[bounds[part] : bounds[part + 1]].tolist())
    if not rows:
        raise DataError(f"{place} has {len(there)} classes, too few to divide: {split} would have none; unpack all of them")
    return [there[row] for row in rows], f"no lists of classes in {top}: {len(there)} classes are divided by a keyed permutation"


def _listed(lists: dict[str, Path], split: str, there: list[str], place: Path) -> list[str]:
    parts = {part: {line.strip() for line in read_text(path).split("\n") if line.strip()} for part, path in lists.items()}
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        if both := sorted(parts[one] & parts[other]):
            raise DataError(f"{lists[one]} and {lists[other]} both list {named(both)}: a class belongs to one split")
    if missing := sorted(parts[split] - set(there)):
        raise DataError(f"{lists[split]} lists {named(missing)}, which {place} has no folder of: unpack all classes, or correct the list")
    if not parts[split]:
        raise DataError(f"{lists[split]} lists no class: give one name to a line")
    return sorted(parts[split])


def _files(place: Path, chosen: list[str]) -> tuple[list[Path], list[Path], list[int]]:
    """Pictures, their masks and the number of their class. Raises DataError for a class without any, or a picture without a mask."""
    pictures: list[Path] = []
    values: list[int] = []
    for value, name in enumerate(chosen, start=1):
        found = _pictures(place / name)
        if not found:
            raise DataError(f"no picture in {place / name}: unpack the class again, or take it out of the lists")
        pictures += found
        values += [value] * len(found)
    masks = [path.with_suffix(".png") for path in pictures]
    if missing := [path for path in masks if not path.is_file()]:
        more = f", and {len(missing) - 1} others" if len(missing) > 1 else ""
        raise DataError(f"there is no mask {missing[0]}{more}: unpack the class again, or remove its picture")
    return pictures, masks, values
