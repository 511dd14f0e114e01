"""How well closeness tells pairs of kin from pairs of strangers: TAR at FAR, equal error rate, and the area under the curve of both.

A pair is accepted where its score reaches a threshold; pairs with equal scores are accepted together or not at all, in whichever order
they stand. All are pure functions of the scores (P,) and of which pairs are kin, bool (P,); they raise DataError where there is no pair of
either sort, or a score that is not finite.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kinshot.core.errors import ConfigError, DataError


@dataclass(frozen=True, eq=False)
class Curve:
    """Rates at every threshold, from the one that accepts nothing to the one that accepts all.

    Args:
        far: share of the strangers that are accepted, ascending from 0 to 1 (T,).
        tar: share of the kin that are accepted (T,).
        threshold: lowest score that is accepted, descending from infinity (T,).
    """

    far: np.ndarray
    tar: np.ndarray
    threshold: np.ndarray


def roc(scores: np.ndarray, same: np.ndarray) -> Curve:
    """The rates of both sorts of pairs at every threshold that tells some of them apart."""
    score, kin = np.asarray(scores, dtype=np.float64), np.asarray(same, dtype=bool)
    if score.ndim != 1 or score.shape != kin.shape:
        raise DataError(f"verification needs one score and one answer a pair, got shapes {score.shape} and {kin.shape}")
    if not np.isfinite(score).all():
        raise DataError(f"the score of pair {int(np.flatnonzero(~np.isfinite(score))[0])} is not finite: check what made it")
    if kin.all() or not kin.any():
        raise DataError(f"verification needs pairs of kin and of strangers, got {int(kin.sum())} and {int((~kin).sum())}: give both")
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
    accepted = np.concatenate([[0], np.cumsum(kin[order])[ends]])
    of_all = np.concatenate([[0], ends + 1])
    threshold = np.concatenate([[np.inf], score[order][ends]])
    return Curve((of_all - accepted) / (~kin).sum(), accepted / kin.sum(), threshold)


def tar_at_far(scores: np.ndarray, same: np.ndarray, far: float = 1e-3) -> float:
    """Share of the kin that are accepted at the lowest threshold that accepts at most a share `far` of the strangers.

    With fewer than 1 / far strangers that is a threshold that accepts none of them.

    Paper: Klare et al., 2015, Pushing the frontiers of unconstrained face detection and recognition: IARPA Janus Benchmark A, CVPR

    Args:
        scores: larger the nearer (P,).
        same: which pairs are kin, bool (P,).
        far: from 0 to 1.

    Raises:
        ConfigError: far out of range.
    """
    if not 0 <= far <= 1:
        raise ConfigError(f"far: expected a share from 0 to 1, got {far}")
    curve = roc(scores, same)
    return float(curve.tar[np.searchsorted(curve.far, far, side="right") - 1])


def eer(scores: np.ndarray, same: np.ndarray) -> float:
    """Equal error rate: the share of strangers that are accepted where as large a share of kin is refused; 0 is best.

    Between thresholds both rates change along a line.
    """
    curve = roc(scores, same)
    excess = curve.far - (1 - curve.tar)  # from -1 to 1, never falling
    after = int(np.argmax(excess >= 0))
    weight = -excess[after - 1] / (excess[after] - excess[after - 1])
    return float(curve.far[after - 1] + weight * (curve.far[after] - curve.far[after - 1]))


def auc(scores: np.ndarray, same: np.ndarray) -> float:
    """Area under the curve: how often a pair of kin has a higher score than one of strangers, equal ones counting half."""
    curve = roc(scores, same)
    return float(np.sum(np.diff(curve.far) * (curve.tar[1:] + curve.tar[:-1])) / 2)
