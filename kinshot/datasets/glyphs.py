"""Letters of many scripts rendered from the fonts in matplotlib's wheel: a few-shot data set that needs no download."""

from __future__ import annotations

import math
from functools import cache
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from kinshot.core.errors import ConfigError
from kinshot.core.rng import keyed_uniform
from kinshot.datasets import SOURCES
from kinshot.datasets.base import ArraySource
from kinshot.datasets.cache import cached_images
from kinshot.datasets.glyph_faces import MAIN_FACE, SCRIPTS, Character, characters, font_path, fonts_hash

# Raise when a change in this file or in glyph_faces changes a pixel.
_VERSION = 1
_TOO_ALIKE = 0.95
_ALIKE_SIZE = 28
# Below a quarter of the em a character is a mark rather than a letter, and its enlarged picture a blot.
_LEAST_INK = 0.25
_MAX_VARIANTS = 1000
# The longer side of the ink, as a fraction of the picture; with the widest pose it still stays inside.
_INK = 20 / 28
_DEGREES, _SCALE, _SHIFT = 8.0, (0.85, 1.05), 1.5 / 28
_OVERSAMPLE = 2
_FONT_PER_SIZE = 2.5
_MARGIN = 2

# Rotation in radians, scale, and shifts right and down as fractions of the side.
Pose = tuple[float, float, float, float]


@SOURCES.register("glyphs")
def glyphs(*, split: Literal["train", "val", "test", "all"] = "train", size: int = 28, variants: int = 20) -> ArraySource:
    """Letters of twelve scripts and digits, rendered in 4 to 21 faces each: classes of train, val and test share no script.

    White ink on black, the ink's longer side about 20/28 of the picture. Image v of a character uses its face v modulo the
    number of faces, with a small rotation, scale and shift keyed by code point and v. Characters that look like an earlier
    one (correlation above 0.95 in the main face: Greek Alpha, Cyrillic A and Latin A are one picture) are left out, the
    later split giving way, so that no shape of the training set comes back as a class of val or test.

    Args:
        split: train (Latin, Canadian Aboriginal, Lisu, Old Italic, digits), val (Armenian, Hebrew),
            test (Cyrillic, Greek, Coptic, Arabic, Georgian, Lao) or all.
        size: side in pixels.
        variants: images per class.
    """
    if not 8 <= size <= 512 or not 1 <= variants <= _MAX_VARIANTS:
        raise ConfigError(f"glyphs: size must be in 8..512 and variants in 1..{_MAX_VARIANTS}, got {size} and {variants}")
    parts = list(SCRIPTS) if split == "all" else [split]
    chosen = [character for part in parts for character in distinct_characters()[part]]
    images = np.concatenate([_images(part, size, variants) for part in parts])
    labels = np.repeat(np.arange(len(chosen)), variants)
    return ArraySource(images, labels, [character.name for character in chosen], f"glyphs/{split}")


@cache
def distinct_characters() -> dict[str, list[Character]]:
    """The characters of each split, those left out that look like an earlier one. Independent of the pictures' size."""
    font = face_font(MAIN_FACE, _ALIKE_SIZE)
    found = [(part, character, inked(font, character.code)) for part in SCRIPTS for character in characters(part)]
    found = [entry for entry in found if longer_side(entry[2]) >= _LEAST_INK * font.size]
    plain = np.stack([_posed([ink], [(0.0, 1.0, 0.0, 0.0)], _ALIKE_SIZE) for _, _, ink in found])
    kept = [found[row] for row in _first_of_alike(plain.reshape(len(plain), -1))]
    return {part: [character for of, character, _ in kept if of == part] for part in SCRIPTS}


def _first_of_alike(pixels: np.ndarray) -> list[int]:
    centred = pixels.astype(np.float64)
    centred -= centred.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1)
    centred /= np.maximum(length, 1e-9)[:, None]
    alike = centred @ centred.T > _TOO_ALIKE
    kept = np.zeros(len(pixels), dtype=bool)
    for row in range(len(pixels)):
        kept[row] = length[row] > 0 and not (alike[row] & kept).any()
    return np.flatnonzero(kept).tolist()


