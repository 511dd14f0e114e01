"""What people compute of a sensor's window by hand: the features that any encoder of series must beat."""

from __future__ import annotations

import torch
from torch import Tensor

FREQUENCIES = 15
"""How many frequencies of a window are kept, from the lowest on, or as many as a shorter window has."""


def hand_features(batch: Tensor) -> Tensor:
    """Statistics and low frequencies of every channel, over what is measured: float32 (B, C * (5 + frequencies)), a channel's side by side.

    Mean, standard deviation, least and largest value, mean absolute difference of neighbouring steps, and log(1 + |f_k|) of the Fourier
    transform f for k = 1 to 15 turns in a window. What is not measured (NaN) enters no statistic, and the transform as the window's mean.
    A channel of which nothing is measured has zeros. The list is that of many studies of human activity, from Anguita and others 2013
    (ESANN) on. Frequencies are kept from the lowest on, since body and machine move slowly beside a sensor's rate; averages over bands
    that reach up to half of that rate tell few labelled samples apart less well.

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
    turns = torch.fft.rfft(centred, dim=2)[..., 1 : FREQUENCIES + 1].abs().log1p()
    columns = torch.cat([torch.stack([mean, spread, low, high, change], 2), turns], 2)
    return columns.masked_fill((count == 0).unsqueeze(2), 0.0).flatten(1).float()
