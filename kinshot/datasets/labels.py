"""What a source says of its samples beside what they hold, checked: classes, further labels by name, presence, clock, contents of masks."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from kinshot.core.errors import ConfigError, DataError, suggest


class Clock(NamedTuple):
    """When samples were taken: `time` float64 (N,), and the `recording` that each belongs to, int64 (N,); times of two do not compare."""

    time: np.ndarray
    recording: np.ndarray


class SamplePairs(NamedTuple):
    """Pairs that verification compares: `rows` of samples, int64 (M, 2), whether these are of one class, bool (M,), the `fold` of each."""

    rows: np.ndarray
    same: np.ndarray
    fold: np.ndarray


class Marks(NamedTuple):
    """Classes of samples, int64 (N,) with -1 for none, and further labels by name, of each of which a sample has one at most, likewise."""

    labels: np.ndarray
    attributes: Mapping[str, np.ndarray]

    def column(self, name: str, whose: str) -> np.ndarray:
        """The attribute of that name, int64 (N,). Raises ConfigError with those that there are; `whose` begins the message."""
        if name not in self.attributes:
            known = (
                suggest(name, self.attributes) if self.attributes else "the data has none: choose data with attributes, or another order"
            )
            raise ConfigError(f"{whose} needs the attribute {name!r} of the data, one value a sample: {known}")
        return np.asarray(self.attributes[name], dtype=np.int64)


def checked_labels(
    name: str, labels: np.ndarray | None, class_names: Sequence[str], contains: np.ndarray | None, count: int
) -> tuple[np.ndarray | None, list[str], np.ndarray | None]:
    """Labels as int64 (count,), one name for each class, and which classes samples contain as bool (count, C).

    Raises DataError where they do not fit each other or the count.
    """
    if contains is not None:
        held = np.asarray(contains)
        if held.dtype != bool or held.ndim != 2 or len(held) != count:
            raise DataError(f"{name}: expected contains bool ({count}, C), got {held.dtype} {held.shape}: one row to a sample")
        class_names = list(class_names) or [str(c) for c in range(held.shape[1])]
        if len(class_names) != held.shape[1]:
            raise DataError(f"{name}: contains has {held.shape[1]} columns but there are {len(class_names)} class names: one to a class")
        contains = held
    if labels is None:
        if class_names and contains is None:
            raise DataError(f"{name}: class names without labels: give both or neither")
        return None, list(class_names), contains
    found = _integers(name, "labels", labels, count)
    names = list(class_names) or [str(c) for c in range(int(found.max(initial=-1)) + 1)]
    if count and not (found.min() >= 0 and found.max() < len(names)):
        raise DataError(f"{name}: labels run from {found.min()} to {found.max()} but there are {len(names)} class names")
    return found, names, contains


def checked_attributes(
    name: str, attributes: Mapping[str, np.ndarray] | None, names: Mapping[str, Sequence[str]] | None, count: int
) -> tuple[dict[str, np.ndarray], dict[str, list[str]]]:
    """Further labels by name, and the names of their values ("0", "1", ... unless given).

    Integers (count,) are one label each, int64 with -1 for unknown. Booleans, or integers of -1, 0 and 1, (count, L) are several
    labels, each of which a sample has or has not. Floats (count,) are measured, float64 with NaN for unknown, and have no names.

    Raises:
        DataError: an attribute that does not fit the count or its names, or names of an attribute that is not there.
    """
    found: dict[str, np.ndarray] = {}
    value_names: dict[str, list[str]] = {}
    for key, values in (attributes or {}).items():
        found[key], value_names[key] = _attribute(f"{name}: attribute {key!r}", np.asarray(values), list((names or {}).get(key, ())), count)
    stray = sorted(set(names or {}) - set(found))
    if stray:
        raise DataError(f"{name}: names without values for attribute {stray[0]!r}: give both or neither")
    return found, value_names


def _attribute(what: str, values: np.ndarray, names: list[str], count: int) -> tuple[np.ndarray, list[str]]:
    if values.ndim == 2 and len(values) == count and values.dtype.kind in "biu":
        several = values if values.dtype == bool else values.astype(np.int64)
        names = names or [str(number) for number in range(values.shape[1])]
        if len(names) != values.shape[1]:
            raise DataError(f"{what} has {values.shape[1]} labels but {len(names)} names: name every label")
        if values.dtype != bool and count and not (several.min() >= -1 and several.max() <= 1):
            raise DataError(f"{what} runs from {several.min()} to {several.max()}: 1 has a label, 0 has it not, -1 is unknown")
        return several, names
    if values.shape == (count,) and values.dtype.kind == "f":
        if names or np.isinf(values).any():
            raise DataError(f"{what} is {values.dtype}: measured values are finite, NaN where unknown, and have no names: give integers")
        return values.astype(np.float64), []
    if values.shape != (count,) or (count and values.dtype.kind not in "iu"):
        wanted = f"{count} labels, integers ({count},) or ({count}, L), or floats ({count},)"
        raise DataError(f"{what}: expected {wanted}, got {values.dtype} {values.shape}: one label, or one row of them, to a sample")
    column = values.astype(np.int64)
    names = names or [str(value) for value in range(int(column.max(initial=-1)) + 1)]
    if count and not (column.min() >= -1 and column.max() < len(names)):
        raise DataError(f"{what} runs from {column.min()} to {column.max()} but has {len(names)} names: name every value; -1 is unknown")
    return column, names


def checked_present(name: str, present: Mapping[str, np.ndarray] | None, fields: Collection[str], count: int) -> dict[str, np.ndarray]:
    """Which samples have a field, bool (count,) by field. Raises DataError where that does not fit, or a sample has no field at all."""
    found: dict[str, np.ndarray] = {}
    for key, values in (present or {}).items():
        if key not in fields:
            raise DataError(f"{name}: present names {key!r}, which is no field: {suggest(key, fields)}")
        found[key] = np.asarray(values)
        if found[key].dtype != bool or found[key].shape != (count,):
            got = f"{found[key].dtype} {found[key].shape}"
            raise DataError(f"{name}: expected presence of {key!r} as bool ({count},), got {got}: one to a sample")
    if set(found) == set(fields) and count and not (some := np.any(list(found.values()), axis=0)).all():
        raise DataError(f"{name}: sample {int(np.argmin(some))} has none of the fields {', '.join(fields)}: leave it out")
    return found


def checked_clock(name: str, clock: tuple[np.ndarray, np.ndarray] | None, count: int) -> Clock | None:
    """Times as float64 and recordings as int64, each (count,). Raises DataError where they do not fit."""
    if clock is None:
        return None
    time, recording = np.asarray(clock[0]), _integers(name, "recordings of the clock", clock[1], count)
    if time.shape != (count,) or time.dtype.kind not in "iuf" or not np.isfinite(time.astype(np.float64)).all():
        raise DataError(f"{name}: expected {count} finite times of the clock, got {time.dtype} {time.shape}: one to a sample")
    return Clock(time.astype(np.float64), recording)


def _integers(name: str, what: str, values: np.ndarray, count: int) -> np.ndarray:
    found = np.asarray(values)
    if found.shape != (count,) or (count and found.dtype.kind not in "iu"):
        raise DataError(f"{name}: expected {count} integer {what}, got {found.dtype} {found.shape}: one label per sample")
    return found.astype(np.int64)
