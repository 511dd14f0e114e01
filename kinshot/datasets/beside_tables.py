"""Sensors whose measurements lie in files of their own beside the table of a recording: sound in a WAV file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kinshot.core.errors import ConfigError, DataError
from kinshot.datasets.log_mel import log_mel
from kinshot.datasets.recording import Track
from kinshot.datasets.recordings_schema import NAME, SoundSensor
from kinshot.datasets.sound_files import read_wav


@dataclass(frozen=True)
class Beside:
    """What was found of a sensor beside a table.

    Args:
        track: what it measured, from the begin of the recording on; None where nothing is there.
        files: that were read.
        notes: what a person should know of it, without the name of the recording.
    """

    track: Track | None = None
    files: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()


def read_beside(table: Path, name: str, sensor: SoundSensor) -> Beside:
    """What a sensor called `name` measured during the recording of a table. Raises DataError, naming the file."""
    path = table.parent / sensor.wav.replace(NAME, table.stem)
    return _sound(path, name, sensor) if path.exists() else Beside()


def _sound(path: Path, name: str, sensor: SoundSensor) -> Beside:
    sound = read_wav(path)
    notes = [f"{name} has {sound.channels} channels, which are averaged"] if sound.channels > 1 else []
    try:
        bands = log_mel(sound.samples, sound.rate, mels=sensor.mels, window=sensor.window, hop=sensor.hop, low=sensor.low, high=sensor.high)
    except ConfigError as problem:
        raise DataError(f"{path}: {problem} of {name} in the schema, or resample the file") from problem
    if not len(bands):
        return Beside(None, (path,), (f"{name} is empty, and counts as missing",))
    if (sound.samples == sound.samples[0]).all():
        notes.append(f"{name} is silent throughout")
    return Beside(Track(bands, 1 / sensor.hop), (path,), tuple(notes))
