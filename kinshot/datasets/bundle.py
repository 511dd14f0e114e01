"""Sources of bundles: all sensors of a sample in one row, and any source of several sensors as an encoder of bundles takes it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch

from kinshot.core.errors import DataError
from kinshot.datasets.base import Source
from kinshot.datasets.identity import Chunk
from kinshot.samples.bundle import BundleSpec
from kinshot.samples.spec import Spec

BUNDLE = BundleSpec.kind


class Bundle(Source):
    """The samples of another source, its modalities side by side in one row (`kinshot.samples.bundle`), NaN for what a sample lacks.

    Samples that have none of the modalities are left out, which a note says.

    Args:
        parent: a source of one or several fields.
        spec: the modalities, in order; fields of the parent are brought to their form, and those that the parent lacks are absent in every
            sample. None takes all fields of the parent as they are.

    Raises:
        DataError: a parent without any of the modalities, or whose samples are of another kind, rate or number of channels.
    """

    def __init__(self, parent: Source, spec: BundleSpec | None = None) -> None:
        made_for = BundleSpec.of(parent.fields) if spec is None else spec
        found = [name for name in made_for.names if name in parent.fields]
        if not found:
            have, want = ", ".join(parent.fields), ", ".join(made_for.names)
            raise DataError(f"{parent.name} has {have}, but the encoder was made for {want}: choose data with one of these, by these names")
        there = np.ones(len(parent), dtype=bool)
        if all(name in parent.present for name in found):
            there = np.any([parent.present[name] for name in found], axis=0)
        rows = np.flatnonzero(there)
        labels = None if parent.labels is None else parent.labels[rows]
        beside = {**parent.beside(rows), "present": {}}
        graph = None if parent.graph is None else parent.graph.subgraph(rows)
        super().__init__(parent.name, made_for, labels, parent.class_names, len(rows), graph=graph, **beside)
        self.parent, self.rows, self.found, self.in_memory = parent, rows, found, parent.in_memory
        self.files = None if parent.files is None else [parent.files[row] for row in rows.tolist()]
        left, lacking = len(parent) - len(rows), [name for name in made_for.names if name not in found]
        self.notes = [
            *parent.notes,
            *([f"{left} of {len(parent)} samples have none of {', '.join(found)} and are left out"] if left else []),
            *([f"{parent.name} has no {', '.join(lacking)}: absent in every sample"] if lacking else []),
        ]
        for name in found:
            made_for.modalities[name].check_source(parent.only(name))

    def said(self) -> list[str]:
        """What was left out and what some samples lack."""
        return [f"{self.name}: {note}" for note in self.notes]

    def _load(self, rows: np.ndarray, field: str) -> torch.Tensor:
        spec: BundleSpec = self.spec  # type: ignore[assignment]  # it was made with one
        given = self.parent.load(self.rows[rows], self.found)
        return spec.join({name: part.values(part.fit(given[name])) for name, part in spec.modalities.items() if name in given})

    def _content(self) -> Iterable[Chunk]:
        yield self.parent.fingerprint().encode()
        yield repr((self.spec.meets, self.spec.shape)).encode()


def as_taken(source: Source, spec: Spec) -> Source:
    """A source as a network made for samples of `spec` takes it: one of several sensors as bundles where it takes bundles.

    Raises DataError where they have no modality in common.
    """
    if isinstance(spec, BundleSpec) and BUNDLE not in source.fields:
        return Bundle(source, spec)
    return source
