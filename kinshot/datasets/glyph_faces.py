"""Which characters the fonts in matplotlib's wheel can draw, and in which faces."""

from __future__ import annotations

import hashlib
import unicodedata
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import matplotlib
from fontTools.ttLib import TTFont, TTLibError

from kinshot.core.errors import DataError

# Faces with Unicode character maps. The order decides which faces are drawn first: unlike ones come early.
# fmt: off
UNICODE_FACES = (
    "DejaVuSans", "DejaVuSerif", "DejaVuSansMono", "DejaVuSans-Bold",
    "STIXGeneral", "DejaVuSans-Oblique", "DejaVuSerif-Bold", "DejaVuSerif-Italic",
    "DejaVuSansMono-Bold", "STIXGeneralBol", "DejaVuSans-BoldOblique", "DejaVuSansMono-Oblique",
    "DejaVuSerif-BoldItalic", "STIXGeneralItalic", "STIXGeneralBolIta", "DejaVuSansMono-BoldOblique",
)
# fmt: on
# Computer Modern keeps TeX's own encodings, which agree with Unicode on ASCII letters and digits only. Its symbol fonts
# (cmmi10, cmsy10, cmex10) do not even there, and are left out, as is LastResort, which draws boxes.
ASCII_FACES = ("cmr10", "cmss10", "cmtt10", "cmti10", "cmb10")
MAIN_FACE = "DejaVuSans"
MIN_FACES = 4

SCRIPTS = {
    "train": ("LATIN", "CANADIAN", "LISU", "OLD", "DIGIT"),
    "val": ("ARMENIAN", "HEBREW"),
    "test": ("CYRILLIC", "GREEK", "COPTIC", "ARABIC", "GEORGIAN", "LAO"),
}
_CATEGORIES = frozenset({"Lu", "Ll", "Lt", "Lo", "Nd", "Nl"})


@dataclass(frozen=True)
class Character:
    """A Unicode character, the script that its name begins with, and the faces that draw it."""

    code: int
    script: str
    faces: tuple[str, ...]

    @property
    def name(self) -> str:
        """The class name, for example CYRILLIC/U+0416."""
        return f"{self.script}/U+{self.code:04X}"


def font_path(face: str) -> Path:
    """The file of a face."""
    return Path(matplotlib.get_data_path(), "fonts", "ttf", f"{face}.ttf")


@cache
def fonts_hash() -> str:
    """SHA-256 (hex) of the bytes of every font used."""
    digest = hashlib.sha256()
    for face in (*UNICODE_FACES, *ASCII_FACES):
        try:
            digest.update(font_path(face).read_bytes())
        except OSError as error:
            raise DataError(f"cannot read font {font_path(face)}: {error.strerror}: reinstall matplotlib") from error
    return digest.hexdigest()


def characters(split: str) -> list[Character]:
    """Letters and digits of the split's scripts with at least four faces, in code point order within each script.

    Characters that Unicode decomposes (accented letters, ligatures, styled and presentation forms) are left out: they are
    nearly the same picture as their base.
    """
    coverage = {face: _codes(face) for face in (*UNICODE_FACES, *ASCII_FACES)}
    found: dict[str, list[Character]] = {script: [] for script in SCRIPTS[split]}
    for code in sorted(coverage[MAIN_FACE]):
        letter = chr(code)
        script = unicodedata.name(letter, "").split(" ")[0]
        if script not in found or unicodedata.category(letter) not in _CATEGORIES or unicodedata.decomposition(letter):
            continue
        faces = tuple(face for face, codes in coverage.items() if code in codes)
        if len(faces) >= MIN_FACES:
            found[script].append(Character(code, script, faces))
    return [character for script in SCRIPTS[split] for character in found[script]]


@cache
def _codes(face: str) -> frozenset[int]:
    try:
        with TTFont(font_path(face), lazy=True) as font:
            codes = frozenset(font.getBestCmap() or ())
    except (OSError, TTLibError) as error:
        raise DataError(f"cannot read font {font_path(face)}: {error}: reinstall matplotlib") from error
    if face in ASCII_FACES:
        return frozenset(code for code in codes if code < 128 and chr(code).isalnum())
    return codes
