"""A figure of a page: what it shows in words, and how it looks on a light and on a dark page."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.figure import Figure

from kinshot.studies.report.theme import DARK, LIGHT, Theme, png

_SCALE = 2  # pixels of a figure for each pixel of the page


@dataclass(frozen=True)
class Picture:
    """A figure.

    Args:
        name: file name without ending.
        section: part of the page that it belongs to.
        title: what stands above it.
        alt: what it shows, for those who do not see it.
        light: PNG file for a light page, the one that is kept as a file too.
        dark: PNG file for a dark page; empty for pictures that have one version.
    """

    name: str
    section: str
    title: str
    alt: str
    light: bytes
    dark: bytes = b""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height on the page, in pixels."""
        width, height = struct.unpack(">II", self.light[16:24])
        return width // _SCALE, height // _SCALE


def drawn(name: str, section: str, title: str, alt: str, make: Callable[[Theme], Figure]) -> Picture:
    """A figure in both themes."""
    return Picture(name, section, title, alt, png(make(LIGHT)), png(make(DARK)))
