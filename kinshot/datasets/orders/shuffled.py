"""Every sample at most once an epoch, in a shuffled order."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from kinshot.core.errors import ConfigError
from kinshot.core.rng import keyed_generator
from kinshot.datasets.orders import ORDERS


@ORDERS.register("shuffled")
def shuffled(labels: np.ndarray, batch_size: int, steps: int, seed: int) -> Callable[[int], torch.Tensor]:
    """A permutation of all samples, drawn from seed and epoch alone; what does not fill a batch waits for another epoch.

    Raises ConfigError where an epoch asks for more samples than there are.

    >>> order = kinshot.orders.shuffled(np.zeros(7), batch_size=3, steps=2, seed=0)
    >>> order(0).shape, len(order(0).unique())
    (torch.Size([2, 3]), 6)
    """
    if not 1 <= steps * batch_size <= len(labels):
        raise ConfigError(
            f"order shuffled: expected 1 to {len(labels)} samples an epoch, got {steps} batches of {batch_size}: lower train.batch_size"
        )
    return partial(_permuted, len(labels), batch_size, steps, seed)


def _permuted(count: int, batch_size: int, steps: int, seed: int, epoch: int) -> torch.Tensor:
    permutation = torch.randperm(count, generator=keyed_generator(seed, "order", epoch))
    return permutation[: steps * batch_size].view(steps, batch_size)
