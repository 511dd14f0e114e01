"""Prototypes: classes that nobody named, as rows that embeddings are compared with."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.encoders.build import keyed_initialisation
from kinshot.encoders.queue import embedding_dim
from kinshot.learn.model import Model
from kinshot.objectives.common import unit


class Prototypes(nn.Module):
    """Cosines (B, K) of embeddings and K learned rows, drawn by the run's seed.

    Args:
        model: whose projections are compared.
        context: of the run.
        wanted: K; 0 is a thirtieth of the samples, 10 to 3000.

    Raises:
        ConfigError: fewer than two.
    """

    def __init__(self, model: Model, context: RunContext, wanted: int) -> None:
        super().__init__()
        if wanted < 0 or wanted == 1:
            raise ConfigError(f"prototypes is how many there are, at least 2, or 0 for a number by the samples, got {wanted}")
        dim = embedding_dim(model.encoder, nn.Identity() if model.projector is None else model.projector)
        with keyed_initialisation(context.seed, "init prototypes"):
            self.weight = nn.Parameter(unit(torch.randn(wanted or min(3000, max(10, context.num_samples // 30)), dim)))

    def forward(self, z: Tensor, *, still: bool = False) -> Tensor:
        """Cosines of z (B, D), float32; with `still` the rows take no gradient."""
        return unit(z.float()) @ unit(self.weight.detach() if still else self.weight).T
