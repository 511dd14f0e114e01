"""Finer maps from the same weights: stages that would halve the map keep its size and look at places further apart."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from kinshot.core.errors import ConfigError

OUTPUT_STRIDES = (32, 16, 8)


def check_output_stride(where: str, value: int) -> None:
    """Raise ConfigError for an output stride that is none of `OUTPUT_STRIDES`."""
    if value not in OUTPUT_STRIDES:
        raise ConfigError(f"{where}: output_stride is the most pixels between places of the last map, one of 32, 16 and 8, got {value}")


def dilate_(network: nn.Module, strides: Mapping[str, int], most: int) -> dict[str, int]:
    """Change stages of residual blocks so that no map has more than `most` pixels between its places: the strides that they then have.

    What follows on a convolution that no longer skips places is dilated by as much, so that in evaluation mode the new maps hold the old
    ones: at every place that these had, and the same values. No weight changes, and none its name.

    Paper: Yu, Koltun, Funkhouser, 2017, arXiv 1705.09914 (dilated residual networks, there with further changes); Chen, Papandreou,
    Kokkinos, Murphy, Yuille, 2017, arXiv 1606.00915.

    Args:
        network: its stages are modules with the names in `strides`, in order, whose convolutions are 3x3 or 1x1.
        strides: pixels between places of each stage's maps as it is.
        most: pixels between places of a map, at most.
    """
    before = 1
    for name, stride in strides.items():
        after = max(1, stride // most)
        for module in network.get_submodule(name).modules():
            if isinstance(module, nn.Conv2d):
                skips = module.stride != (1, 1)
                if after > before:
                    module.stride = (1, 1)
                if module.kernel_size != (1, 1):
                    rate = before if skips else after
                    module.dilation = module.padding = (rate, rate)
        before = after
    return {name: min(stride, most) for name, stride in strides.items()}
