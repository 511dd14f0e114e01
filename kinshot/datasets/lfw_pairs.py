"""Labeled Faces in the Wild with its pairs: are these two pictures of one person?"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from kinshot.core.errors import DataError
from kinshot.core.small_files import read_text
from kinshot.datasets import SOURCES
from kinshot.datasets.base import Source
from kinshot.datasets.labels import SamplePairs
from kinshot.datasets.listed_photos import Photos, found_place, inside, numbered, photo_source

_LISTS = {"view2": "pairs.txt", "train": "pairsDevTrain.txt", "test": "pairsDevTest.txt"}
_FOLDERS = ("lfw-deepfunneled", "lfw_funneled", "lfw")


@SOURCES.register("lfw_pairs")
def lfw_pairs(*, root: str, split: Literal["view2", "train", "test"] = "view2", size: int = 112, in_memory_mib: int = 1024) -> Source:
    """LFW for verification: the pictures that a list of pairs names, and in `pairs` which two are compared, alike or not, by fold.

    Reads pairs.txt (view 2: ten folds of 300 pairs of either kind), pairsDevTrain.txt or pairsDevTest.txt in root, and
    PERSON/PERSON_0001.jpg in root/lfw-deepfunneled, root/lfw_funneled or root/lfw, the first that there is. Classes are people, each
    picture is one sample however many pairs it is in. View 1 (train, test) is for choosing, view 2 for the figure that is told. The
    central square is kept.

    Paper: Huang, Ramesh, Berg, Learned-Miller 2007, Labeled Faces in the Wild, University of Massachusetts, Amherst, report 07-49

    Args:
        root: folder that holds the list of pairs and the folder of pictures.
        split: view2 for pairs.txt, train or test for the development lists.
        size: side in pixels.
        in_memory_mib: decode once into memory when the set needs no more than this; otherwise decode on demand.
    """
    listing = found_place(root, ("",), _LISTS[split], "Labeled Faces in the Wild") / _LISTS[split]
    there = [folder for folder in _FOLDERS if (listing.parent / folder).is_dir()]
    if not there:
        raise DataError(
            f"no pictures of Labeled Faces in the Wild in {listing.parent}: looked for {', '.join(_FOLDERS)}; unpack one, or set root"
        )
    place = listing.parent / there[0]
    pairs, fold = _read(listing)
    pictures = sorted({one for pair in pairs for one in pair})
    row = {one: number for number, one in enumerate(pictures)}
    labels, names = numbered([person for person, _ in pictures])
    paths = [inside(place, f"{person}/{person}_{number:04d}.jpg", listing) for person, number in pictures]
    compared = np.array([[row[first], row[second]] for first, second in pairs], dtype=np.int64)
    photos = Photos(place, paths, labels, names)
    source = photo_source(f"lfw_pairs/{split}", photos, size, in_memory_mib)
    source.pairs = SamplePairs(compared, labels[compared[:, 0]] == labels[compared[:, 1]], fold)
    return source


def _read(path: Path) -> tuple[list[tuple[tuple[str, int], tuple[str, int]]], np.ndarray]:
    """Two pictures, each a person and a number, of every pair, and its fold, int64 (M,). Raises DataError naming file and line."""
    lines = [line.split() for line in read_text(path, remedy="copy it from the official release").splitlines() if line.strip()]
    header = lines[0] if lines else []
    if not header or len(header) > 2 or not all(word.isdecimal() for word in header):
        raise DataError(f"{path} begins with {' '.join(header)!r}, expected folds and pairs, as 10 300, or pairs: copy it again")
    folds, each = (int(header[0]) if len(header) == 2 else 1), int(header[-1])
    if len(lines) - 1 != 2 * folds * each or not each:
        raise DataError(f"{path} lists {len(lines) - 1} pairs, expected {folds} folds of {each} of either kind: copy it again")
    pairs = []
    for number, words in enumerate(lines[1:]):
        same = number // each % 2 == 0
        pair = _pair(words, same)
        if pair is None:
            wanted = "a person and two numbers" if same else "a person, a number, another person, a number"
            raise DataError(f"{path}, pair {number + 1}: expected {wanted}, got {' '.join(words)[:80]!r}: copy it again")
        pairs.append(pair)
    return pairs, np.repeat(np.arange(folds), 2 * each)


def _pair(words: list[str], same: bool) -> tuple[tuple[str, int], tuple[str, int]] | None:
    """The two pictures of a line, or None where it is of another form."""
    if same and len(words) == 3:
        words = [words[0], words[1], words[0], words[2]]
    elif same or len(words) != 4 or words[0] == words[2]:
        return None
    if not (words[1].isdecimal() and words[3].isdecimal()):
        return None
    return (words[0], int(words[1])), (words[2], int(words[3]))