@cache
def _images(part: str, size: int, variants: int) -> np.ndarray:
    chosen = distinct_characters()[part]
    key = f"glyphs-{part}-{size}-{variants}-{_VERSION}-{fonts_hash()[:16]}-{ImageFont.core.freetype2_version}"
    shape = (len(chosen) * variants, 1, size, size)
    return cached_images(key, shape, lambda: render(chosen, size, variants))


def render(chosen: list[Character], size: int, variants: int) -> np.ndarray:
    """Pictures of each character in turn, `variants` of each: uint8 (len(chosen) * variants, 1, size, size)."""
    images = np.empty((len(chosen), variants, 1, size, size), dtype=np.uint8)
    fonts = {face: face_font(face, size) for face in sorted({face for character in chosen for face in character.faces})}
    for row, character in enumerate(chosen):
        inks = [inked(fonts[face], character.code) for face in character.faces[:variants]]
        images[row, :, 0] = _posed(inks, _poses(character.code, variants), size)
    return images.reshape(-1, 1, size, size)


def _poses(code: int, variants: int) -> list[Pose]:
    draws = keyed_uniform(0, "glyphs", 0, code * _MAX_VARIANTS + np.arange(variants), 4).astype(np.float64)
    angle = np.deg2rad(_DEGREES) * (2 * draws[:, 0] - 1)
    scale = _SCALE[0] + (_SCALE[1] - _SCALE[0]) * draws[:, 1]
    shift = _SHIFT * (2 * draws[:, 2:] - 1)
    return list(zip(angle.tolist(), scale.tolist(), shift[:, 0].tolist(), shift[:, 1].tolist(), strict=True))


@cache
def face_font(face: str, size: int) -> ImageFont.FreeTypeFont:
    """A face for pictures of `size` pixels, so large that glyphs are scaled down to their places."""
    # The basic layout draws one glyph per code point, without the shaping that depends on how Pillow was built.
    return ImageFont.truetype(str(font_path(face)), round(_FONT_PER_SIZE * size), layout_engine=ImageFont.Layout.BASIC)


def inked(font: ImageFont.FreeTypeFont, code: int, thicker: int = 0) -> Image.Image:
    """The glyph cut to its ink, with a black margin, strokes widened by `thicker` pixels on each side; black where it has no ink."""
    left, top, right, bottom = (round(edge) for edge in font.getbbox(chr(code)))
    left, top, right, bottom = left - thicker, top - thicker, right + thicker, bottom + thicker
    picture = Image.new("L", (right - left + 2 * _MARGIN, bottom - top + 2 * _MARGIN))
    ImageDraw.Draw(picture).text((_MARGIN - left, _MARGIN - top), chr(code), fill=255, font=font, stroke_width=thicker)
    left, top, right, bottom = picture.getbbox() or (0, 0, 1, 1)
    return picture.crop((left - _MARGIN, top - _MARGIN, right + _MARGIN, bottom + _MARGIN))


def longer_side(ink: Image.Image) -> int:
    """Of the ink itself, in pixels."""
    return max(ink.size) - 2 * _MARGIN


def placed(ink: Image.Image, angle: float, longer: float, x: float, y: float, side: int) -> Image.Image:
    """The ink turned by `angle` (radians), its longer side `longer`, its middle at (x, y), in a black square of `side` pixels."""
    step = longer_side(ink) / longer
    a, b = math.cos(angle) * step, math.sin(angle) * step
    # from points of the result back to points of the ink
    back = (a, b, ink.width / 2 - a * x - b * y, -b, a, ink.height / 2 + b * x - a * y)
    return ink.transform((side, side), Image.Transform.AFFINE, back, Image.Resampling.BILINEAR)


def _posed(inks: list[Image.Image], poses: list[Pose], size: int) -> np.ndarray:
    """One picture per pose, of the inks in turn: uint8 (len(poses), size, size)."""
    fine = size * _OVERSAMPLE
    strip = Image.new("L", (fine, fine * len(poses)))
    for number, (angle, factor, right, down) in enumerate(poses):
        ink = inks[number % len(inks)]
        turned = placed(ink, angle, _INK * factor * fine, fine * (0.5 + right), fine * (0.5 + down), fine)
        strip.paste(turned, (0, number * fine))
    return np.asarray(strip.reduce(_OVERSAMPLE)).reshape(len(poses), size, size)
