"""Queries, the gallery that they are looked up in, and who of both are kin: by classes, by an attribute, by several labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from kinshot.core.errors import ConfigError, DataError, suggest
from kinshot.datasets.base import Source
from kinshot.kin.neighbors.found import ByLabel, Kinship
from kinshot.kin.neighbors.shared import BySharedLabels
from kinshot.kin.neighbors.without import Without, camera_rule
from kinshot.recipes.recipe import Choice
from kinshot.samples.spec import Spec
from kinshot.studies.answers import build_source

LABEL = "label"
"""The name by which kin are asked for that are of one class."""


@dataclass(frozen=True)
class Part:
    """Which samples one side has.

    Args:
        choice: a source of its own; None for the data that both sides share.
        attribute: only samples with some values of this attribute; empty for all.
        values: names of those values.
    """

    choice: Choice | None = None
    attribute: str = ""
    values: tuple[str, ...] = ()


@dataclass(frozen=True)
class Asked:
    """What is looked up where.

    Args:
        query: the queries.
        gallery: what they are looked up in.
        kin: `label` for samples of one class, or the attribute whose value kin share, several of which a sample may have.
        camera: attribute that says where a sample was taken: a query meets no kin of its own; empty for none.
    """

    query: Part = field(default_factory=Part)
    gallery: Part = field(default_factory=Part)
    kin: str = LABEL
    camera: str = ""


@dataclass(frozen=True, eq=False)
class Side:
    """Samples of one side.

    Args:
        source: where they are from.
        rows: which of its samples, int64 (M,).
        known: class of each, int64 (M,), or which of C labels it has, bool (M, C); numbers mean the same names on both sides.
        cameras: where each was taken, int64 (M,), -1 for unknown; None where that plays no part.
        left_out: samples of which it is not known who is kin to them.
    """

    source: Source
    rows: np.ndarray
    known: np.ndarray
    cameras: np.ndarray | None = None
    left_out: int = 0


@dataclass(frozen=True, eq=False)
class Sides:
    """Both sides, and the names of the classes or labels."""

    queries: Side
    gallery: Side
    names: tuple[str, ...]

    @cached_property
    def shared(self) -> bool:
        """Whether both sides are of one source."""
        return self.queries.source is self.gallery.source

    @cached_property
    def itself(self) -> bool:
        """Whether the queries are ranked among themselves."""
        return self.shared and np.array_equal(self.queries.rows, self.gallery.rows)

    @cached_property
    def listed(self) -> tuple[np.ndarray, np.ndarray] | None:
        """The pairs that the data lists for verification, int64 (P, 2), rows of one set of samples, and which are kin, bool (P,).

        None where it lists none, or queries are ranked in something else, or kin share more than one label.
        """
        pairs, known = self.queries.source.pairs, self.queries.known
        if pairs is None or not self.itself or known.ndim > 1:
            return None
        place = np.full(len(self.queries.source), -1, dtype=np.int64)
        place[self.queries.rows] = np.arange(len(self.queries.rows))
        found = place[pairs.rows]
        found = found[(found >= 0).all(axis=1)]
        return found, known[found[:, 0]] == known[found[:, 1]]

    @cached_property
    def repeated(self) -> int:
        """Queries of another source that are in the gallery, too, by their content."""
        if self.shared:
            return 0
        mine, theirs = (side.source.digests(side.rows) for side in (self.queries, self.gallery))
        return int(np.isin(mine, theirs).sum())

    @cached_property
    def kinship(self) -> Kinship:
        """Who is kin to whom, and who must not meet: of one identity under one camera, or a query and itself in the gallery."""
        mine, theirs = self.queries, self.gallery
        by = ByLabel if mine.known.ndim == 1 else BySharedLabels
        of: Kinship = by(mine.known, None if self.itself else theirs.known)
        if mine.cameras is not None and theirs.cameras is not None:
            of = camera_rule(of, mine.known, mine.cameras, *(() if self.itself else (theirs.known, theirs.cameras)))
        return of if self.itself or not self.shared else self._but_itself(of)

    def _but_itself(self, of: Kinship) -> Kinship:
        place = np.full(len(self.gallery.source), -1, dtype=np.int64)
        place[self.gallery.rows] = np.arange(len(self.gallery.rows))
        keys = place[self.queries.rows]
        return of if (keys < 0).all() else Without(of, keys, np.arange(len(self.gallery.rows)))

    def describe(self) -> dict[str, Any]:
        """What a report says of them."""
        mine, theirs = self.queries, self.gallery
        present = np.unique(mine.known) if mine.known.ndim == 1 else np.flatnonzero(mine.known.any(axis=0))
        unknown = mine.left_out + theirs.left_out * (not self.itself)
        return {
            "name": mine.source.name if self.shared else f"{mine.source.name} in {theirs.source.name}",
            "classes": len(present),
            "queries": len(mine.rows),
            "gallery": "the other queries" if self.itself else f"{len(theirs.rows)} samples of {theirs.source.name}",
            **({"samples of unknown kin, left out": unknown} if unknown else {}),
            **({} if self.listed is None else {"pairs to verify": f"{len(self.listed[0])} that the data lists"}),
            **({"queries that are in the gallery, too": self.repeated} if self.repeated else {}),
        }


def sides_of(data: Choice, asked: Asked, input: Spec) -> Sides:
    """Both sides as an encoder of `input` sees them.

    Raises:
        ConfigError: an attribute or a value that is not there.
        DataError: data without labels, or a side without samples.
    """
    built: dict[str, Source] = {}
    sources = []
    for part in (asked.query, asked.gallery):
        key = repr(part.choice or data)
        if key not in built:
            built[key] = build_source(part.choice or data, input)
        sources.append(built[key])
    known = [_known(source, asked.kin) for source in sources]
    names = tuple(dict.fromkeys(name for _, of in known for name in of))
    cameras = [_known(source, asked.camera, "--camera") if asked.camera else None for source in sources]
    places = tuple(dict.fromkeys(name for found in cameras if found is not None for name in found[1]))
    sides = [
        _side(source, part, option, *one, names, camera, places)
        for source, part, option, one, camera in zip(
            sources, (asked.query, asked.gallery), ("--query", "--gallery"), known, cameras, strict=True
        )
    ]
    return Sides(sides[0], sides[1], names)


def _side(
    source: Source, part: Part, option: str, values: np.ndarray, own: Sequence[str], names: Sequence[str],
    camera: tuple[np.ndarray, list[str]] | None, places: Sequence[str],
) -> Side:  # fmt: skip
    wanted = _chosen(source, part, option)
    sure = values >= 0 if values.ndim == 1 else (values >= 0).all(axis=1)
    rows = np.flatnonzero(wanted & sure)
    if not len(rows):
        raise DataError(f"{option}: {source.name} has no such sample whose kin are known: choose others")
    cameras = None if camera is None else _renamed(camera[0], camera[1], places)[rows]
    return Side(source, rows, _renamed(values, own, names)[rows], cameras, int((wanted & ~sure).sum()))


def _renamed(values: np.ndarray, own: Sequence[str], names: Sequence[str]) -> np.ndarray:
    """Numbers of names, int64 (N,) with -1 for unknown, or columns of them, (N, C) as bool, in the order that both sides share."""
    place = {name: number for number, name in enumerate(names)}
    numbers = np.array([place[name] for name in own], dtype=np.int64)
    if values.ndim == 1:
        found: np.ndarray = np.where(values < 0, -1, numbers[values])
        return found
    columns = np.zeros((len(values), len(names)), dtype=bool)
    columns[:, numbers] = values > 0
    return columns


def _chosen(source: Source, part: Part, option: str) -> np.ndarray:
    """Which samples a part has, bool (N,)."""
    if not part.attribute:
        return np.ones(len(source), dtype=bool)
    values, names = _known(source, part.attribute, option)
    for value in part.values:
        if value not in names:
            raise ConfigError(f"{option}: {part.attribute} of {source.name} is never {value!r}: {suggest(value, names)}")
    numbers = [names.index(value) for value in part.values]
    found: np.ndarray = np.asarray(np.isin(values, numbers) if values.ndim == 1 else (values[:, numbers] > 0).any(axis=1))
    return found


def _known(source: Source, name: str, option: str = "--kin") -> tuple[np.ndarray, list[str]]:
    """Values of a label of a source, int64 (N,) or (N, C), -1 for unknown, and their names."""
    if name == LABEL and LABEL not in source.attributes:
        if source.labels is None or source.contains is not None:
            raise DataError(f"{source.name} has no labels: say with {option} which attribute to take ({_attributes(source)})")
        return np.asarray(source.labels), list(source.class_names)
    if name not in source.attributes:
        raise ConfigError(f"{option}: {source.name} has no attribute {name!r}: {suggest(name, source.attributes)}")
    values = source.attributes[name]
    if values.dtype.kind == "f":
        raise ConfigError(f"{option}: {name} of {source.name} is measured and has no values to share: choose one of {_attributes(source)}")
    if option == "--camera" and values.ndim > 1:
        raise ConfigError(f"{option}: samples of {source.name} may have several values of {name}: choose an attribute of one value")
    count = values.shape[1] if values.ndim > 1 else int(values.max(initial=-1)) + 1
    return values.astype(np.int64), list(source.attribute_names.get(name) or map(str, range(count)))


def _attributes(source: Source) -> str:
    return ", ".join(source.attributes) or "it has none"
