"""A kinship of which some pairs must not meet: the camera rule of re-identification, or queries that are themselves in the gallery."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kinshot.kin.neighbors.found import Classes, Kinship


@dataclass(frozen=True, eq=False)
class Without(Kinship):
    """A query meets no reference of its own key: what it would find there is neither found nor missed.

    With keys that stand for identity and camera that is the rule of re-identification (`camera_rule`); with the number of each query's own
    row among the references, a gallery that holds the queries.

    Args:
        of: who is kin to whom.
        keys: of every query, int64 (Q,), -1 where it may meet all references.
        references: key of every reference (N,), at least 0.
        itself: whether the queries are ranked among themselves, so that none meets itself anyhow.
    """

    of: Kinship
    keys: np.ndarray
    references: np.ndarray
    itself: bool = False

    def among(self, rows: slice, index: np.ndarray) -> np.ndarray:
        """As in `Kinship`."""
        return self.of.among(rows, index) & self.kept(rows, index)

    def total(self, rows: slice) -> np.ndarray:
        """As in `Kinship`."""
        index, there = self._barred(rows)
        if not index.shape[1]:
            return self.of.total(rows)
        found: np.ndarray = self.of.total(rows) - (self.of.among(rows, index) & there).sum(axis=1)
        return found

    def gains(self, rows: slice, index: np.ndarray) -> np.ndarray | None:
        """As in `Kinship`."""
        gains = self.of.gains(rows, index)
        return None if gains is None else gains * self.kept(rows, index)

    def best(self, rows: slice, k: int) -> np.ndarray | None:
        """As in `Kinship`."""
        index, there = self._barred(rows)
        found, gains = self.of.best(rows, k + index.shape[1]), self.of.gains(rows, index) if index.shape[1] else None
        if found is None or gains is None:
            return None if found is None else found[:, :k]
        for column in range(index.shape[1]):  # one of the equal ones goes, and those behind it move up
            same = (found == gains[:, column, None]) & there[:, column, None]
            gone = np.where(same.any(axis=1), same.argmax(axis=1), found.shape[1])
            further = np.minimum(np.arange(found.shape[1]) + (np.arange(found.shape[1]) >= gone[:, None]), found.shape[1] - 1)
            found = np.take_along_axis(found, further, axis=1)
        return found[:, :k]

    def kept(self, rows: slice, index: np.ndarray) -> np.ndarray:
        """As in `Kinship`."""
        found: np.ndarray = self.references[index] != self.keys[rows, None]
        inner = self.of.kept(rows, index)
        return found if inner is None else found & inner

    @property
    def barred(self) -> int:
        """As in `Kinship`."""
        return self._sorted[3] + self.of.barred

    @property
    def classes(self) -> Classes | None:
        """As in `Kinship`."""
        return self.of.classes

    @cached_property
    def _sorted(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
        """References by key, where those of each query's begin, how many they are, and the most of that."""
        order = np.argsort(self.references, kind="stable")
        first, last = (np.searchsorted(self.references[order], self.keys, side=side) for side in ("left", "right"))  # type: ignore[call-overload]
        return order, first, last - first, int((last - first).max(initial=0))

    def _barred(self, rows: slice) -> tuple[np.ndarray, np.ndarray]:
        """References that each query does not meet, int64 (q, m), and whether the place holds one (and not the query itself)."""
        order, first, count, most = self._sorted
        place = np.arange(most)
        index = order[np.minimum(first[rows, None] + place, len(order) - 1)]
        there = place < count[rows, None]
        if self.itself:
            there &= index != np.arange(*rows.indices(len(self.keys)))[:, None]
        return index, there


def camera_rule(
    of: Kinship, identities: np.ndarray, cameras: np.ndarray, others: np.ndarray | None = None, cameras_of_others: np.ndarray | None = None
) -> Without:
    """Kinship without pairs of one identity under one camera: a person is to be found under the others.

    Junk, such as detections of nobody, is left out of the references before anything is ranked; distractors are references of an identity
    that no query has.

    Paper: Zheng et al., 2015, Scalable person re-identification: a benchmark (Market-1501), ICCV

    Args:
        of: who is kin, of these queries and references.
        identities: of every query, int64 (Q,), from 0.
        cameras: of every query (Q,), from 0; -1 is an unknown one, under which nobody is left out.
        others: identity of every reference (N,); None where the queries are ranked among themselves.
        cameras_of_others: camera of every reference (N,), likewise.
    """
    itself = others is None or cameras_of_others is None
    identity, camera = (identities, cameras) if others is None or cameras_of_others is None else (others, cameras_of_others)
    width = int(max(cameras.max(initial=0), camera.max(initial=0))) + 2
    keys = np.where(cameras < 0, -1, identities * width + cameras)
    return Without(of, keys, identity * width + np.where(camera < 0, width - 1, camera), itself)
