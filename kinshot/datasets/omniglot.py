"""Omniglot in its official layout: 1623 handwritten characters of 50 alphabets, drawn by 20 people each."""

from __future__ import annotations

import hashlib
import json
import os
import re
from functools import cache, partial
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageChops

from kinshot.core.errors import ConfigError, DataError
from kinshot.datasets import SOURCES
from kinshot.datasets.base import ArraySource
from kinshot.datasets.cache import cached_images
from kinshot.datasets.files import content_listing
from kinshot.datasets.images import decode_all, read_image
from kinshot.datasets.listed_photos import numbered

# Raise when decoding changes a pixel.
_VERSION = 1
_NAME = re.compile(r"[0-9]+_([0-9]+)\.png")
_FOLDERS = {"background": "images_background", "evaluation": "images_evaluation"}


@SOURCES.register("omniglot")
def omniglot(
    *,
    root: str,
    split: Literal["train", "val", "test", "background", "evaluation", "all"] = "train",
    scheme: Literal["vinyals", "lake"] = "vinyals",
    size: int = 28,
    rotations: bool = False,
    attributes: bool = False,
) -> ArraySource:
    """Omniglot handwritten characters from the official folders, white ink on black.

    Reads root/images_background and root/images_evaluation (/<Alphabet>/characterNN/*.png), or the same below
    root/omniglot-py. Classes are in the official order of character ids. Decoded images are cached.

    Paper: Lake, Salakhutdinov, Tenenbaum 2015, Science 350; splits of Vinyals et al. 2016, arXiv:1606.04080

    Args:
        root: folder that holds images_background and images_evaluation, or omniglot-py.
        split: train, val, test (vinyals), background, evaluation (lake), or all.
        scheme: vinyals splits the characters 1028/172/423; lake splits the alphabets 30/20 (964 and 659 characters).
        size: side in pixels; the 105x105 ink mask is averaged over boxes.
        rotations: whether every character turned by 90, 180 and 270 degrees is a class of its own, as in most few-shot papers.
        attributes: whether drawings also have the attributes `alphabet`, a coarse class, and `drawer`, whose hand plays a camera's part in
            retrieval. Data with them count as other data than without: choose before a first run.
    """
    if not 1 <= size <= 512:
        raise ConfigError(f"omniglot: size must be in 1..512, got {size}")
    classes = _classes(scheme, split)
    place = _place(Path(root).expanduser())
    groups = [_drawings(place / _FOLDERS[part] / name) for part, name in classes]
    paths = [path for group in groups for path in group]
    digest = hashlib.sha256(content_listing(paths, place)).hexdigest()[:24]
    decode = partial(read_image, convert=partial(ink_averages, size=size), formats=("PNG",))
    shape = (1, size, size)
    # One thread: such small files cost more Python than decoding, and threads would only wait for each other.
    key = f"omniglot-{size}-{_VERSION}-{digest}"
    images = cached_images(key, (len(paths), *shape), lambda: decode_all(paths, decode, shape, threads=1))
    labels = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    names = [name for _, name in classes]
    turns = 4 if rotations else 1
    known = _attributes(paths, [name.partition("/")[0] for _, name in classes], labels, turns) if attributes else {}
    if rotations:
        images, labels, names = _turned(images, labels, names)
    return ArraySource(images, labels, names, f"omniglot/{split}", **known)


def _attributes(paths: list[Path], alphabets: list[str], labels: np.ndarray, turns: int) -> dict[str, Any]:
    """Alphabet and drawer of each drawing, as keywords for a source. Raises DataError for a file whose name does not say its drawer."""
    hands = [_NAME.fullmatch(path.name) for path in paths]
    if None in hands:
        wrong = paths[hands.index(None)]
        raise DataError(f"{wrong}: expected a name such as 0001_20.png, with character and drawer: unpack Omniglot again")
    drawer, drawers = numbered([int(hand[1]) for hand in hands if hand])
    of_class, names = numbered(alphabets)
    values = {"alphabet": np.tile(of_class[labels], turns), "drawer": np.tile(drawer, turns)}
    return {"attributes": values, "attribute_names": {"alphabet": names, "drawer": drawers}}


def _turned(images: np.ndarray, labels: np.ndarray, names: list[str]) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Four times the classes: as they are, then each quarter turn counterclockwise of all of them."""
    turned = np.concatenate([np.rot90(images, turns, axes=(2, 3)) for turns in range(4)])
    more = [name if turns == 0 else f"{name} turned {90 * turns}" for turns in range(4) for name in names]
    return turned, np.concatenate([labels + turns * len(names) for turns in range(4)]), more


def ink_averages(image: Image.Image, *, size: int) -> np.ndarray:
    """Black ink on white as white ink on black, averaged over boxes: uint8 (1, size, size)."""
    ink = ImageChops.invert(image.convert("1", dither=Image.Dither.NONE).convert("L"))
    return np.asarray(ink.resize((size, size), Image.Resampling.BOX))[None]


@cache
def class_lists() -> dict[str, dict[str, dict[str, list[list[int]]]]]:
    """The published splits: scheme, split, alphabet, inclusive ranges of character numbers."""
    text = resources.files("kinshot.datasets").joinpath("splits/omniglot.json").read_text(encoding="utf-8")
    return {scheme: lists for scheme, lists in json.loads(text).items() if scheme in {"vinyals", "lake"}}


def _classes(scheme: str, split: str) -> list[tuple[str, str]]:
    """(background or evaluation, Alphabet/characterNN) of each class, in the order of official character ids."""
    lists = class_lists()
    if split != "all" and split not in lists[scheme]:
        raise ConfigError(f"omniglot: scheme {scheme} has the splits {', '.join(lists[scheme])} and all, got {split!r}")
    part_of = {alphabet: part for part, alphabets in lists["lake"].items() for alphabet in alphabets}
    chosen = lists["lake"].values() if split == "all" else [lists[scheme][split]]
    return [
        (part_of[alphabet], f"{alphabet}/character{number:02d}")
        for alphabets in chosen
        for alphabet, ranges in alphabets.items()
        for first, last in ranges
        for number in range(first, last + 1)
    ]


def _place(root: Path) -> Path:
    for place in (root, root / "omniglot-py"):
        if any((place / name).is_dir() for name in _FOLDERS.values()):
            return place
    raise DataError(f"no Omniglot in {root}: looked for images_background and images_evaluation there and in omniglot-py; set root")


def _drawings(folder: Path) -> list[Path]:
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if entry.name.endswith(".png") and not entry.name.startswith("."))
    except OSError as error:
        raise DataError(f"cannot read {folder}: {error.strerror}: unpack Omniglot again, every character folder is needed") from error
    if not names:
        raise DataError(f"no drawing (*.png) in {folder}: unpack Omniglot again, every character needs some")
    return [folder / name for name in names]
