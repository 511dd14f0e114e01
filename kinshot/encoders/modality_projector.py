"""A projector for each modality of a fused feature."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from kinshot.core.errors import ConfigError
from kinshot.encoders.present import through
from kinshot.encoders.projector import mlp_projector
from kinshot.objectives.common import unit


class ModalityProjector(nn.Module):
    """One multilayer perceptron for each modality, on that modality's own part of a feature that keeps modalities side by side.

    What comes in is the fused feature [p_1 u_1, ..., p_M u_M] / sqrt(count) of `Fused` by fusion `concat`, whose parts are brought back to
    unit length. A sample that lacks a modality, whose part is zero, does not pass its network, enters no statistic of a batch, and is
    zero there.

    Args:
        dims: features of each modality, in order.
        hidden: width of every layer but the last.
        out: features out of each network.
        layers: linear layers of each network; 0 leaves the parts as they are, of unit length.
        last_norm: whether batch normalisation follows the last linear layer.
        norm: what stands before the last linear layer, see `mlp_projector`.

    Attributes:
        names: of the outputs, which are the modalities'.

    Raises:
        ConfigError: widths out of range.
    """

    def __init__(self, dims: Mapping[str, int], hidden: int, out: int, layers: int, *, last_norm: bool, norm: str = "none") -> None:
        super().__init__()
        self.names, self.dims = tuple(dims), dict(dims)
        networks = {name: mlp_projector(dim, hidden, out, layers, last_norm=last_norm, norm=norm) for name, dim in dims.items()}
        self.networks = nn.ModuleDict(networks)
        self.outs = {name: out if layers else dim for name, dim in dims.items()}

    def outputs(self, z: Tensor) -> dict[str, Tensor]:
        """Of fused features (B, dim): (B, out) by modality, zero for samples that lack it."""
        parts = dict(zip(self.names, z.split(list(self.dims.values()), dim=1), strict=True))
        return {name: through(self.networks[name], unit(part), part.detach().any(dim=1), self.outs[name]) for name, part in parts.items()}

    def joined(self, outputs: Mapping[str, Tensor]) -> Tensor:
        """All of them side by side: (B, sum of out)."""
        return torch.cat(list(outputs.values()), dim=1)

    def forward(self, z: Tensor) -> Tensor:
        """All of them side by side: (B, sum of out)."""
        return self.joined(self.outputs(z))


def modality_projector(encoder: nn.Module, hidden: int, out: int, layers: int, *, last_norm: bool, norm: str = "none") -> ModalityProjector:
    """The projector of an encoder of bundles.

    Raises:
        ConfigError: an encoder whose feature does not keep modalities side by side.
    """
    dims = getattr(encoder, "dims", None)
    if getattr(encoder, "fusion", None) != "concat" or not isinstance(dims, Mapping):
        raise ConfigError(
            "projector.modalities: expected encoder fused with fusion concat, whose feature keeps modalities side by side: take data of "
            "several sensors and that encoder, or leave projector.modalities out"
        )
    return ModalityProjector(dims, hidden, out, layers, last_norm=last_norm, norm=norm)
