"""How features of several fields become one: side by side, their mean, or weighed by attention; absent fields have no say in any."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from kinshot.core.errors import ConfigError
from kinshot.objectives.common import unit


class Fusion(nn.Module):
    """One feature of unit length of the parts of a sample that are there.

    `forward(parts, there)` takes parts of unit length (B, dims[field]), zero for samples that lack the field, and bool (B, 1), by field in
    the order of `dims`; every sample has at least one. It gives (B, dim).

    Args:
        dims: features of each field.

    Attributes:
        dim: features of a sample.
    """

    dim: int

    def __init__(self, dims: Mapping[str, int]) -> None:
        super().__init__()
        self.dims = dict(dims)


class Concat(Fusion):
    """Parts side by side over the root of their number: the inner product of samples is the sum of the cosines of what both have."""

    def __init__(self, dims: Mapping[str, int]) -> None:
        super().__init__(dims)
        self.dim = sum(dims.values())

    def forward(self, parts: Mapping[str, Tensor], there: Mapping[str, Tensor]) -> Tensor:
        """See `Fusion`."""
        count = torch.stack(list(there.values())).sum(0)
        return torch.cat(list(parts.values()), dim=1) / count.sqrt()


class Mean(Fusion):
    """The mean of the parts that are there, scaled to unit length: one space for every field, as objectives across fields make it.

    Raises:
        ConfigError: fields whose features are not of one width.
    """

    def __init__(self, dims: Mapping[str, int]) -> None:
        super().__init__(dims)
        if len(set(dims.values())) > 1:
            shown = ", ".join(f"{name} {dim}" for name, dim in dims.items())
            raise ConfigError(
                f"fusion mean: fields must have features of one width, got {shown}: set the encoders' widths, or take concat or attention"
            )
        self.dim = next(iter(dims.values()))

    def forward(self, parts: Mapping[str, Tensor], there: Mapping[str, Tensor]) -> Tensor:
        """See `Fusion`; absent parts are zero, and the number of the others goes with the length."""
        return unit(torch.stack(list(parts.values())).sum(0))


class Attention(Fusion):
    """Parts, each through a linear layer of its field to the widest field's width, in the mean that a learned score weighs.

    With v_f = W_f u_f + b_f, the weight of field f is the softmax, over the fields that the sample has, of w . tanh(v_f).

    Paper: Ilse, Tomczak, Welling, 2018, arXiv 1802.04712 (attention-based pooling of a set), with values that are projected as well.
    """

    def __init__(self, dims: Mapping[str, int]) -> None:
        super().__init__(dims)
        self.dim = max(dims.values())
        self.project = nn.ModuleDict({name: nn.Linear(dim, self.dim) for name, dim in dims.items()})
        self.score = nn.Linear(self.dim, 1, bias=False)

    def forward(self, parts: Mapping[str, Tensor], there: Mapping[str, Tensor]) -> Tensor:
        """See `Fusion`. A field that nobody has does not run."""
        held = [name for name, mask in there.items() if bool(mask.any())]
        values = torch.stack([self.project[name](parts[name]) for name in held], dim=1)
        scores = self.score(values.tanh()).squeeze(2)
        weights = scores.masked_fill(~torch.cat([there[name] for name in held], dim=1), float("-inf")).softmax(dim=1)
        return unit((weights.unsqueeze(2) * values).sum(1))


FUSIONS: dict[str, type[Fusion]] = {"concat": Concat, "mean": Mean, "attention": Attention}
"""Fusions by name."""
