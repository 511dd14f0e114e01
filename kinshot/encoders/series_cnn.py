"""A small convolutional network for windows of a sensor."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from operator import mul
from typing import Literal

from torch import Tensor, nn

from kinshot.encoders import ENCODERS
from kinshot.encoders.maps import Maps
from kinshot.encoders.measured_norm import ConvNorm
from kinshot.encoders.place_pooling import pooling_of
from kinshot.encoders.scaling import check_factors, last_layers, scaled
from kinshot.encoders.steps import check_layers, walk_series
from kinshot.samples.series import SeriesSpec


@ENCODERS.register("series_cnn")
class SeriesCNN(nn.Module):
    """A small 1-D CNN: strided convolutions along time with batch norm and ReLU, pooled over the measured steps.

    Windows of any length, with NaN where nothing was measured: an invalid step adds nothing to a convolution, to a statistic or to the
    feature. A window without a measured step has a feature of zeros.

    Paper: widths and kernels are of the network of Tang, Perez-Pozuelo, Spathis, Mascolo, 2020, arXiv 2011.11542 (SimCLR for activity
    recognition), after Saeed, Ozcelebi, Lukkien, 2019, arXiv 1907.11879; here with strides in place of full length, batch normalisation in
    place of dropout, whose masks would not be keyed, and by default a mean, which grows less with a window's length than a maximum.

    Args:
        widths: channels of every convolution; the last are the encoder's.
        kernels: taps of every convolution.
        strides: steps between places of every convolution.
        width: factor on all widths, for narrower versions.
        depth: factor on the number of convolutions, for shallower versions; the last ones are kept, and with them the encoder's width.
        pooling: what becomes of the places: `mean`, `max` or `last`.

    >>> from kinshot.samples.series import SeriesSpec
    >>> encoder = kinshot.encoders.series_cnn(SeriesSpec(3, 128, 50.0, mean=(0.0,) * 3, std=(1.0,) * 3))
    >>> encoder(torch.zeros(2, 3, 128)).shape, encoder.maps(torch.zeros(2, 3, 100), encoder.stages[-1:])[0].values.shape
    (torch.Size([2, 96]), torch.Size([2, 96, 13]))
    """

    accepts = ("series",)

    def __init__(
        self,
        input: SeriesSpec,
        *,
        widths: tuple[int, ...] = (32, 64, 96),
        kernels: tuple[int, ...] = (24, 16, 8),
        strides: tuple[int, ...] = (2, 2, 2),
        width: float = 1.0,
        depth: float = 1.0,
        pooling: Literal["mean", "max", "last"] = "mean",
    ) -> None:
        super().__init__()
        check_layers("encoder series_cnn", kernels, strides, widths=widths)
        check_factors("encoder series_cnn", width=width, depth=depth)
        widths, kernels, strides = (last_layers(values, depth) for values in (widths, kernels, strides))
        sizes = [input.channels, *(scaled(count, width) for count in widths)]
        layers = zip(pairwise(sizes), kernels, strides, strict=True)
        self.layers = nn.Sequential(*(ConvNorm(*pair, kernel, stride, relu=True) for pair, kernel, stride in layers))
        self.input, self.dim, self._pool = input, sizes[-1], pooling_of("encoder series_cnn", pooling)
        self.stages = tuple(f"layers.{number}" for number in range(len(widths)))
        self.dims = dict(zip(self.stages, sizes[1:], strict=True))
        self.strides = dict(zip(self.stages, accumulate(strides, mul), strict=True))

    def maps(self, x: Tensor, stages: Sequence[str]) -> list[Maps]:
        """What layers give of normalised windows (B, C, T): (B, dims[stage], T / stride) rounded up, zero at invalid places."""
        return walk_series(self, self.stages, self.strides, x, stages)

    def pool(self, maps: Maps) -> Tensor:
        """Features (B, dim) of the last layer: pooled over valid places, zero for a window without any."""
        return self._pool(maps)

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, dim) of normalised windows (B, C, T)."""
        return self.pool(self.maps(x, self.stages[-1:])[0])
