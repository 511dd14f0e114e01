"""A multi-class support vector machine on the support features, one for each episode."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.fewshot import HEADS
from kinshot.fewshot.crammer_singer import solve_crammer_singer
from kinshot.fewshot.transforms import one_hot
from kinshot.fewshot.transforms import transform as transformed


@HEADS.register("svm", scores="similarities")
def svm(
    support: Tensor,
    labels: Tensor,
    query: Tensor,
    ways: int,
    *,
    C: float = 0.1,
    scale: float = 1.0,
    diagonal: float = 1.0,
    tolerance: float = 1e-4,
    max_iter: int = 10000,
    transform: Literal["none", "l2n", "cl2n"] = "none",
    base_mean: Tensor | None = None,
) -> Tensor:
    """Multi-class support vector machine fitted to each episode (MetaOptNet-SVM); inductive.

    The machine of Crammer and Singer without bias: minimise 1/2 sum_m ||w_m||^2 + C sum_i xi_i subject to
    <w_y_i, x_i> - <w_m, x_i> >= 1 - xi_i for every other m; score = scale * <w_m, q>. With diagonal=0 the minimum of
    scikit-learn's `LinearSVC(multi_class="crammer_singer", fit_intercept=False)`. All episodes are solved at once in their duals, in
    float64, until each one's duality gap says that its weights are within `tolerance`.

    Paper: Lee, Maji, Ravichandran, Soatto, 2019, arXiv 1904.03758; Crammer, Singer, 2001, JMLR 2
    Departures: the scale is learned in the paper and a setting here; the solver is our own.
    Defaults: the authors' code (kjunelee/MetaOptNet, SVM-CS), which adds 1 to the kernel's diagonal.

    Args:
        support: (E, S, D) support features, rows in any order.
        labels: int64 (E, S), ways 0..W-1; a row with -1 is ignored.
        query: (E, Q, D) query features.
        ways: W.
        C: cost of a violated margin, positive; 0.1 in the released code.
        scale: factor on the scores, positive; changes no prediction.
        diagonal: added to the diagonal of the kernel matrix, at least 0; with 0 it is the machine of the formula.
        tolerance: bound on the distance of each episode's weights from the optimum, positive.
        max_iter: most solver iterations.
        transform: what is done to every feature first; cl2n needs the base classes.
        base_mean: mean base feature (D,), for `cl2n`.

    Returns:
        Scores (E, Q, W).

    Raises:
        ConfigError: a setting out of its range, or `cl2n` without `base_mean`.
        DataError: a way without support, or an episode that did not reach the tolerance.

    >>> support = torch.tensor([[[1.0, 0.0], [0.8, 0.2], [0.1, 0.9]]])  # one episode of three images, two features each
    >>> labels, query = torch.tensor([[0, 0, 1]]), torch.tensor([[[0.9, 0.3], [0.2, 0.7]]])
    >>> kinshot.heads.svm(support, labels, query, ways=2).argmax(-1)
    tensor([[0, 1]])
    """
    for name, value in (("C", C), ("scale", scale), ("tolerance", tolerance), ("max_iter", max_iter)):
        if value <= 0:
            raise ConfigError(f"head svm: {name} must be positive, got {value}")
    if diagonal < 0:
        raise ConfigError(f"head svm: diagonal must be at least 0, got {diagonal}")
    x = transformed(support, transform, base_mean).double()
    kernel = x @ x.mT + diagonal * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    dual = solve_crammer_singer(kernel, one_hot(labels, ways, x), C, tolerance=tolerance, max_iter=max_iter)
    return scale * (transformed(query, transform, base_mean) @ (x.mT @ dual).to(query.dtype))
