"""Logistic regression on the support features, one fit per episode."""

from __future__ import annotations

import warnings
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from kinshot.core.errors import ConfigError, DataError
from kinshot.fewshot import HEADS
from kinshot.fewshot.logistic_regression import fit_logistic
from kinshot.fewshot.transforms import one_hot
from kinshot.fewshot.transforms import transform as transformed


@HEADS.register("logistic", scores="log_probabilities")
def logistic(
    support: Tensor,
    labels: Tensor,
    query: Tensor,
    ways: int,
    *,
    C: float = 1.0,
    max_iter: int = 1000,
    solver: Literal["batched", "sklearn"] = "batched",
    transform: Literal["none", "l2n", "cl2n"] = "l2n",
    base_mean: Tensor | None = None,
) -> Tensor:
    """Logistic regression fitted to each episode's support set (linear probe, RFS); inductive.

    L2 penalty on the weights and none on the intercept, softmax over three ways or more and the sigmoid for two, fitted
    in float64: the minimum of scikit-learn's `LogisticRegression`. `batched` fits all episodes at once, to a gradient of
    1e-10 of its start; `sklearn` runs scikit-learn on one after the other, to its own, looser tolerance. Scores are log-probabilities.

    Paper: Tian, Wang, Krishnan, Tenenbaum, Isola, 2020, arXiv 2003.11539 (RFS; without distillation)
    Defaults: the authors' code (WangYueFt/rfs): scikit-learn's regression on unit features.

    Args:
        support: (E, S, D) support features, rows in any order.
        labels: int64 (E, S), ways 0..W-1; a row with -1 is ignored.
        query: (E, Q, D) query features.
        ways: W.
        C: inverse of the penalty's strength, positive.
        max_iter: most solver iterations in one fit.
        solver: all episodes at once (batched), or scikit-learn for each (sklearn); same minimum.
        transform: what is done to every feature first; cl2n needs the base classes.
        base_mean: mean base feature (D,), for `cl2n`.

    Returns:
        Log-probabilities (E, Q, W) in the dtype and on the device of `query`.

    Raises:
        ConfigError: C or max_iter not positive, or `cl2n` without `base_mean`.
        DataError: a way without support, or a fit that did not converge.

    >>> support = torch.tensor([[[1.0, 0.0], [0.8, 0.2], [0.1, 0.9]]])  # one episode of three images, two features each
    >>> labels, query = torch.tensor([[0, 0, 1]]), torch.tensor([[[0.9, 0.3], [0.2, 0.7]]])
    >>> kinshot.heads.logistic(support, labels, query, ways=2, C=10).exp().round(decimals=2)
    tensor([[[0.8400, 0.1600],
             [0.3000, 0.7000]]])
    """
    if C <= 0 or max_iter < 1:
        raise ConfigError(f"head logistic: C and max_iter must be positive, got C={C} and max_iter={max_iter}")
    x, q = transformed(support, transform, base_mean).double(), transformed(query, transform, base_mean).double()
    hot = one_hot(labels, ways, x)  # every way has support, so that the columns of each fit are the ways
    if solver == "batched":
        weights, intercepts = fit_logistic(x, hot, C, max_iter=max_iter)
        return (q @ weights + intercepts.unsqueeze(1)).log_softmax(-1).to(query.dtype)
    rows, y, asked = x.cpu().numpy(), labels.cpu().numpy(), q.cpu().numpy()
    scores = np.stack([_fit_predict(rows[e], y[e], asked[e], C, max_iter) for e in range(len(rows))])
    return torch.from_numpy(scores).to(query)


def _fit_predict(x: np.ndarray, y: np.ndarray, q: np.ndarray, C: float, max_iter: int) -> np.ndarray:
    # imported here: listing or checking heads must not load scikit-learn
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=C, max_iter=max_iter)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", ConvergenceWarning)
            model.fit(x, y)
    except ConvergenceWarning as error:
        raise DataError(
            f"head logistic: a fit did not converge in max_iter={max_iter} iterations (C={C}): use transform=l2n, lower C or raise max_iter"
        ) from error
    return model.predict_log_proba(q)
