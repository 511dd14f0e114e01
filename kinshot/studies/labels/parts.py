"""Labelled samples to learn from, and those to test on: the training and the test part of a run's data, or of others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kinshot.core.errors import ConfigError, DataError
from kinshot.datasets.base import Source
from kinshot.recipes.backbones import known_data
from kinshot.recipes.loaded import Loaded
from kinshot.recipes.recipe import Choice
from kinshot.recipes.splits import own_split
from kinshot.samples.spec import Spec
from kinshot.studies.study import labelled

PERSON = "subject"
"""The attribute that says who was recorded."""


@dataclass(frozen=True)
class Choices:
    """Which data to learn from and to test on; None for those of the run."""

    data: Choice | None = None
    test: Choice | None = None


@dataclass(frozen=True)
class Parts:
    """What encoders of one input meet.

    Args:
        train: samples to learn from.
        train_labels: class of each, int64 (N,), 0..C-1.
        test: samples of which some are tested on.
        rows: which of them, int64 (M,).
        labels: class of each of those, int64 (M,).
        classes: names of the classes.
        left_out: samples of `test` that are of no class of `train`.
        repeated: samples that are tested on and are among those that are learned from, by their content.
    """

    train: Source
    train_labels: np.ndarray
    test: Source
    rows: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    left_out: int = 0
    repeated: int = 0

    @property
    def people(self) -> tuple[list[str], np.ndarray] | None:
        """Names of those whose samples are tested on and who each sample (M,) is of; None where it is not known of all."""
        known = self.test.categories.get(PERSON)
        if known is None or (known[self.rows] < 0).any():
            return None
        found, numbers = np.unique(known[self.rows], return_inverse=True)
        names = self.test.attribute_names.get(PERSON) or [str(number) for number in range(int(found.max()) + 1)]
        return [names[number] for number in found.tolist()], numbers.astype(np.int64)

    @property
    def shared_people(self) -> list[str] | None:
        """People of both parts, by name; None where that is not known."""
        named = []
        for source in (self.train, self.test):
            known, names = source.categories.get(PERSON), source.attribute_names.get(PERSON)
            if known is None or not names:
                return None
            named.append({names[number] for number in np.unique(known[known >= 0]).tolist()})
        return sorted(named[0] & named[1])

    def describe(self) -> dict[str, Any]:
        """What a report says of them."""
        people, shared = self.people, self.shared_people
        return {
            "name": self.train.name,
            "classes": len(self.classes),
            "samples to learn from": len(self.train),
            "tested on": f"{len(self.rows)} samples of {self.test.name}",
            **({"test samples of other classes, left out": self.left_out} if self.left_out else {}),
            **({"test samples that are learned from, too": self.repeated} if self.repeated else {}),
            **({"people tested on": len(people[0])} if people else {}),
            **({"people of both parts": ", ".join(shared) or "none"} if shared is not None else {}),
        }


def parts_of(choices: Choices, run: Loaded, input: Spec) -> Parts:
    """The parts as an encoder of `input` sees them; those that were not chosen are the run's own data and their split test.

    Raises:
        ConfigError: nothing says what to test on.
        DataError: data without labels, without two classes, or parts that share none or all samples of one are in the other.
    """
    data = known_data(choices.data or run.recipe.data)
    test = choices.test or own_split(data, "test")
    if test is None:
        raise ConfigError(f"{data.name} has no split test beside what is learned from: say with --test what to test on")
    train, found = labelled(data, input, "--data")
    other, others = labelled(test, input, "--test")
    there = np.unique(found)
    names = tuple(train.class_names[label] for label in there.tolist())
    if len(names) < 2:
        raise DataError(f"{train.name} has samples of {len(names)} class, and classification needs two: choose other data")
    place = {name: number for number, name in enumerate(names)}
    numbers = np.array([place.get(name, -1) for name in other.class_names], dtype=np.int64)[others]
    rows = np.flatnonzero(numbers >= 0)
    if not len(rows):
        raise DataError(
            f"{other.name} ({_some(other.class_names)}) has no class of {train.name} ({_some(names)}): say with --test which samples of "
            "these classes to test on"
        )
    repeated = int(np.isin(other.digests(rows), train.digests(np.arange(len(train)))).sum())
    if repeated == len(rows):
        raise DataError(
            f"{other.name}: all samples to test on are among those that are learned from: say with --data or --test which are not"
        )
    return Parts(train, np.searchsorted(there, found), other, rows, numbers[rows], names, len(others) - len(rows), repeated)


def check_alike(parts: Sequence[Parts]) -> None:
    """Raise DataError where encoders of different inputs meet different samples."""
    first, *others = parts
    for other in others:
        if not (np.array_equal(first.train_labels, other.train_labels) and np.array_equal(first.labels, other.labels)):
            raise DataError(f"{first.train.name} gives other classes at another input: study runs of one input at a time")


def _some(names: Sequence[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
