"""WAV files read into samples from -1 to 1, with errors that name the file."""

from __future__ import annotations

import io
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kinshot.core.errors import DataError
from kinshot.core.small_files import read_file

_MOST = 2**32
_REMEDY = "save it again as WAV with samples of 8, 16, 24 or 32 bits or floats, uncompressed, or leave it out"
_ORDERS = {b"RIFF": "<", b"RIFX": ">"}


@dataclass(frozen=True)
class Sound:
    """What a microphone recorded.

    Args:
        samples: float32 (n,), full scale from -1 to 1.
        rate: samples in a second, in Hz.
        channels: how many the file has; their mean is what `samples` are.
    """

    samples: np.ndarray
    rate: float
    channels: int


def read_wav(path: Path) -> Sound:
    """The sound in a WAV file: PCM of 8, 16, 24 or 32 bits, or floats, its channels averaged.

    Raises DataError, naming the file: no WAV, another encoding, less sound than its header says, or samples that are not finite.
    """
    from scipy.io import wavfile  # whose import takes a while

    data = read_file(path, most=_MOST, remedy=_REMEDY)
    _check_whole(data, path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", wavfile.WavFileWarning)  # of chunks beside the sound, which nobody needs
            rate, samples = wavfile.read(io.BytesIO(data))
    except Exception as problem:  # what a reader of chunks raises for damaged ones is anything
        reason = " ".join(str(problem).split()) or type(problem).__name__
        raise DataError(f"cannot read sound {path}: {reason}; {_REMEDY}") from problem
    if not rate > 0:
        raise DataError(f"cannot read sound {path}: its sampling rate is {rate} Hz; {_REMEDY}")
    values = _scaled(samples.reshape(len(samples), -1))
    if not np.isfinite(values).all():
        step = int(np.argmin(np.isfinite(values).all(axis=1)))
        raise DataError(f"{path}: sample {step} is not finite: repair the file or leave it out")
    return Sound(values.mean(axis=1, dtype=np.float32), float(rate), values.shape[1])


def _scaled(samples: np.ndarray) -> np.ndarray:
    """Samples of a file, float32 with 1 for full scale."""
    if samples.dtype.kind == "f":
        return samples.astype(np.float32)
    if samples.dtype.kind == "u":  # bytes, whose zero is 128
        return (samples.astype(np.float32) - 128) / 128
    return samples.astype(np.float32) / np.float32(-float(np.iinfo(samples.dtype).min))


def _check_whole(data: bytes, path: Path) -> None:
    """Raises DataError where a file is no WAV, or ends before its sound does, which its reader passes over in silence."""
    order = _ORDERS.get(data[:4])
    if order is None or data[8:12] != b"WAVE":
        raise DataError(f"cannot read sound {path}: it is no WAV file; {_REMEDY}")
    place = 12
    while place + 8 <= len(data):
        name, (size,) = data[place : place + 4], struct.unpack(f"{order}I", data[place + 4 : place + 8])
        if name == b"data":
            if place + 8 + size > len(data):
                there = len(data) - place - 8
                raise DataError(f"{path} ends early: its header says {size} bytes of sound, and {there} are there: copy or save it again")
            return
        place += 8 + size + size % 2
    raise DataError(f"cannot read sound {path}: it holds no sound; {_REMEDY}")
