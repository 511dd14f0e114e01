"""Images of a support with their masks, as they are named on a command line. Imports neither torch nor numpy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kinshot.core.errors import ConfigError, DataError

FORM = "IMAGE:MASK[:NUMBER][,IMAGE:MASK...]"


@dataclass(frozen=True)
class Shot:
    """An image of the support and what it shows of its way.

    Args:
        image: the file.
        mask: the file whose numbers say where it is.
        value: the number that is it; None for the only one beside 0 and 255.
    """

    image: Path
    mask: Path
    value: int | None = None


def check_there(path: Path, argument: str) -> None:
    """Raise DataError where a path that an argument of the command line names is no file."""
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "is not there"
        raise DataError(f"{argument} names {path}, which {found}: give the path of a file as it is seen from {Path.cwd()}")


def parse_shots(text: str) -> list[Shot]:
    """`IMAGE:MASK[:NUMBER],IMAGE:MASK...` as the shots of one way. Raises ConfigError."""
    found = []
    for part in text.split(","):
        pieces = part.split(":")
        value = int(pieces.pop()) if len(pieces) > 2 and pieces[-1].isascii() and pieces[-1].isdigit() else None
        if len(pieces) != 2 or not all(pieces):
            raise ConfigError(f"--support: expected {FORM}, got {part!r}: write for example cat.jpg:cat.png")
        found.append(Shot(Path(pieces[0]), Path(pieces[1]), value))
    return found
