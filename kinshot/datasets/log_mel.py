"""Sound as a series: how loud it is in bands of the mel scale, a hundred times in a second."""

from __future__ import annotations

import math

import numpy as np

from kinshot.core.errors import ConfigError

FLOOR = 1e-10
"""Added to the power of a band before its logarithm: -100 dB, about what rounding to 16 bits leaves."""

_FRAMES = 4096
_EPS = 1e-6


def log_mel(
    sound: np.ndarray, rate: float, *, mels: int = 64, window: float = 0.025, hop: float = 0.01, low: float = 125.0, high: float = 7500.0
) -> np.ndarray:
    """Logarithm of the power of a sound in bands of the mel scale: float32 (steps, mels), as many steps as whole hops.

    Step k is that of the time k hop, and the window in the middle of its hop, a Hann window; beyond the ends there is silence. Power is
    the mean square of the sound in a window that lies in a band, so that it does not depend on the sampling rate: the bands of a sine of
    full scale have about 0.5 together. Bands are triangles from `low` to `high`, equally wide on the mel scale of HTK (and O'Shaughnessy),
    mel(f) = 2595 log10(1 + f / 700), each as high as 1 and up to the middles of its neighbours; they are not divided by their area, as
    those of Slaney are.

    Range and number of bands, window and hop are those of VGGish (Hershey et al. 2017, arXiv 1609.09430); the logarithm is of the power,
    and with another offset, `FLOOR`.

    Args:
        sound: finite numbers (n,), full scale from -1 to 1.
        rate: samples in a second, in Hz.
        mels: bands.
        window: length of a window in seconds.
        hop: from one step to the next, in seconds.
        low: where the first band begins, in Hz.
        high: where the last band ends, in Hz; at most half the rate.

    Raises:
        ConfigError: bands that a window of this sampling rate cannot tell apart.
    """
    size = max(2, round(window * rate))
    filters = mel_filters(rate, 1 << (size - 1).bit_length(), mels, low, high)
    hann = np.sin(np.pi * np.arange(size) / size) ** 2
    scale = 2 / (2 * (filters.shape[1] - 1) * (hann**2).sum())
    steps = math.floor(len(sound) / (hop * rate) + _EPS)
    padded = np.pad(sound.astype(np.float64), size)
    found = np.empty((steps, mels), dtype=np.float32)
    for begin in range(0, steps, _FRAMES):
        number = np.arange(begin, min(begin + _FRAMES, steps))
        first = np.rint((number + 0.5) * hop * rate - size / 2).astype(np.int64) + size
        frames = padded[first[:, None] + np.arange(size)] * hann
        power = np.abs(np.fft.rfft(frames, 2 * (filters.shape[1] - 1), axis=1)) ** 2
        found[number] = np.log(power @ filters.T * scale + FLOOR)
    return found


def mel_filters(rate: float, points: int, mels: int, low: float, high: float) -> np.ndarray:
    """What every band takes of the frequencies of a transform of so many points: float64 (mels, points / 2 + 1). Raises ConfigError."""
    if not 0 <= low < high <= rate / 2:
        raise ConfigError(
            f"mel bands from {low:g} to {high:g} Hz need a sampling rate of at least {2 * high:g} Hz, got {rate:g} Hz: lower high"
        )
    edges = 700 * (10 ** (np.linspace(_mel(low), _mel(high), mels + 2) / 2595) - 1)
    frequencies = np.arange(points // 2 + 1) * rate / points
    rising = (frequencies - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - frequencies) / np.diff(edges)[1:, None]
    filters: np.ndarray = np.minimum(rising, falling).clip(0)
    empty = np.flatnonzero(~filters.any(axis=1))
    if len(empty):
        between = f"{edges[empty[0]]:.0f} and {edges[empty[0] + 2]:.0f} Hz"
        raise ConfigError(f"{mels} mel bands are too many: none of {points // 2 + 1} frequencies lies between {between}: take fewer mels")
    return filters


def _mel(frequency: float) -> float:
    return 2595 * math.log10(1 + frequency / 700)
