"""What the tests of losses against rows of classes share: a batch, and objectives built for it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from kinshot.core.context import RunContext
from kinshot.encoders.build import keyed_initialisation
from kinshot.objectives import OBJECTIVES

N, DIM, CLASSES = 7, 3, 4
Y = torch.tensor([0, 1, 2, 0, -1, 1, 0])  # class 3 has rows and no sample
CONTEXT = RunContext(num_samples=N, batch_size=N, steps_per_epoch=1, total_steps=10, seed=0)


def drawn(rows: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, DIM, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(one: Tensor, other: Tensor | float | np.ndarray, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(one, torch.as_tensor(other, dtype=one.dtype), rtol=tolerance, atol=tolerance)


def build(name: str, classes: int = CLASSES, dim: int = DIM, **settings):
    with keyed_initialisation(0, name):
        return OBJECTIVES.build(name, dim, classes, CONTEXT, settings=settings)
