"""A multilayer perceptron for rows of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from kinshot.core.errors import ConfigError
from kinshot.encoders import ENCODERS
from kinshot.encoders.maps import Maps, walk
from kinshot.encoders.scaling import check_factors, last_layers, scaled
from kinshot.samples.rows import RowSpec


@ENCODERS.register("mlp")
class MLP(nn.Module):
    """Linear layers, each with batch normalisation and ReLU, for feature matrices.

    Args:
        widths: width of every layer; the last is the encoder's.
        width: factor on all widths, for narrower versions.
        depth: factor on the number of layers, for shallower versions; the last ones are kept, and with them the encoder's width.

    >>> from kinshot.samples.rows import RowSpec
    >>> encoder = kinshot.encoders.mlp(RowSpec(4, mean=(0.0,) * 4, std=(1.0,) * 4), widths=(16, 8))
    >>> encoder(torch.zeros(3, 4)).shape
    torch.Size([3, 8])
    """

    accepts = ("features",)

    def __init__(self, input: RowSpec, *, widths: tuple[int, ...] = (256, 128), width: float = 1.0, depth: float = 1.0) -> None:
        super().__init__()
        if not widths or min(widths) < 1:
            raise ConfigError(f"encoder mlp: widths must be positive and at least one, got {list(widths)}: try [256, 128]")
        check_factors("encoder mlp", width=width, depth=depth)
        kept = [scaled(count, width) for count in last_layers(widths, depth)]
        parts: list[nn.Module] = []
        for before, after in pairwise((input.dim, *kept)):
            parts += [nn.Linear(before, after, bias=False), nn.BatchNorm1d(after), nn.ReLU(inplace=True)]
        self.input = input
        self.dim = kept[-1]
        self.layers = nn.Sequential(*parts)
        self.stages = tuple(f"layers.{3 * number + 2}" for number in range(len(kept)))
        self.dims = dict(zip(self.stages, kept, strict=True))
        self.strides = dict.fromkeys(self.stages, 1)

    def maps(self, x: Tensor, stages: Sequence[str]) -> list[Maps]:
        """What layers give of normalised rows (B, F), behind their ReLU: (B, dims[stage]), a grid of no axis."""
        found = walk(self, [f"layers.{number}" for number in range(len(self.layers))], x, stages)
        return [Maps(found[stage], 1) for stage in stages]

    def pool(self, maps: Maps) -> Tensor:
        """Features (B, dim) of the last layer: there are no places to pool over."""
        return maps.values

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, dim) of normalised rows (B, F)."""
        return self.pool(self.maps(x, self.stages[-1:])[0])
