"""Sensors whose measurements lie in files of their own beside the table of a recording: sound in a WAV file, frames in a folder."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from kinshot.core.errors import ConfigError, DataError
from kinshot.datasets.images import decode_all, image_suffixes, load_image
from kinshot.datasets.log_mel import log_mel
from kinshot.datasets.recording import Track
from kinshot.datasets.recordings_schema import NAME, FrameSensor, SoundSensor
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


def read_beside(table: Path, name: str, sensor: SoundSensor | FrameSensor) -> Beside:
    """What a sensor called `name` measured during the recording of a table. Raises DataError, naming the file."""
    path = table.parent / (sensor.wav if isinstance(sensor, SoundSensor) else sensor.frames).replace(NAME, table.stem)
    if not path.exists():
        return Beside()
    return _sound(path, name, sensor) if isinstance(sensor, SoundSensor) else _frames(path, name, sensor)


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


def _frames(path: Path, name: str, sensor: FrameSensor) -> Beside:
    if not path.is_dir():
        raise DataError(f"{path} is no folder, and the images of {name} are looked for in it: correct frames of {name} in the schema")
    images = sorted((file for file in path.iterdir() if _is_image(file)), key=_in_order)
    if not images:
        return Beside(None, (), (f"{name} is empty, and counts as missing",))
    form = sensor.channels, sensor.size, sensor.size
    frames = decode_all(images, lambda file: load_image(file, sensor.size, sensor.channels), form)
    return Beside(Track(frames, sensor.rate), tuple(images))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in image_suffixes() and not path.name.startswith(".") and path.is_file()


def _in_order(path: Path) -> tuple[list[tuple[int, str]], str]:
    """By name, numbers in it by their value: frame 10 comes after frame 9, whether or not it is called 09."""
    pieces = re.split(r"([0-9]+)", path.name)
    return [(int(piece), "") if piece.isdecimal() else (-1, piece) for piece in pieces], path.name
