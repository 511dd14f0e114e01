"""What people compute of a sensor's window by hand: the features that any encoder of series must beat."""

from __future__ import annotations

import torch
from torch import Tensor

BANDS = 15
"""Bands of frequency, or as many as there are frequencies in a shorter window."""

_FLOOR = 1e-10


def hand_features(batch: Tensor) -> Tensor:
    """Statistics and spectrum of every channel, over what is measured: float32 (B, C * (5 + bands)), one block of features to a channel.

    Mean, standard deviation, least and largest value, mean absolute difference of neighbouring steps, and the logarithm of the power in
    bands of equally many frequencies, the constant left out. What is not measured (NaN) enters no statistic, and the spectrum as the
    window's mean; power is divided by the number of measured steps. A channel of which nothing is measured has zeros. The list is that of
    many studies of human activity, from Anguita and others 2013 (ESANN) on; the bands are this package's choice.

    Args:
        batch: windows (B, C, T), NaN where nothing was measured.
    """
    x = batch.double()
    measured = ~x.isnan()
    count = measured.sum(2)
    steps = count.clamp_min(1)
    mean = x.nansum(2) / steps
    centred = torch.where(measured, x - mean.unsqueeze(2), 0.0)
    spread = (centred.square().sum(2) / steps).sqrt()
    low, high = x.masked_fill(~measured, torch.inf).amin(2), x.masked_fill(~measured, -torch.inf).amax(2)
    pairs = measured[..., 1:] & measured[..., :-1]
    change = torch.where(pairs, x.diff(dim=2).abs(), 0.0).sum(2) / pairs.sum(2).clamp_min(1)
    power = torch.fft.rfft(centred, dim=2)[..., 1:].abs().square() / steps.unsqueeze(2)
    columns = torch.cat([torch.stack([mean, spread, low, high, change], 2), (power @ _bands(power) + _FLOOR).log()], 2)
    return columns.masked_fill((count == 0).unsqueeze(2), 0.0).flatten(1).float()


def _bands(power: Tensor) -> Tensor:
    """What averages the power of frequencies over neighbouring ones, (F, bands): each band has equally many, up to one."""
    frequencies = power.shape[2]
    bands = min(BANDS, frequencies)
    band = torch.arange(frequencies, device=power.device) * bands // max(frequencies, 1)
    member = (band.unsqueeze(1) == torch.arange(bands, device=power.device)).to(power.dtype)
    return member / member.sum(0)
