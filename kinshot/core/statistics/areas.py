"""Areas under curves."""

from __future__ import annotations

import numpy as np


def macro_auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Mean over classes of the chance that a member has a higher score of its class than another sample, ties half; in [0, 1].

    Over the classes that have members and do not have all samples.

    Args:
        scores: (M, C), of every class.
        labels: (M,), 0..C-1.
    """
    from scipy.stats import rankdata

    found = []
    for label in range(scores.shape[1]):
        member = labels == label
        inside, outside = int(member.sum()), int((~member).sum())
        if inside and outside:
            ranks = rankdata(scores[:, label])[member].sum()
            found.append((ranks - inside * (inside + 1) / 2) / (inside * outside))
    return float(np.mean(found))
