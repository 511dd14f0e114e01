"""Class maps from COCO's instances: polygons and run lengths, drawn when asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kinshot.core.errors import DataError
from kinshot.core.small_files import parse_json, read_file
from kinshot.datasets.files import digest
from kinshot.samples.class_map import IGNORE

_LARGEST = 2**32
# Raise when what is drawn changes.
_VERSION = 1


def counts_of(text: str) -> list[int]:
    """The run lengths in COCO's compressed form: five bits to a character, from the third on as differences to the one before last.

    Raises ValueError where the text ends within a number, or holds a character that the form does not have.
    """
    counts: list[int] = []
    value = shift = 0
    for letter in text.encode("ascii"):
        bits = letter - 48
        if not 0 <= bits < 64:
            raise ValueError(f"the character {chr(letter)!r} is none of the form")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError("the text ends within a number")
    return counts


def drawn_runs(counts: np.ndarray, height: int, width: int) -> np.ndarray:
    """Run lengths, of pixels outside and inside in turn, column by column: bool (H, W). Raises ValueError where they do not fit."""
    runs = np.asarray(counts, dtype=np.int64)
    if (runs < 0).any() or runs.sum() != height * width:
        raise ValueError(f"its runs make {int(runs.sum())} pixels of {height * width}")
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T


def drawn_polygon(corners: np.ndarray, height: int, width: int) -> np.ndarray:
    """The pixels whose middle lies inside of a polygon x1, y1, x2, y2, ... (inside: an odd number of sides to its left): bool (H, W)."""
    x, y = np.asarray(corners, dtype=np.float64).reshape(-1, 2).T
    next_x, next_y = np.roll(x, -1), np.roll(y, -1)
    middles = np.arange(height) + 0.5
    side, row = np.nonzero((y[:, None] <= middles) != (next_y[:, None] <= middles))
    at = x[side] + (middles[row] - y[side]) / (next_y[side] - y[side]) * (next_x[side] - x[side])
    column = np.ceil(at - 0.5).clip(0, width).astype(np.int64)
    crossed = np.bincount(row * (width + 1) + column, minlength=height * (width + 1)).reshape(height, width + 1)
    return np.cumsum(crossed, axis=1)[:, :width] % 2 == 1


@dataclass(frozen=True)
class Instances:
    """Objects of many pictures in flat arrays, so that loader processes get them quickly.

    Args:
        sizes: height and width of each picture, int64 (N, 2).
        first: the first object of each picture, and behind them the number of all, int64 (N + 1,); objects in the order of drawing.
        value: number of each object's class, 255 for crowds, uint8 (M,).
        first_part: the first outline of each object, and behind them the number of all, int64 (M + 1,).
        runs: which outlines are run lengths and not polygons, bool (P,).
        first_number: the first number of each outline, and behind them the number of all, int64 (P + 1,).
        numbers: corners, or run lengths, float64.
    """

    sizes: np.ndarray
    first: np.ndarray
    value: np.ndarray
    first_part: np.ndarray
    runs: np.ndarray
    first_number: np.ndarray
    numbers: np.ndarray


@dataclass(frozen=True)
class DrawnMasks:
    """Class maps of pictures, drawn from their objects; picklable.

    Objects are drawn one over another, the largest first, over crowds, which are ignored. A pixel is inside where its middle is: at borders
    this differs from COCO's own code by single pixels.

    Args:
        instances: of all pictures.
        rows: which of them each sample is.
        names: what to call each sample.
    """

    instances: Instances
    rows: np.ndarray
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, row: int) -> np.ndarray:
        """The numbers in a sample's class map: uint8 (H, W). Raises DataError for run lengths that do not fit the picture."""
        found, picture = self.instances, int(self.rows[row])
        height, width = found.sizes[picture].tolist()
        mask = np.zeros((height, width), dtype=np.uint8)
        for item in range(int(found.first[picture]), int(found.first[picture + 1])):
            for part in range(int(found.first_part[item]), int(found.first_part[item + 1])):
                numbers = found.numbers[found.first_number[part] : found.first_number[part + 1]]
                draw = drawn_runs if found.runs[part] else drawn_polygon
                try:
                    mask[draw(numbers, height, width)] = found.value[item]
                except ValueError as error:
                    raise DataError(f"cannot draw {self.where(row)}: {error}: copy the annotations again") from error
        return mask

    def where(self, row: int) -> str:
        """What to call a sample's class map in messages."""
        return f"the annotations of {self.names[row]}"

    def digests(self, rows: np.ndarray) -> np.ndarray:
        """A hash of what each class map is drawn from, bytes (B,)."""
        return np.array([digest(self._of(int(self.rows[row]))).encode() for row in rows.tolist()], dtype="S32")

    def settings(self) -> str:
        """The version of the rule that they are drawn by."""
        return f"drawn {_VERSION}"

    def take(self, rows: np.ndarray) -> DrawnMasks:
        """Those of some samples."""
        return DrawnMasks(self.instances, self.rows[rows], [self.names[row] for row in rows.tolist()])

    def _of(self, picture: int) -> bytes:
        found = self.instances
        items = slice(*found.first[picture : picture + 2])
        parts = found.first_part[items.start : items.stop + 1]
        outlines = slice(parts[0], parts[-1])
        numbers = found.first_number[outlines.start : outlines.stop + 1]
        values = found.numbers[numbers[0] : numbers[-1]]
        starts = [(bounds - bounds[0]).astype("<i8").tobytes() for bounds in (parts, numbers)]
        return b"".join(
            [found.sizes[picture].tobytes(), found.value[items].tobytes(), *starts, found.runs[outlines].tobytes(), values.tobytes()]
        )


