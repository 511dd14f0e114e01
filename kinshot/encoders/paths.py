"""Several projectors side by side on one backbone, each with a name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kinshot.core.errors import ConfigError
from kinshot.encoders.projector import mlp_projector

WEIGHTED = "weighted"
"""The paths side by side, each times the weight that training learned for its losses."""
TAKEN = ("backbone", "projector", "joint", WEIGHTED)
"""Names of features that every checkpoint has, which no path can have."""


class PathProjector(nn.Module):
    """One multilayer perceptron for each named path, (B, dim) to unit rows (B, out); together they are the projector.

    Paper: Li, Cui, Li, Wang, Wong 2021, arXiv 2112.12359 (two paths on a shared backbone). A reconstruction from its abstract: what
        the paths are made of is not known to us.

    Args:
        dim: features in.
        hidden: width of every layer but the last.
        out: features out of each path.
        layers: linear layers of each path; 0 makes each of them the backbone's feature at unit length.
        names: of the paths, in the order of `forward`; identifiers, all different.
        last_norm: whether batch normalisation follows the last linear layer.
        norm: what stands before the last linear layer, see `mlp_projector`.
        weighed: whether paths have weights, all 1 at first, which whoever learns some writes into `weights` (paths,).

    Raises:
        ConfigError: no name, a name twice, one that is no identifier or is taken, or widths out of range.
    """

    weights: Tensor | None

    def __init__(
        self,
        dim: int,
        hidden: int,
        out: int,
        layers: int,
        names: Sequence[str],
        last_norm: bool,
        norm: str = "none",
        weighed: bool = False,
    ) -> None:
        super().__init__()
        _check_names(names)
        self.names = tuple(names)
        self.paths = nn.ModuleDict({name: mlp_projector(dim, hidden, out, layers, last_norm=last_norm, norm=norm) for name in self.names})

        self.register_buffer("weights", torch.ones(len(self.names)) if weighed else None)

    def outputs(self, z: Tensor) -> dict[str, Tensor]:
        """Unit rows (B, out) of every path by name, in float32 or better."""
        return {name: _unit(path(z)) for name, path in self.paths.items()}

    def joined(self, outputs: Mapping[str, Tensor]) -> Tensor:
        """The paths' unit rows side by side, (B, paths * out): of length sqrt(paths)."""
        return torch.cat(list(outputs.values()), dim=1)

    def weighted(self, outputs: Mapping[str, Tensor]) -> Tensor:
        """The same, each path times its weight: what cosines of the whole then say is the mean of those of paths by squared weights."""
        weights = torch.ones(len(self.names)) if self.weights is None else self.weights
        return torch.cat([weight * outputs[name] for name, weight in zip(self.names, weights, strict=True)], dim=1)

    def forward(self, z: Tensor) -> Tensor:
        """The paths' unit rows side by side, (B, paths * out): of length sqrt(paths)."""
        return self.joined(self.outputs(z))


def _unit(rows: Tensor) -> Tensor:
    return F.normalize(rows.float() if rows.dtype in (torch.bfloat16, torch.float16) else rows, dim=1)


def _check_names(names: Sequence[str]) -> None:
    own = nn.ModuleDict()  # which refuses the names of its own attributes
    bad = [name for name in names if not name.isidentifier() or name in TAKEN or hasattr(own, name)]
    if bad or not names or len(set(names)) < len(names):
        got = ", ".join(names) or "none"
        raise ConfigError(
            f"projector: paths must be one or more different names of letters, digits and _, none of them {', '.join(TAKEN)} or a "
            f"word that modules use, got {got}: write for example paths: [structural, contrastive]"
        )
