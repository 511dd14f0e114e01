"""What is like nothing else: how far the k-th nearest other image is.

The distance to the k-th nearest neighbour is the oldest of such scores and, over many data sets and rivals, hard to beat; of features of
trained networks at unit length too. The local outlier factor divides it by that of the neighbours, and so calls a picture at the border of
a dense crowd as strange as one far from everything, which in a folder of photographs is rarely what is looked for.

Paper: Ramaswamy, Rastogi, Shim, 2000, Efficient algorithms for mining outliers from large data sets; Campos et al., 2016, On the evaluation
of unsupervised outlier detection; Sun, Ming, Zhu, Li, 2022, arXiv 2204.06507.
"""

from __future__ import annotations

import numpy as np
import torch

from kinshot.core.errors import ConfigError
from kinshot.index.nearest import Shelves

K = 10


def strangeness(shelves: Shelves, k: int = K) -> tuple[np.ndarray, int]:
    """1 minus the cosine to the k-th nearest other row, float32 (N,), and k, which is all others where there are fewer.

    Raises ConfigError for a k below 1, or where there is but one row.
    """
    if k < 1:
        raise ConfigError(f"--k: outliers are told by their k-th nearest neighbour, k at least 1, got {k}")
    if shelves.count < 2:
        raise ConfigError("the index has one image, and an outlier is one among others: index more")
    k = min(k, shelves.count - 1)
    return 1 - shelves.others(torch.arange(shelves.count), k).value[:, k - 1].numpy(), k