def read_instances(path: Path, names: Sequence[str]) -> tuple[Instances, list[str]]:
    """Objects and files of the pictures that have any, off COCO's JSON; classes are numbered from 1 by the order of their ids.

    Args:
        path: of the JSON file.
        names: what classes must be called, in that order.

    Raises:
        DataError: a file that is no such list, or has other classes.
    """
    given = parse_json(read_file(path, most=_LARGEST), str(path), remedy="copy the annotations again")
    try:
        if not isinstance(given, dict):
            raise TypeError(f"expected an object, got {type(given).__name__}")
        number = _numbers_of(given["categories"], names, path)
        pictures = {picture["id"]: picture for picture in given["images"]}
        of_picture: dict[Any, list[Mapping[str, Any]]] = {}
        for item in given["annotations"]:
            of_picture.setdefault(item["image_id"], []).append(item)
        kept = sorted(of_picture, key=lambda key: pictures[key]["file_name"])
        return _flat([pictures[key] for key in kept], [of_picture[key] for key in kept], number), [
            pictures[key]["file_name"] for key in kept
        ]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise DataError(f"{path} is no list of COCO's instances: {reason}: copy the annotations again") from error


def _numbers_of(categories: Sequence[Mapping[str, Any]], names: Sequence[str], path: Path) -> dict[int, int]:
    ordered = sorted(categories, key=lambda category: category["id"])
    called = [category["name"] for category in ordered]
    if called != list(names):
        first = next((n for n, (one, other) in enumerate(zip(called, names, strict=False)) if one != other), min(len(called), len(names)))
        got = repr(called[first]) if first < len(called) else "none"
        wanted = repr(names[first]) if first < len(names) else "none"
        raise DataError(
            f"{path} has {len(called)} classes, number {first + 1} {got}, expected {len(names)} with {wanted}: give COCO's own file"
        )
    return {category["id"]: place for place, category in enumerate(ordered, start=1)}


def _flat(pictures: Sequence[Mapping[str, Any]], items: Sequence[Sequence[Mapping[str, Any]]], number: Mapping[int, int]) -> Instances:
    values: list[int] = []
    parts: list[int] = []
    runs: list[bool] = []
    numbers: list[np.ndarray] = []
    for of_one in items:
        for item in sorted(of_one, key=lambda item: (not item.get("iscrowd", 0), -float(item.get("area", 0)))):
            outlines = _outlines(item["segmentation"])
            values.append(IGNORE if item.get("iscrowd", 0) else number[item["category_id"]])
            parts.append(len(outlines))
            runs += [is_runs for is_runs, _ in outlines]
            numbers += [np.asarray(given, dtype=np.float64).reshape(-1) for _, given in outlines]
    return Instances(
        np.array([[picture["height"], picture["width"]] for picture in pictures], dtype=np.int64).reshape(-1, 2),
        _starts([len(of_one) for of_one in items]),
        np.array(values, dtype=np.uint8),
        _starts(parts),
        np.array(runs, dtype=bool),
        _starts([len(given) for given in numbers]),
        np.concatenate([np.empty(0), *numbers]),
    )


def _outlines(given: Any) -> list[tuple[bool, Sequence[float]]]:
    """The outlines of an object: whether each is run lengths, and its numbers. Raises ValueError or TypeError for what is neither."""
    if isinstance(given, dict):
        counts = given["counts"]
        return [(True, counts_of(counts) if isinstance(counts, str) else counts)]
    if not isinstance(given, list):
        raise TypeError(f"an object's segmentation is {type(given).__name__}")
    if wrong := [polygon for polygon in given if len(polygon) < 4 or len(polygon) % 2]:
        raise ValueError(f"a polygon has {len(wrong[0])} numbers")
    return [(False, polygon) for polygon in given]


def _starts(lengths: Sequence[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)
