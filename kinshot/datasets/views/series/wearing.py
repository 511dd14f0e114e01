"""How devices are worn: which sensors turn together, and whose axes change places together."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kinshot.core.errors import ConfigError, suggest
from kinshot.datasets.views.series.modalities import ALONE, Modalities
from kinshot.datasets.views.series.rotation import ROTATION_DRAWS, rotate, rotations
from kinshot.datasets.views.series.shuffle import shuffled
from kinshot.datasets.views.series.values import chosen

AXES = 3


@dataclass(frozen=True)
class Wearing:
    """Largest changes of how devices are worn; see `Sensor`.

    Args:
        rotation: probability.
        rotation_angle: the largest, in degrees.
        channel_shuffle: probability.
        device: of each modality that is on one, its device.
    """

    rotation: float
    rotation_angle: float
    channel_shuffle: float
    device: Mapping[str, str]

    def draws(self, modalities: Modalities) -> dict[str, int]:
        """Numbers for each device, and for each modality that is on none."""
        owners = {self.owner(name): spec.channels for name, spec in modalities.series.items()}
        return {
            f"{owner}/{change}": count
            for owner, channels in owners.items()
            for change, count in (("rotation", 1 + ROTATION_DRAWS), ("channel_shuffle", 1 + channels))
        }

    def owner(self, name: str) -> str:
        """Whose draws a modality takes."""
        return f"device/{self.device[name]}" if name in self.device else name

    def turned(self, name: str, x: Tensor, draws: Callable[[str], Tensor]) -> Tensor:
        """Values (B, 3, T) of a modality in units of its own, turned as its device is; those that are on no device as they are.

        A window of which nothing would be left, as one axis was never measured, is not turned.
        """
        if self.rotation == 0 or name not in self.device:
            return x
        u = draws(f"{self.owner(name)}/rotation")
        turned = rotate(x, rotations(u[:, 1:], math.radians(self.rotation_angle)))
        whole = (u[:, 0] < self.rotation) & ~turned.isnan().flatten(1).all(dim=1)
        return torch.where(whole[:, None, None], turned, x)

    def shuffled(self, name: str, x: Tensor, draws: Callable[[str], Tensor]) -> Tensor:
        """Normalised windows (B, C, T) of a modality with their channels in another order."""
        if self.channel_shuffle == 0:
            return x
        u = draws(f"{self.owner(name)}/channel_shuffle")
        return chosen(u, self.channel_shuffle, shuffled(x, u[:, 1:]), x)


def devices_of(views: str, fields: Sequence[Modalities], named: Sequence[str], turns: bool) -> dict[str, str]:
    """The device of each modality that is on one, of texts as "acc+gyro" that name the modalities of a device.

    A field that is one series is a device of its own where it is to be turned.

    Raises:
        ConfigError: a name that no bundle has, or two devices of one modality; where devices turn, modalities without exactly three
            channels among them, or none named for a bundle.
    """
    found: dict[str, str] = {}
    series = {name: spec for field in fields for name, spec in field.series.items()}
    for device in named:
        for name in device.split("+"):
            if name not in series:
                raise ConfigError(f"{views}: devices: there is no series {name!r} among several: {suggest(name, series)}")
            if name in found:
                raise ConfigError(f"{views}: devices: {name} is on {found[name]} and on {device}: name each modality once")
            found[name] = device
    if turns and ALONE in series:
        found[ALONE] = ALONE
    if turns and any(ALONE not in field.series and not found.keys() & field.series.keys() for field in fields):
        raise ConfigError(f'{views}: rotation turns devices, and none is named: say which modalities one has, as devices=["acc+gyro"]')
    for name, device in found.items():
        if series[name].channels != AXES and (turns or len(device.split("+")) > 1):
            raise ConfigError(f"{views}: only sensors of three axes turn together, and {name or 'this series'} has {series[name].channels}")
    return found
