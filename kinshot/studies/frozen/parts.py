"""The two sides of an evaluation of frozen features: a labelled bank that is learned from, and queries that are asked for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from kinshot.core.errors import ConfigError, DataError
from kinshot.core.rng import keyed_numpy
from kinshot.datasets.base import Source
from kinshot.recipes.recipe import Choice
from kinshot.samples.spec import Spec
from kinshot.studies.study import labelled


@dataclass(frozen=True, eq=False)
class Side:
    """Labelled samples of a source.

    Args:
        source: where they are.
        rows: which of its samples, int64 (N,).
        labels: the class of each, int64 (N,), as the bank numbers its classes from 0 without gaps.
    """

    source: Source
    rows: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True, eq=False)
class Parts:
    """Bank and queries as encoders of one input meet them, and what was left out of either.

    Args:
        bank: what is learned from, or voted by.
        queries: what is asked for.
        classes: names of the bank's classes.
        left_out: how many samples were left out, by why.
    """

    bank: Side
    queries: Side
    classes: tuple[str, ...]
    left_out: dict[str, int]

    def described(self, share: float, seed: int) -> dict[str, Any]:
        """What the protocol of a result says of the two."""
        drawn = f"a share of {share:g} of each class (seed {seed}), the rest are the queries" if share else ""
        told = {
            "bank": f"{len(self.bank.rows)} samples of {self.bank.source.name}",
            "bank drawn": drawn,
            "queries": f"{len(self.queries.rows)} samples of {self.queries.source.name}",
            "classes": len(self.classes),
        }
        return {**{key: value for key, value in told.items() if value != ""}, **self.left_out}


@dataclass(frozen=True, eq=False)
class Embedded:
    """Features and labels of both sides by one encoder.

    Args:
        bank: (N, D).
        bank_labels: int64 (N,), from 0 without gaps.
        queries: (Q, D).
        query_labels: int64 (Q,), numbered as those of the bank.
    """

    bank: Tensor
    bank_labels: np.ndarray
    queries: Tensor
    query_labels: np.ndarray


def parts_of(bank: Choice | None, queries: Choice, share: float, seed: int, input: Spec) -> Parts:
    """Bank and queries; without a bank of its own, a share of each class of the queries' source is the bank. Classes meet by their names.

    Raises DataError for sources without labels or without a class in common, ConfigError for a bank that is the queries.
    """
    asked, asked_labels = labelled(queries, input, "--data")
    if bank is None:
        known = np.flatnonzero(asked_labels >= 0)
        inside = stratified(asked_labels[known], share, seed, "probe/bank")
        one, other = Side(asked, known[inside], asked_labels[known[inside]]), Side(asked, known[~inside], asked_labels[known[~inside]])
        return _numbered(one, other, asked.class_names, len(asked_labels) - len(known))
    held, held_labels = labelled(bank, input, "--bank")
    if held.fingerprint() == asked.fingerprint():
        raise ConfigError(
            f"bank and queries are the same samples ({asked.name}), so that each would find itself: name another split with --bank-split, "
            "draw the bank from them with --bank-share 0.5, or leave --protocol out, which leaves one out"
        )
    place = {name: number for number, name in enumerate(held.class_names)}
    named = np.array([place.get(name, -1) for name in asked.class_names], dtype=np.int64)
    rows, others = (np.flatnonzero(labels >= 0) for labels in (held_labels, asked_labels))
    unlabelled = len(held_labels) - len(rows) + len(asked_labels) - len(others)
    return _numbered(Side(held, rows, held_labels[rows]), Side(asked, others, named[asked_labels[others]]), held.class_names, unlabelled)


def stratified(labels: np.ndarray, share: float, seed: int, purpose: str) -> np.ndarray:
    """Which samples are in a keyed draw of a share of each class, bool (N,): of a class of two or more at least one, never all.

    Args:
        labels: int64 (N,).
        share: of each class, between 0 and 1.
        seed: key of the draw.
        purpose: what it is for, so that draws for several do not coincide.

    Raises:
        DataError: no class of two samples.
    """
    order = keyed_numpy(seed, purpose).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    classes, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
    if not len(classes) or counts.max() < 2:
        raise DataError(f"none of {len(classes)} classes has two samples, so that one could be held out: give more samples")
    wanted = np.where(counts < 2, 0, np.clip(np.rint(share * counts), 1, np.maximum(counts - 1, 1)))
    inside = np.zeros(len(labels), dtype=bool)
    inside[order[np.arange(len(labels)) - np.repeat(starts, counts) < np.repeat(wanted, counts)]] = True
    return inside


def _numbered(bank: Side, queries: Side, names: Any, unlabelled: int) -> Parts:
    """Both sides with the bank's classes numbered without gaps; queries of other classes are left out, and counted."""
    classes, labels = np.unique(bank.labels, return_inverse=True)
    known = np.isin(queries.labels, classes)
    if len(classes) < 2:
        raise DataError(f"the bank ({bank.source.name}) has samples of {len(classes)} classes, at least 2 are needed: give another --bank")
    if not known.any():
        raise DataError(
            f"no sample of {queries.source.name} is of a class of {bank.source.name}, by name: give --bank with the same classes, or draw "
            "the bank from --data with --bank-share 0.5"
        )
    left = {"left out: queries of classes that the bank lacks": int((~known).sum()), "left out: samples without a label": unlabelled}
    asked = Side(queries.source, queries.rows[known], np.searchsorted(classes, queries.labels[known]))
    counted = {why: count for why, count in left.items() if count}
    return Parts(replace(bank, labels=labels), asked, tuple(names[c] for c in classes), counted)
