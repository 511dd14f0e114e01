"""The linear probe: logistic regression on frozen features, its penalty chosen on samples held out of the bank."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from kinshot.fewshot.linear_probe import Scaling
from kinshot.fewshot.logistic_regression import fit_logistic
from kinshot.studies.frozen.outcome import Outcome
from kinshot.studies.frozen.parts import Embedded, stratified
from kinshot.studies.frozen.settings import Settings

METRIC = "linear accuracy, %"
PENALTIES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
"""Penalties on the squared weights that are tried, beside the mean cross-entropy, so that they mean the same for any number of samples."""
HELD_OUT = 0.1
_PATIENCE = 2
_TOLERANCE = 1e-6
_MAX_ITER = 3000


def measured(given: Embedded, settings: Settings) -> Outcome:
    """Accuracy on the queries of the classifier that is fitted to the whole bank with the penalty that was best on a part of it."""
    penalty, tried = choose_penalty(given.bank, given.bank_labels, settings.seed)
    accuracy = _accuracy(given.bank, given.bank_labels, given.queries, given.query_labels, penalty)
    return Outcome({METRIC: [100 * accuracy]}, {"penalty": f"{penalty:g}, {100 * tried[penalty]:.2f} % on held-out samples"})


def choose_penalty(features: Tensor, labels: np.ndarray, seed: int) -> tuple[float, dict[float, float]]:
    """The penalty whose classifier is best on a held-out share of each class, and the accuracy there of all that were tried.

    From the strongest on; after two weaker ones in a row that are worse than the best no further is tried. Of equal ones the strongest.

    Args:
        features: (N, D).
        labels: int64 (N,), from 0 without gaps.
        seed: key of what is held out.

    Raises:
        DataError: no class of two samples, or a fit that did not converge.
    """
    held = stratified(labels, HELD_OUT, seed, "probe/validation")
    fitted, asked = torch.from_numpy(np.flatnonzero(~held)), torch.from_numpy(np.flatnonzero(held))
    tried: dict[float, float] = {}
    worse = 0
    for penalty in PENALTIES:
        accuracy = _accuracy(features[fitted], labels[~held], features[asked], labels[held], penalty)
        worse = worse + 1 if accuracy < max(tried.values(), default=0) else 0
        tried[penalty] = accuracy
        if worse == _PATIENCE:
            break
    return max(tried, key=lambda one: tried[one]), tried


def _accuracy(bank: Tensor, bank_labels: np.ndarray, queries: Tensor, query_labels: np.ndarray, penalty: float) -> float:
    """Share of queries that logistic regression on standardised features puts into their class."""
    scaling = Scaling.of(bank)
    hot = one_hot(torch.from_numpy(bank_labels), int(bank_labels.max()) + 1).double()
    cost = 1 / (penalty * len(bank))
    weights, intercepts = fit_logistic(scaling(bank)[None], hot[None], cost, max_iter=_MAX_ITER, tolerance=_TOLERANCE)
    predicted = (scaling(queries) @ weights[0] + intercepts[0]).argmax(1).numpy()
    return float((predicted == query_labels).mean())


def said(settings: Settings) -> dict[str, Any]:
    """What the protocol says of it."""
    return {
        "classifier": "logistic regression, mean cross-entropy + penalty / 2 * squared weights, full batch L-BFGS to its minimum",
        "features": "standardised by the mean and spread of what is fitted",
        "penalty": f"chosen from {', '.join(f'{one:g}' for one in PENALTIES)} on {100 * HELD_OUT:g} % of each class of the bank "
        f"(seed {settings.seed}), then fitted to all of the bank",
    }
