"""The cosine classifier as a module: what base training learns, imprinting extends and Baseline++ starts from."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from kinshot.core.errors import ConfigError


class CosineRows(nn.Module):
    """scale * <u(w_c), u(z)>: features (B, D) to logits (B, C), without bias.

    The scale is learned: cosines alone end at 1, which bounds the posterior of the right class far below 1.

    Paper: Qi, Brown, Lowe, 2018, arXiv 1712.07136
    Departures: the starting value of the scale is not given there; 10 is that of a re-implementation.

    Args:
        dim: D.
        classes: C.
        scale: starting value of the scale, positive.
    """

    def __init__(self, dim: int, classes: int, scale: float = 10.0) -> None:
        super().__init__()
        if dim < 1 or classes < 1 or not scale > 0:
            raise ConfigError(f"cosine classifier: dim and classes must be at least 1 and scale above 0, got {dim}, {classes}, {scale}")
        self.weight = nn.Parameter(torch.empty(classes, dim))
        self.scale = nn.Parameter(torch.tensor(float(scale)))
        nn.init.normal_(self.weight, std=dim**-0.5)

    def forward(self, z: Tensor) -> Tensor:
        """Logits, in float32 also under autocast."""
        with torch.autocast(z.device.type, enabled=False):
            return self.scale * (normalize(z.float(), dim=-1) @ normalize(self.weight, dim=-1).mT)
