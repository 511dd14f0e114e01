"""What lies in a folder of images: the pictures, and what is left out of them, so that nothing vanishes without a word."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from kinshot.core.errors import DataError
from kinshot.datasets.images import image_suffixes

_LOG = logging.getLogger(__name__)
_FOREIGN = frozenset({"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found", "__pycache__", "#recycle"})
"""Folders that unpacking, file managers and servers leave; what lies in them are thumbnails and remains."""
_CLUTTER = frozenset({"thumbs.db", "desktop.ini", "ehthumbs.db"})
# Endings of pictures and films that Pillow does not decode; beside class folders only these are worth a word.
_OTHER_PICTURES = frozenset(
    [
        ".heic",
        ".heif",
        ".hif",
        ".jxl",
        ".raw",
        ".cr2",
        ".cr3",
        ".nef",
        ".arw",
        ".dng",
        ".orf",
        ".rw2",
        ".raf",
        ".svg",
        ".czi",
        ".nd2",
        ".lif",
        ".mp4",
        ".mov",
        ".avi",
        ".mkv",
        ".webm",
        ".zip",
    ]
)
_SHOWN = 6


@dataclass
class Found:
    """What a walk through a folder met.

    Attributes:
        images: image files, sorted by path.
        others: how many files of each ending were left out, "without an ending" for none.
        links: linked folders, which are not entered.
        foreign: folders of _FOREIGN, which are not entered either.
    """

    images: list[Path] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    links: list[Path] = field(default_factory=list)
    foreign: list[Path] = field(default_factory=list)

    def add(self, other: Found) -> None:
        """Count what another walk met too; its images stay its own."""
        self.others.update(other.others)
        self.links += other.links
        self.foreign += other.foreign


def survey(folder: Path) -> Found:
    """Everything below `folder`; hidden files and folders are passed over. Raises DataError for a folder that cannot be read."""
    found = Found()
    for place, folders, files in os.walk(folder, onerror=_unreadable):
        for name in [name for name in folders if not name.startswith(".")]:
            if name in _FOREIGN:
                found.foreign.append(Path(place, name))
            elif os.path.islink(os.path.join(place, name)):
                found.links.append(Path(place, name))
        folders[:] = [name for name in folders if not name.startswith(".") and name not in _FOREIGN]
        for name in files:
            if is_image(name):
                found.images.append(Path(place, name))
            elif not name.startswith(".") and name.lower() not in _CLUTTER:
                found.others[ending(name)] += 1
    found.images.sort()
    return found


def class_folders(place: Path) -> list[Path]:
    """The folders directly in `place` that may be classes, sorted by name: neither hidden nor foreign. Raises DataError."""
    try:
        return sorted(p for p in place.iterdir() if p.is_dir() and not p.name.startswith(".") and p.name not in _FOREIGN)
    except OSError as error:
        raise _error(error) from error


def beside(place: Path) -> Found:
    """What lies directly in `place`, beside its class folders: pictures, whether Pillow reads them or not, and foreign folders."""
    found = Found()
    for entry in sorted(place.iterdir()):
        if entry.name in _FOREIGN and entry.is_dir():
            found.foreign.append(entry)
        elif is_image(entry.name) and not entry.is_dir():
            found.images.append(entry)
        elif ending(entry.name) in _OTHER_PICTURES and not entry.name.startswith("."):
            found.others[ending(entry.name)] += 1
    return found


def is_image(name: str) -> bool:
    """Whether a file of this name is taken for an image: by its ending, and not hidden."""
    return not name.startswith(".") and Path(name).suffix.lower() in image_suffixes()


def ending(name: str) -> str:
    """The ending of a file's name in lower case, with the dot."""
    return Path(name).suffix.lower() or "without an ending"


def list_images(folder: Path) -> list[Path]:
    """Every image file below `folder`, sorted by path; see `survey`."""
    return survey(folder).images


def left_out(found: Found, loose: int, place: Path) -> str:
    """What was left out of the images in `place` as one line, empty where nothing was.

    Args:
        found: what was met below the classes and beside them.
        loose: pictures beside class folders.
        place: the folder.
    """
    counts = sorted(found.others.items(), key=lambda item: (-item[1], item[0]))
    parts = [f"{count} {name}" for name, count in counts[:_SHOWN]]
    if len(counts) > _SHOWN:
        parts.append(f"{sum(count for _, count in counts[_SHOWN:])} with {len(counts) - _SHOWN} other endings")
    if loose:
        parts.append(f"{loose} {'picture' if loose == 1 else 'pictures'} beside the class folders")
    if found.links:
        parts.append(f"{len(found.links)} linked folders ({named(p.name for p in found.links)})")
    if found.foreign:
        parts.append(f"folders that are no classes ({named(dict.fromkeys(p.name for p in found.foreign))})")
    if not parts:
        return ""
    advice = ": convert those that are pictures to JPEG or PNG" if _OTHER_PICTURES & found.others.keys() else ""
    return f"left out of {shown(place)}: {', '.join(parts)}{advice}"


def named(names: Iterable[str]) -> str:
    """The first few names, and how many more there are."""
    every = [shown(name) for name in names]
    return ", ".join(every[:_SHOWN]) + (f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else "")


@cache
def say_once(note: str) -> None:
    """A line for the person, once in a process: one command may build the same source several times."""
    _LOG.warning("%s", note)


def shown(name: str | Path) -> str:
    """A name as valid text: bytes that are no UTF-8, from another computer's encoding, as \\xNN."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _unreadable(error: OSError) -> None:
    raise _error(error) from error


def _error(error: OSError) -> DataError:
    return DataError(f"cannot read the folder {error.filename}: {error.strerror}: change its permissions, or move it out of the data")
