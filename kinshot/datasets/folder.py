"""A folder of images: one subfolder per class, or images without labels."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from kinshot.core.errors import ConfigError, DataError
from kinshot.datasets import SOURCES
from kinshot.datasets.base import ArraySource, FileSource, Source
from kinshot.datasets.class_lists import chosen_classes, class_part, names_a_list
from kinshot.datasets.images import decode_all, list_images, load_image


@SOURCES.register("folder")
def folder(
    *,
    root: str,
    split: str = "",
    size: int = 64,
    channels: Literal[1, 3] = 3,
    labels: Literal["folders", "none"] = "folders",
    in_memory_mib: int = 1024,
    unlisted: Literal["refuse", "leave_out"] = "refuse",
) -> Source:
    """Your own images: root/split/class/any image file, or any images without labels.

    Classes are the subfolders, in sorted order; images may lie deeper inside a class. Each image is resized so that its
    shorter side is `size` and the central square is kept. Hidden files and files that are no images are left out.

    Args:
        root: folder that holds the images.
        split: subfolder of root, for example train; or a part of a list of class folders in root, mini_imagenet:test for example, of
            mini_imagenet, tiered_imagenet, cifar_fs, fc100, cub_torchmeta, cub_easyfsl or your own FILE.json; empty for all of root.
        size: side of the square images in pixels.
        channels: 3 for colour, 1 for grey.
        labels: folders takes each subfolder as a class; none takes every image below, without labels.
        in_memory_mib: decode once into memory when the set needs no more than this; otherwise decode on demand.
        unlisted: what becomes of class folders that are in no part of a list of classes: refuse them, or leave them out.
    """
    if size < 1 or in_memory_mib < 0:
        raise ConfigError(f"folder: size must be at least 1 and in_memory_mib at least 0, got {size} and {in_memory_mib}")
    place, groups = _groups(Path(root).expanduser(), split, labels == "folders", unlisted == "leave_out")
    for name, images in groups.items():
        if not images:
            raise DataError(f"no image found in {place / name}: add images of a format that Pillow reads, or remove the folder")
    paths = [path for images in groups.values() for path in images]
    shape = (int(channels), size, size)
    decode = partial(load_image, size=size, channels=int(channels))
    numbers, names = None, []
    if labels == "folders":
        numbers, names = np.repeat(np.arange(len(groups)), [len(images) for images in groups.values()]), list(groups)
    name = f"folder/{split}" if split else "folder"
    if len(paths) * shape[0] * size * size > in_memory_mib * 2**20:
        return FileSource(paths, place, decode, shape, numbers, names, name)
    return ArraySource(decode_all(paths, decode, shape), numbers, names, name, files=paths)


def _groups(root: Path, split: str, folders: bool, leave_out: bool) -> tuple[Path, dict[str, list[Path]]]:
    """Where the images are, and those of every class; all under one empty name where there are no classes."""
    if names_a_list(split) and not (root / split).is_dir():
        place, part = _existing(root, ""), class_part(split)
        names = chosen_classes(part, _class_names(place), place, leave_out=leave_out)
        return place, {name: list_images(place / name) for name in names}
    place = _existing(root, split)
    return place, {name: list_images(place / name) for name in _class_names(place)} if folders else {"": list_images(place)}


def _existing(root: Path, split: str) -> Path:
    place = root / split
    if not root.is_dir():
        raise DataError(f"no folder {root}: set root to the folder that holds the images")
    if not place.is_dir():
        inside = ", ".join(sorted(p.name for p in root.iterdir() if p.is_dir())[:12]) or "no folder"
        raise DataError(f"no folder {place}: {root} holds {inside}; set split to one of them, or leave it empty")
    return place


def _class_names(place: Path) -> list[str]:
    classes = sorted(p.name for p in place.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not classes:
        raise DataError(f"no class folder in {place}: make one subfolder per class, or set labels to none for images without labels")
    return classes
