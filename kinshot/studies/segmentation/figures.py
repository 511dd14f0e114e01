"""Figures of runs on the same episodes, with the intervals of what was drawn: episodes (or classes) again, and seeds.

A rule's figure is no mean over episodes, so that its part of the interval is had by bootstrap (`kinshot.studies.sampled`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from kinshot.core.rng import keyed_seed
from kinshot.core.statistics.bootstrap import DRAWS
from kinshot.segmentation.counts import Counts
from kinshot.segmentation.intervals import Over, drawn_figures
from kinshot.segmentation.rules import Rule
from kinshot.studies.sampled import Sampled


def sampled(counts: Mapping[int, Counts], rule: Rule, over: Over, seed: int, fold: int | None = None, draws: int = DRAWS) -> Sampled:
    """What a rule makes of the counts of runs, by their seeds, on the episodes of a fold.

    Raises DataError for fewer than two episodes, or classes.
    """
    key = keyed_seed(seed, "segmentation/fold", -1 if fold is None else fold)
    quotients = {number: rule(one) for number, one in counts.items()}
    again = {number: drawn_figures(one, over, key, draws) for number, one in quotients.items()}
    return Sampled({number: one.value for number, one in quotients.items()}, again, len(next(iter(counts.values()))))


def mean_of_folds(folds: Sequence[Sampled]) -> Sampled:
    """The mean over folds; by seed where all folds have the same ones, else of the folds' means as if of one run."""
    seeds = set(folds[0].each)
    if any(set(fold.each) != seeds for fold in folds):
        folds = [_merged(fold) for fold in folds]
        seeds = set(folds[0].each)
    each = {seed: float(np.mean([fold.each[seed] for fold in folds])) for seed in sorted(seeds)}
    draws = {seed: np.mean([fold.draws[seed] for fold in folds], axis=0) for seed in sorted(seeds)}
    return Sampled(each, draws, sum(fold.count for fold in folds))


def _merged(of: Sampled) -> Sampled:
    return Sampled({0: float(np.mean(list(of.each.values())))}, {0: np.mean(list(of.draws.values()), axis=0)}, of.count)
