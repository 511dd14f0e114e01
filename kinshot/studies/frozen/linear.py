"""The linear probe: logistic regression on frozen features, its penalty chosen on samples held out of the bank."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from kinshot.core.errors import DataError
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
_TOLERANCE = 1e-3
"""Of the largest gradient entry, about that of scikit-learn."""
_MAX_ITER = 3000
Weights = tuple[Tensor, Tensor]


def measured(given: Embedded, settings: Settings) -> Outcome:
    """Accuracy on the queries of the classifier that is fitted to the whole bank with the penalty that was best on a part of it."""
    choice = choose_penalty(given.bank, given.bank_labels, settings.seed)
    classifier = Classifier.fit(given.bank, given.bank_labels, choice.penalty, start=choice.weights)
    accuracy = classifier.accuracy(given.queries, given.query_labels)
    best = f"{choice.penalty:g}, {100 * choice.tried[choice.penalty]:.2f} % on held-out samples"
    return Outcome({METRIC: [100 * accuracy]}, {"penalty": best})


@dataclass(frozen=True, eq=False)
class Classifier:
    """Logistic regression on features that are standardised by those that it was fitted to.

    Args:
        scaling: brings features to mean 0 and spread 1.
        weights: (1, D, W) and intercepts (1, W).
    """

    scaling: Scaling
    weights: Weights

    @classmethod
    def fit(
        cls, features: Tensor, labels: np.ndarray, penalty: float, *, start: Weights | None = None, tolerance: float = _TOLERANCE
    ) -> Classifier:
        """The minimum of mean cross-entropy + penalty / 2 * squared weights on features (N, D) of classes 0.. int64 (N,)."""
        scaling = Scaling.of(features)
        return cls(scaling, _fitted(scaling(features), labels, penalty, start, tolerance))

    def accuracy(self, features: Tensor, labels: np.ndarray) -> float:
        """Share of samples (Q, D) that are put into their class (Q,)."""
        return _right(self.scaling(features), labels, self.weights)


@dataclass(frozen=True, eq=False)
class Choice:
    """The penalty that was chosen, what each that was tried had right of the held-out samples, and the weights that it gave."""

    penalty: float
    tried: dict[float, float]
    weights: Weights


def choose_penalty(features: Tensor, labels: np.ndarray, seed: int) -> Choice:
    """The penalty whose classifier is best on a held-out share of each class.

    From the strongest on, each beginning where the one before ended; after two weaker ones in a row that are worse than the best no
    further is tried, nor after one whose minimum is not found. Of equal ones the strongest.

    Args:
        features: (N, D).
        labels: int64 (N,), from 0 without gaps.
        seed: key of what is held out.

    Raises:
        DataError: no class of two samples, or no fit that converged.
    """
    held = stratified(labels, HELD_OUT, seed, "probe/validation")
    rest, asked = torch.from_numpy(np.flatnonzero(~held)), torch.from_numpy(np.flatnonzero(held))
    scaling = Scaling.of(features[rest])
    x, queries = scaling(features[rest]), scaling(features[asked])
    tried: dict[float, float] = {}
    fitted: dict[float, Weights] = {}
    weights, worse = None, 0
    for penalty in PENALTIES:
        try:
            weights = _fitted(x, labels[~held], penalty, weights, _TOLERANCE)
        except DataError:
            if not tried:
                raise
            break  # weaker ones are harder still
        accuracy = _right(queries, labels[held], weights)
        worse = worse + 1 if accuracy < max(tried.values(), default=0) else 0
        tried[penalty], fitted[penalty] = accuracy, weights
        if worse == _PATIENCE:
            break
    best = max(tried, key=lambda one: tried[one])
    return Choice(best, tried, fitted[best])


def _fitted(x: Tensor, labels: np.ndarray, penalty: float, start: Weights | None, tolerance: float) -> Weights:
    hot = one_hot(torch.from_numpy(labels), int(labels.max()) + 1).double()
    return fit_logistic(x[None], hot[None], 1 / (penalty * len(x)), max_iter=_MAX_ITER, tolerance=tolerance, start=start)


def _right(x: Tensor, labels: np.ndarray, weights: Weights) -> float:
    return float(((x @ weights[0][0] + weights[1][0]).argmax(1).numpy() == labels).mean())


def said(settings: Settings) -> dict[str, Any]:
    """What the protocol says of it."""
    return {
        "classifier": "logistic regression, mean cross-entropy + penalty / 2 * squared weights, full batch L-BFGS to its minimum",
        "features": "standardised by the mean and spread of what is fitted",
        "penalty": f"chosen from {', '.join(f'{one:g}' for one in PENALTIES)} on {100 * HELD_OUT:g} % of each class of the bank "
        f"(seed {settings.seed}), then fitted to all of the bank; two weaker ones in a row that are worse than the best, or one whose "
        f"minimum is not found in {_MAX_ITER} steps, end the search",
    }
