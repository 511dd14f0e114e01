"""Images that a browser sends: bounded, decoded once to see that they are images, and kept under names of ours until they are used."""

from __future__ import annotations

import shutil
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from starlette.datastructures import FormData, UploadFile

from kinshot.core.errors import ConfigError, DataError
from kinshot.core.small_files import read_file
from kinshot.datasets.files import digest
from kinshot.datasets.images import load_image
from kinshot.studio.limits import Limits

_LONGEST_NAME = 200


@dataclass(frozen=True)
class Sent:
    """An image that was sent.

    Attributes:
        row: its place among the files that were sent.
        path: where it is, under a name of ours.
        name: what its owner calls it; text and never a path.
        digest: hash of its content.
        picture: uint8 (3, S, S), small.
    """

    row: int
    path: Path
    name: str
    digest: str
    picture: np.ndarray


@dataclass(frozen=True)
class Received:
    """What of a form could be used: images, and what is wrong with each other file."""

    images: list[Sent] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


@contextmanager
def received(form: FormData, field_name: str, folder: Path, limits: Limits, side: int) -> Iterator[Received]:
    """The images of a form, in a folder of their own that is gone afterwards.

    Args:
        form: what was sent.
        field_name: the field with the files.
        folder: where the folder is made; nobody else may look into it.
        limits: how large a file may be.
        side: side of the small pictures.

    Raises:
        ConfigError: no file.
    """
    files = [value for value in form.getlist(field_name) if isinstance(value, UploadFile)]
    if not files:
        raise ConfigError("no image was sent: choose or drop some")
    found = Received()
    with TemporaryDirectory(dir=folder) as place:
        for row, file in enumerate(files):
            try:
                found.images.append(_kept(file, row, Path(place, f"{row:04d}"), limits, side))
            except DataError as error:
                found.refused.append(str(error))
        yield found


def shown_name(name: str | None) -> str:
    """A file's name as text: what follows the last separator, without characters that do not print."""
    last = unicodedata.normalize("NFC", name or "").replace("\\", "/").rpartition("/")[2]
    plain = "".join(letter if letter.isprintable() else "�" for letter in last).strip()
    return plain[:_LONGEST_NAME] or "image"


def _kept(file: UploadFile, row: int, path: Path, limits: Limits, side: int) -> Sent:
    name = shown_name(file.filename)
    size = file.size or 0
    if size > limits.file:
        raise DataError(f"{name} has {size / 2**20:.1f} MB, more than {limits.file / 2**20:.0f} MB: scale it down")
    if not size:
        raise DataError(f"{name} is empty: choose another file")
    with path.open("xb") as kept:
        shutil.copyfileobj(file.file, kept)
    try:
        picture = load_image(path, side, 3)
    except DataError as error:  # which names a file that nobody but us knows
        if "cannot identify" in str(error):
            raise DataError(f"{name} is no image of a kind that can be read: send a JPEG, a PNG or the like") from error
        raise DataError(str(error).replace(str(path), name)) from error
    return Sent(row, path, name, digest(read_file(path, most=limits.file)), picture)
