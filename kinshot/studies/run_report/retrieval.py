"""Retrieval against k: how often kin are found, now and before training, beside what chance would find."""

from __future__ import annotations

import numpy as np

from kinshot.core.statistics.means import mean_of
from kinshot.kin.measuring import answered
from kinshot.kin.metric_names import wanted_metric
from kinshot.kin.neighbors.found import ByLabel
from kinshot.kin.neighbors.without import Without
from kinshot.studies.run_report.content import At, Retrieval
from kinshot.studies.run_report.looked import Looked

KS = (1, 2, 5, 10, 20, 50)
METRICS = ("recall", "precision")
NOW, BEFORE = "this run", "before training"


def retrieval_of(looked: Looked) -> Retrieval | None:
    """Recall and precision at every k of KS that there are others for; None without labels, or where no sample has kin."""
    labels = looked.labels
    if labels is None:
        return None
    kin = Without(ByLabel(labels), looked.copies, looked.copies, itself=True)
    total = kin.total(slice(0, len(labels)))
    copies = np.bincount(looked.copies)[looked.copies]
    others = len(labels) - copies
    asked = total > 0
    if asked.sum() < 2:
        return None
    ks = [k for k in KS if k <= others.min()]
    wanted = [wanted_metric(f"{name}_at_{k}") for name in METRICS for k in ks]
    lines: dict[str, dict[str, list[At]]] = {name: {} for name in METRICS}
    for line, features in ((NOW, looked.features), (BEFORE, looked.before)):
        values = answered(features, kin, wanted).values
        for name in METRICS:
            lines[name][line] = [_at(k, values[f"{name}_at_{k}"]) for k in ks]
    share = 100 * float((total / others)[asked].mean())
    chance = {"recall": chance_recall(total[asked], others[asked], ks), "precision": [share] * len(ks)}
    return Retrieval(int(asked.sum()), int((~asked).sum()), len(labels), lines, chance)


def chance_recall(kin: np.ndarray, others: np.ndarray, ks: list[int]) -> list[float]:
    """In percent, how many queries would find any of their `kin` among k of the `others` drawn at random, for each k."""
    found = []
    for k in ks:
        drawn = np.arange(k)
        miss = np.clip((others - kin)[:, None] - drawn, 0, None) / (others[:, None] - drawn)
        found.append(100 * float((1 - miss.prod(axis=1)).mean()))
    return found


def _at(k: int, values: np.ndarray) -> At:
    over = mean_of(100 * values)
    return At(k, over.mean, max(0.0, over.mean - over.half_width), min(100.0, over.mean + over.half_width))
