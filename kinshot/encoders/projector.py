"""The projector: the small network between an encoder and its objective."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from kinshot.core.errors import ConfigError
from kinshot.objectives.common import check_choice


def mlp_projector(dim: int, hidden: int, out: int, layers: int, *, last_norm: bool, norm: str = "none") -> nn.Module:
    """A multilayer perceptron, (B, dim) to (B, out): `layers` linear layers with batch normalisation and ReLU between them.

    One `nn.Sequential` without nesting: Linear, BatchNorm1d, ReLU, ..., Linear and, with `last_norm`, BatchNorm1d. A linear
    layer has a bias where no normalisation follows, which would remove it.

    Paper: Chen, Kornblith, Norouzi, Hinton, 2020, arXiv 2002.05709 (SimCLR); `last_norm` is as in its released code, except that
    the last normalisation learns a shift, too.

    Args:
        dim: features in.
        hidden: width of every layer but the last.
        out: features out.
        layers: linear layers; 0 gives `nn.Identity`, and then `hidden` and `out` do not matter.
        last_norm: whether batch normalisation follows the last linear layer.
        norm: what stands before the last linear layer: `none`, or `layer`, normalisation over the numbers of each sample, without scale
            or shift (Liao et al. 2022, arXiv 2210.01908, and others that learn embeddings).

    Raises:
        ConfigError: a negative number of layers, a width below 1, an unknown normalisation, or one without a layer to stand before.
    """
    if layers < 0 or min(dim, hidden, out) < 1:
        raise ConfigError(
            f"projector: widths must be at least 1 and layers at least 0, got dim {dim}, hidden {hidden}, out {out}, layers {layers}: "
            "correct the recipe"
        )
    check_choice("projector: norm", norm, ("none", "layer"))
    if layers == 0 and norm != "none":
        raise ConfigError(f"projector: norm {norm} stands before the last linear layer, and layers is 0: set layers 1, or norm none")
    if layers == 0:
        return nn.Identity()
    widths = [dim, *[hidden] * (layers - 1)]
    parts: list[nn.Module] = []
    for before, after in pairwise(widths):
        parts += [nn.Linear(before, after, bias=False), nn.BatchNorm1d(after), nn.ReLU(inplace=True)]
    if norm == "layer":
        parts.append(nn.LayerNorm(widths[-1], elementwise_affine=False))
    parts.append(nn.Linear(widths[-1], out, bias=not last_norm))
    if last_norm:
        parts.append(nn.BatchNorm1d(out))
    return nn.Sequential(*parts)
