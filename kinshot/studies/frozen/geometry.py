"""How features lie: alignment of classes, uniformity and effective rank, of the queries."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from kinshot.core.errors import DataError
from kinshot.learn.gauges import effective_rank
from kinshot.studies.frozen.outcome import Outcome
from kinshot.studies.frozen.parts import Embedded
from kinshot.studies.frozen.settings import Settings

ALIGNMENT = "alignment (pairs of one class, alpha=2)"
UNIFORMITY = "uniformity (t=2)"
RANK = "effective rank"
_ROWS = 1024


def measured(given: Embedded, settings: Settings) -> Outcome:
    """The three figures of the queries."""
    z = given.queries
    return Outcome({
        ALIGNMENT: [class_alignment(z, given.query_labels)],
        UNIFORMITY: [all_uniformity(z)],
        RANK: [float(effective_rank(z))],
    })  # fmt: skip


def class_alignment(z: Tensor, labels: np.ndarray) -> float:
    """Mean squared distance of two rows at unit length (N, D) of one class, over all such pairs: 0 is perfect, 2 is chance.

    Paper: Wang, Isola, 2020, arXiv 2005.10242, whose pairs are two views of a sample; those of one class have more to be told by.

    Raises DataError where no class has two rows.
    """
    u = normalize(z.double(), dim=1)
    classes, place, counts = np.unique(labels, return_inverse=True, return_counts=True)
    pairs = float((counts * (counts - 1)).sum())
    if not pairs:
        raise DataError(f"alignment compares samples of one class, and none of {len(classes)} classes has two: give more samples")
    lengths = u.square().sum(1)  # 1, or 0 of a row of zeros
    sums = u.new_zeros(len(classes), u.shape[1]).index_add_(0, torch.from_numpy(place), u)
    # |a - b|^2 = |a|^2 + |b|^2 - 2 ab; all ab of a class are its squared sum, without each row's with itself
    both = 2 * float((torch.from_numpy(counts[place] - 1) * lengths).sum())
    inner = float(sums.square().sum() - lengths.sum())
    return (both - 2 * inner) / pairs


def all_uniformity(z: Tensor, t: float = 2.0) -> float:
    """Log of the mean of exp(-t distance^2) over all pairs of rows at unit length (N, D), a chunk of rows at a time.

    Paper: Wang, Isola, 2020, arXiv 2005.10242.
    """
    u = normalize(z.float(), dim=1)
    length = u.square().sum(1)
    total = 0.0
    for first in range(0, len(u), _ROWS):
        part = slice(first, first + _ROWS)
        squared = (length[part, None] + length - 2 * u[part] @ u.T).clamp_min(0)
        potential = torch.exp(-t * squared)
        potential[torch.arange(len(potential)), torch.arange(first, first + len(potential))] = 0
        total += float(potential.sum(dtype=torch.float64))
    return math.log(total / (len(u) * (len(u) - 1)))


def said(settings: Settings) -> dict[str, Any]:
    """What the protocol says of it."""
    return {
        "of": "the queries",
        "alignment": "mean squared distance of all pairs of one class, at unit length (Wang and Isola 2020, whose pairs are views)",
        "uniformity": "log of the mean of exp(-2 distance^2) over all pairs, features at unit length (Wang and Isola 2020)",
        "effective rank": "exp of the entropy of the singular values, features as they are (RankMe, Garrido et al. 2023)",
    }
