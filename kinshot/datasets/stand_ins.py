"""A set of samples as it was when a run began: a few that have gone or changed since have others of their classes in their places.

A run keeps state by the numbers of samples, and draws by them; so the numbers stay, whatever happens to a file.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np
import torch

from kinshot.core.rng import keyed_numpy
from kinshot.datasets.base import Indices, Source
from kinshot.datasets.files import digest
from kinshot.datasets.identity import Chunk
from kinshot.datasets.survey import named

MOST_GONE = 0.05
"""Above this share a set counts as another one; a single sample may always be gone."""


def sample_keys(source: Source) -> np.ndarray:
    """What each sample is: a hash of its content and the name of its class, uint8 (N, 16)."""
    if isinstance(source, StandIns):
        return source.keys
    names = [""] * len(source) if source.labels is None else [source.class_names[label] for label in source.labels]
    content = source.digests(np.arange(len(source))).tolist() if len(source) else []
    keys = [bytes.fromhex(digest(of + name.encode("utf-8", "surrogatepass"))) for of, name in zip(content, names, strict=True)]
    return np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(len(source), 16)


class StandIns(Source):
    """The samples that a run began with, in their old order, from the source that holds most of them now; made by `as_begun`.

    Attributes:
        keys: `sample_keys` of the run's beginning.
        gone: numbers of the samples that others stand in for.
    """

    def __init__(
        self, now: Source, places: np.ndarray, class_names: list[str], keys: np.ndarray, gone: np.ndarray, fingerprint: str
    ) -> None:
        labels = None if now.labels is None else _renumbered(now, class_names)[places]
        super().__init__(
            now.name,
            now.fields,
            labels,
            class_names,
            len(places),
            **now.beside(places),
        )
        self.in_memory = now.in_memory
        self.files = None if now.files is None else [now.files[place] for place in places]
        self.now, self.places, self.keys, self.gone = now, places, keys, gone
        self._fingerprint = fingerprint

    def _load(self, rows: np.ndarray, field: str) -> torch.Tensor:
        return self.now.load(self.places[rows], (field,))[field]

    def digests(self, indices: Indices) -> np.ndarray:
        """Hashes of what is loaded at the run's own numbers."""
        return self.now.digests(self.places[np.asarray(indices, dtype=np.int64)])

    def note(self) -> str:
        """What stands in for what, as one line."""
        unused = len(self.now) - len(np.unique(self.places))
        counts = np.unique([] if self.labels is None else self.labels[self.gone], return_counts=True)
        of = named(f"{count} of {self.class_names[int(label)]}" for label, count in zip(*counts, strict=True))
        return (
            f"{len(self.gone)} of the {len(self)} samples that the run began with are gone or changed{f' ({of})' if of else ''}: "
            f"{'others of their classes stand' if of else 'others stand'} in for them"
            + (f"; {unused} that were not there are left out" if unused else "")
        )

    def _content(self) -> Iterable[Chunk]:
        yield self.keys


def as_begun(now: Source, keys: np.ndarray, labels: np.ndarray, fingerprint: str) -> StandIns | None:
    """The samples that a run began with, or None where `now` is another set: too much is gone, or a whole class.

    Args:
        now: what the data holds now.
        keys: `sample_keys` of the run's source, uint8 (N, 16).
        labels: its labels, int64 (N,), -1 without any.
        fingerprint: of the run's source.
    """
    rows: dict[bytes, list[int]] = defaultdict(list)
    for row, key in enumerate(sample_keys(now)):
        rows[key.tobytes()].append(row)
    places = np.array([rows[key.tobytes()].pop(0) if rows[key.tobytes()] else -1 for key in keys], dtype=np.int64)
    gone = np.flatnonzero(places < 0)
    if now.graph is not None or len(gone) > max(1, MOST_GONE * len(keys)) or (now.labels is None) != bool((labels < 0).all()):
        return None
    present = {label: np.flatnonzero((labels == label) & (places >= 0)) for label in np.unique(labels).tolist()}
    if not all(map(len, present.values())) or (now.labels is not None and list(present) != list(range(len(present)))):
        return None
    for row in gone.tolist():
        own = present[int(labels[row])]
        places[row] = places[own[keyed_numpy(0, "stand-in", row).integers(len(own))]]
    names = [] if now.labels is None else [now.class_names[now.labels[places[present[label][0]]]] for label in sorted(present)]
    return StandIns(now, places, names, keys, gone, fingerprint)


def _renumbered(now: Source, names: list[str]) -> np.ndarray:
    """Labels of `now` as numbers in `names`, -1 for classes that are not among them."""
    number = {name: label for label, name in enumerate(names)}
    return np.array([number.get(name, -1) for name in now.class_names], dtype=np.int64)[np.asarray(now.labels)]
