"""A folder of images: one subfolder per class, or images without labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from kinshot.core.errors import ConfigError, DataError
from kinshot.datasets import SOURCES
from kinshot.datasets.base import ArraySource, FileSource, Source
from kinshot.datasets.cache import read_arrays, write_arrays
from kinshot.datasets.class_lists import ClassPart, chosen_classes, class_part, names_a_list
from kinshot.datasets.depth import check_depth
from kinshot.datasets.files import content_listing, digest
from kinshot.datasets.images import decode_readable, failures, load_image, told
from kinshot.datasets.survey import Found, beside, class_folders, left_out, named, say_once, shown, survey

_SPLITS = frozenset({"train", "training", "val", "valid", "validation", "dev", "test", "testing", "eval"})


@SOURCES.register("folder")
def folder(
    *,
    root: str,
    split: str = "",
    size: int = 64,
    channels: Literal[1, 3] = 3,
    labels: Literal["folders", "none"] = "folders",
    bits: int = 0,
    unreadable: Literal["refuse", "leave_out"] = "refuse",
    in_memory_mib: int = 1024,
    unlisted: Literal["refuse", "leave_out"] = "refuse",
) -> Source:
    """Your own images: root/split/class/any image file, or any images without labels.

    Classes are the subfolders, in sorted order; images may lie deeper inside a class. Each image is resized so that its
    shorter side is `size` and the central square is kept. Hidden files are left out, and so are files that are no images,
    pictures beside class folders and folders that unpacking leaves, such as __MACOSX; those are counted in a message.

    Args:
        root: folder that holds the images.
        split: subfolder of root, for example train; or a part of a list of class folders in root, mini_imagenet:test for example, of
            mini_imagenet, tiered_imagenet, cifar_fs, fc100, cub_torchmeta, cub_easyfsl or your own FILE.json; empty for all of root.
        size: side of the square images in pixels.
        channels: 3 for colour, 1 for grey.
        labels: folders takes each subfolder as a class; none takes every image below, without labels.
        bits: bits that grey pictures use of 16, from 8 to 16; 0 is 16, and refuses sets that never use the upper ones.
        unreadable: refuse stops at images that cannot be read; leave_out tries every image first and does without those.
        in_memory_mib: decode once into memory when the set needs no more than this; otherwise decode on demand.
        unlisted: what becomes of class folders that are in no part of a list of classes: refuse them, or leave them out.
    """
    if size < 1 or in_memory_mib < 0:
        raise ConfigError(f"folder: size must be at least 1 and in_memory_mib at least 0, got {size} and {in_memory_mib}")
    if bits and not 8 <= bits <= 16:
        raise ConfigError(f"folder: bits must be from 8 to 16, or 0 for 16, got {bits}")
    place, part = _place(Path(root).expanduser(), split)
    groups, notes = _labelled(place, part, unlisted == "leave_out") if part or labels == "folders" else _unlabelled(place)
    paths = [path for images in groups.values() for path in images]
    notes.append(check_depth(paths, bits))
    numbers = np.repeat(np.arange(len(groups)), [len(images) for images in groups.values()])
    shape = (int(channels), size, size)
    decode = partial(load_image, size=size, channels=int(channels), bits=bits)
    in_memory = len(paths) * shape[0] * size * size <= in_memory_mib * 2**20
    pixels, failed = decode_readable(paths, decode, shape) if in_memory else (None, {})
    if not in_memory and unreadable == "leave_out":
        failed = _failed_before(paths, place, decode)
    if failed:
        kept, note = _without(paths, failed, unreadable, numbers, list(groups))
        paths, numbers, pixels = [paths[row] for row in kept], numbers[kept], None if pixels is None else pixels[kept]
        notes.append(note)
    name = f"folder/{split}" if split else "folder"
    y, names = (numbers, list(groups)) if labels == "folders" else (None, [])
    source: Source = FileSource(paths, place, decode, shape, y, names, name)
    if pixels is not None:
        source = ArraySource(pixels, y, names, name, files=paths)
    source.notes = [note for note in notes if note]
    for note in source.notes:
        say_once(note)
    return source


def _place(root: Path, split: str) -> tuple[Path, ClassPart | None]:
    """Where the images are, and the list of classes that the split names, if it does."""
    listed = names_a_list(split) and not (root / split).is_dir()
    return _existing(root, "" if listed else split), class_part(split) if listed else None


def _existing(root: Path, split: str) -> Path:
    place = root / split
    try:
        if not root.is_dir():
            raise DataError(f"no folder {root}: set root to the folder that holds the images")
        if not place.is_dir():
            inside = named(p.name for p in class_folders(root)) or "no folder"
            raise DataError(f"no folder {place}: {root} holds {inside}; set split to one of them, or leave it empty")
    except OSError as error:  # a name that is too long, a folder that may not be looked into
        raise DataError(f"cannot look into {place}: {error.strerror}: set root to the folder that holds the images") from error
    return place


def _labelled(place: Path, part: ClassPart | None, leave_out: bool) -> tuple[dict[str, list[Path]], list[str]]:
    """The images of each class, of those that a list names where there is one, and what is to be said of the others."""
    classes = [path.name for path in class_folders(place)]
    if not classes:
        raise DataError(f"no class folder in {place}: make one subfolder per class, or set labels to none for images without labels")
    if part is not None:
        classes = chosen_classes(part, classes, place, leave_out=leave_out)
    found = {name: survey(place / name) for name in classes}
    for name, met in found.items():
        if not met.images:
            raise DataError(
                f"no image found in {place / name}{_instead(met)}: add images of a format that Pillow reads, or remove the folder"
            )
    names = {name: shown(name) for name in found}
    if len(set(names.values())) < len(names):
        raise DataError(f"class folders in {place} have one name when written in UTF-8: rename them")
    notes = [_wrong_level(place, {name: met.images for name, met in found.items()})]
    around, rest = beside(place), Found()
    for met in (*found.values(), around):
        rest.add(met)
    notes.append(left_out(rest, len(around.images), place))
    foreign = [names[name] for name in names if names[name] != name]
    if foreign:
        notes.append(f"names of class folders that are no UTF-8 are shown with the bytes in hexadecimal: {named(foreign)}")
    return {names[name]: met.images for name, met in found.items()}, notes


def _unlabelled(place: Path) -> tuple[dict[str, list[Path]], list[str]]:
    found = survey(place)
    if not found.images:
        raise DataError(f"no image found in {place}{_instead(found)}: add images of a format that Pillow reads, or set another root")
    return {"": found.images}, [left_out(found, 0, place)]


def _instead(met: Found) -> str:
    counts = Counter(met.others).most_common(3)
    return f", only {', '.join(f'{count} {ending}' for ending, count in counts)}" if counts else ""


def _wrong_level(place: Path, classes: dict[str, list[Path]]) -> str:
    """What to say where all images lie deeper than in the class folders. Raises DataError where those are called as splits are."""
    deeper = {path.relative_to(place / name).parts[0] for name, images in classes.items() for path in images}
    if any(len(path.relative_to(place / name).parts) == 1 for name, images in classes.items() for path in images):
        return ""
    what = f"{place} has the folders {named(classes)}, whose pictures all lie in folders of their own ({named(sorted(deeper))})"
    if all(name.lower() in _SPLITS for name in classes):
        raise DataError(f"{what}: set split to one of {', '.join(classes)}, or root one level lower")
    return f"{what}: the former are taken for classes; if the latter are, set root or split one level lower"


def _failed_before(paths: Sequence[Path], place: Path, decode: Callable[[Path], np.ndarray]) -> dict[int, str]:
    """What is wrong with each image that cannot be decoded: every one is tried, once for each content of the folder."""
    settings = repr(sorted(getattr(decode, "keywords", {}).items())).encode()
    try:
        key = f"unreadable/{digest(content_listing(paths, place) + settings)}"
        kept = read_arrays(key)
    except DataError:  # some have no content at all
        key, kept = "", None
    if kept is None:
        failed = failures(len(paths), lambda row: decode(paths[row]))
        kept = {"rows": np.array(list(failed), dtype=np.int64), "why": np.array(list(failed.values()), dtype=np.str_)}
        if key:
            write_arrays(key, kept)
    return dict(zip(kept["rows"].tolist(), kept["why"].tolist(), strict=True))


def _without(
    paths: Sequence[Path], failed: dict[int, str], unreadable: str, numbers: np.ndarray, names: list[str]
) -> tuple[np.ndarray, str]:
    """The rows that can be read, and a line about the others. Raises DataError where they are refused, or leave a class empty."""
    problem = told(failed, len(paths))
    if unreadable == "refuse":
        raise DataError(f"{problem}\nall such files are listed by `ssl check`; to do without them, set unreadable=leave_out")
    kept = np.setdiff1d(np.arange(len(paths)), list(failed))
    empty = sorted(set(numbers.tolist()) - set(numbers[kept].tolist()))
    if empty:
        raise DataError(f"no image of class {names[empty[0]]!r} can be read: remove the folder, or repair its images\n{problem}")
    return kept, f"left out as unreadable=leave_out asks: {problem}"
