"""Accuracy of the neighbours' vote."""

from __future__ import annotations

import numpy as np

from kinshot.core.errors import ConfigError
from kinshot.kin.metrics import METRICS
from kinshot.kin.neighbors.retrieved import Retrieved
from kinshot.kin.neighbors.votes import most_voted, softened


@METRICS.register("knn_accuracy", depth="k")
def knn_accuracy(found: Retrieved, *, k: int = 20, temperature: float = 0.1) -> np.ndarray:
    """Whether the votes of the k nearest elect the query's own class.

    Each votes with weight exp(closeness / temperature).

    Paper: Wu, Xiong, Yu, Lin, 2018, arXiv 1805.01978 (section 3.4)

    Args:
        k: nearest that vote.
        temperature: sharpness of the votes.

    Raises:
        ConfigError: kin that are not said by labels, or a temperature that is not above 0.
    """
    if found.labels is None or temperature <= 0:
        raise ConfigError(f"knn_accuracy needs labels and a temperature above 0, got {temperature}: give both")
    elected, _ = most_voted(found.labels[:, :k], softened(found.closeness[:, :k], temperature))
    right: np.ndarray = (elected[:, 0] == found.own).astype(np.float64)
    return right
