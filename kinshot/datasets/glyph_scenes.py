"""Scenes of several glyphs over textured ground: few-shot segmentation that needs no download, with exact masks."""

from __future__ import annotations

from functools import cache
from typing import Literal

import numpy as np
from PIL import Image, ImageFont

from kinshot.core.errors import ConfigError
from kinshot.core.rng import keyed_numpy, keyed_uniform
from kinshot.datasets import SOURCES
from kinshot.datasets.cache import cached_images
from kinshot.datasets.glyph_faces import Character, fonts_hash
from kinshot.datasets.glyphs import distinct_characters, face_font, inked, longer_side, placed
from kinshot.datasets.scenes import ArrayScenes

# Raise when a change in this file or in those that it draws with changes a pixel.
_VERSION = 2
_MOST_CLASSES = 250
_SEED = 0
_OVERSAMPLE = 2
# All lengths are fractions of the picture's side, or of a glyph's longer side where they are about strokes.
_LONGER = (22 / 64, 32 / 64)
_STROKE = 5 / 27
_DEGREES = 15.0
# A turned glyph needs more room than its longer side; a square one turned by 15 degrees 1.23 times as much.
_ROOM, _PATCH = 1.1, 1.35
_PLACES = 64
_CELLS = (2, 4, 8, 16)
_GROUND = {"light": (16.0, 96.0), "any": (64.0, 192.0)}
_DARKEST = {"light": 160, "any": 0}
_LOUDNESS = 1.6
_COLOURS = 24
_DISTANCE = 120
_BLOCK = 256


@SOURCES.register("glyph_scenes", masks=True)
def glyph_scenes(
    *,
    split: Literal["train", "val", "test"] = "train",
    size: int = 64,
    glyphs: int = 3,
    classes: int = 250,
    per_class: int = 36,
    contrast: float = 0.5,
    ink: Literal["light", "any"] = "light",
) -> ArrayScenes:
    """Several letters of different classes in one colour picture over textured ground: classes of train, val and test share no script.

    The characters and faces are those of the source glyphs, their strokes widened to about 4 to 6 pixels of 64 and their longer side
    22 to 32. Each has a random face, turn, size and colour, which differs clearly from the ground beneath and says nothing of the class: a
    light one on dark ground, or with `ink=any` any one, so that edges have no sign and small networks need much longer to learn them. The
    ground is coloured noise of four scales. A pixel belongs to a glyph where its ink covers half of it or more; where two meet, to the
    later one. Every class occurs in the same number of scenes, each scene is a photograph of its own, and everything is drawn by keys:
    the same settings give the same pixels.

    Args:
        split: train (Latin, Canadian Aboriginal, Lisu, Old Italic, digits), val (Armenian, Hebrew),
            test (Cyrillic, Greek, Coptic, Arabic, Georgian, Lao).
        size: side in pixels.
        glyphs: in each scene, from 1 to 4.
        classes: at most so many, taken evenly from the characters of the split.
        per_class: scenes that each class occurs in; there are classes * per_class / glyphs scenes.
        contrast: of the ground, from 0 (one colour) to 1.
        ink: light colours on dark ground, or any.
    """
    if not 16 <= size <= 512 or not 1 <= glyphs <= 4:
        raise ConfigError(f"glyph_scenes: size must be in 16..512 and glyphs in 1..4, got {size} and {glyphs}")
    if not 2 * glyphs <= classes <= _MOST_CLASSES or not 2 <= per_class <= 1000:
        wanted = f"classes must be in {2 * glyphs}..{_MOST_CLASSES} and per_class in 2..1000"
        raise ConfigError(f"glyph_scenes: {wanted}, got {classes} and {per_class}")
    if not 0 <= contrast <= 1:
        raise ConfigError(f"glyph_scenes: contrast must be in 0..1, got {contrast}")
    chosen = characters_of(split, classes)
    drawn = _scenes(split, size, glyphs, len(chosen), per_class, contrast, ink)
    return ArrayScenes(drawn[:, :3], drawn[:, 3], [character.name for character in chosen], name=f"glyph_scenes/{split}")


def characters_of(split: str, classes: int) -> list[Character]:
    """At most `classes` of a split's characters, taken evenly."""
    every = distinct_characters()[split]
    kept = min(classes, len(every))
    return [every[row * len(every) // kept] for row in range(kept)]


@cache
def _scenes(split: str, size: int, glyphs: int, classes: int, per_class: int, contrast: float, ink: str) -> np.ndarray:
    """Colours and mask of every scene: uint8 (N, 4, size, size)."""
    chosen = characters_of(split, classes)
    settings = f"{split}-{size}-{glyphs}-{classes}-{per_class}-{contrast!r}-{ink}"
    key = f"glyph_scenes-{settings}-{_VERSION}-{fonts_hash()[:16]}-{ImageFont.core.freetype2_version}"
    held = classes_of_scenes(classes, glyphs, per_class, split)
    return cached_images(key, (len(held), 4, size, size), lambda: render(chosen, held, size, contrast, ink, split))


def classes_of_scenes(classes: int, glyphs: int, per_class: int, purpose: str) -> np.ndarray:
    """Which classes each scene holds, all different: int64 (N, glyphs), every class `per_class` times, up to the last scene's rest.

    Permutations of all classes, one behind another; where one begins, what the scene before it may hold stands further behind.
    """
    rounds: list[np.ndarray] = []
    tail = np.empty(0, dtype=np.int64)
    for number in range(per_class + 1):
        order = keyed_numpy(_SEED, f"glyph_scenes/{purpose}/classes", number).permutation(classes)
        again = np.isin(order, tail)
        fresh, middle = order[~again], (classes - len(tail)) // 2
        rounds.append(np.concatenate([fresh[:middle], order[again], fresh[middle:]]))
        tail = rounds[-1][classes - (glyphs - 1) :]
    scenes = -(-classes * per_class // glyphs)
    return np.concatenate(rounds)[: scenes * glyphs].reshape(scenes, glyphs)


def render(chosen: list[Character], held: np.ndarray, size: int, contrast: float, ink: str, purpose: str) -> np.ndarray:
    """Scenes of the characters `held` (N, G), as numbers among `chosen`: colours and mask, uint8 (N, 4, size, size)."""
    found = np.empty((len(held), 4, size, size), dtype=np.uint8)
    inks: dict[tuple[str, int], Image.Image] = {}
    for start in range(0, len(held), _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, len(held)))
        cover = _covers(chosen, held[rows], rows, size, purpose, inks)
        image = grounds(rows, size, contrast, ink, purpose)
        mask = np.zeros((len(rows), size, size), dtype=np.uint8)
        colours = np.zeros((len(rows), 0, 3), dtype=np.int64)
        for slot in range(held.shape[1]):
            drawn = cover[:, slot] >= 128
            colours = np.append(colours, _colour(image, drawn, colours, rows, _DARKEST[ink], purpose)[:, None], axis=1)
            image = _painted(image, cover[:, slot], colours[:, slot])
            mask = np.where(drawn, (held[rows, slot] + 1).astype(np.uint8)[:, None, None], mask)
        found[rows, :3], found[rows, 3] = image, mask
    return found


def _covers(
    chosen: list[Character], held: np.ndarray, rows: np.ndarray, size: int, purpose: str, inks: dict[tuple[str, int], Image.Image]
) -> np.ndarray:
    """How much of each pixel the ink of each glyph covers, of 255: uint8 (N, G, size, size). `inks` remembers what was drawn."""
    count, glyphs = held.shape
    draws = keyed_uniform(_SEED, f"glyph_scenes/{purpose}/pose", 0, rows, 3 * glyphs).astype(np.float64).reshape(count, 3, glyphs)
    longer = _LONGER[0] + (_LONGER[1] - _LONGER[0]) * draws[:, 0]
    angle = np.deg2rad(_DEGREES) * (2 * draws[:, 1] - 1)
    middle = _places(longer, rows, purpose)
    cover = np.empty((count, glyphs, size, size), dtype=np.uint8)
    for row, slot in np.ndindex(count, glyphs):
        character = chosen[held[row, slot]]
        face = character.faces[int(draws[row, 2, slot] * len(character.faces))]
        if (face, character.code) not in inks:
            inks[face, character.code] = _thick(face, character.code, size)
        ink = inks[face, character.code]
        cover[row, slot] = _cover(ink, float(angle[row, slot]), float(longer[row, slot]), middle[row, slot], size)
    return cover


def _cover(ink: Image.Image, angle: float, longer: float, middle: np.ndarray, size: int) -> np.ndarray:
    """How much of each pixel an ink covers, of 255, where it is placed: uint8 (size, size)."""
    patch = int(_PATCH * _LONGER[1] * size)  # around the ink, for speed
    left, top = (int(edge) for edge in np.floor(middle * size - patch / 2))
    x, y = (middle * size - (left, top)) * _OVERSAMPLE
    turned = placed(ink, angle, longer * size * _OVERSAMPLE, float(x), float(y), patch * _OVERSAMPLE)
    picture = Image.new("L", (size, size))
    picture.paste(turned.reduce(_OVERSAMPLE), (left, top))
    return np.asarray(picture)


def _places(longer: np.ndarray, rows: np.ndarray, purpose: str) -> np.ndarray:
    """The middle of each glyph, float64 (N, G, 2): of many drawn arrangements the one whose squares overlap least."""
    count, glyphs = longer.shape
    half = _ROOM * longer / 2
    draws = keyed_uniform(_SEED, f"glyph_scenes/{purpose}/places", 0, rows, _PLACES * glyphs * 2).astype(np.float64)
    middle = half[:, None, :, None] + (1 - 2 * half)[:, None, :, None] * draws.reshape(count, _PLACES, glyphs, 2)
    cost = np.zeros((count, _PLACES))
    for one in range(glyphs):
        for other in range(one):
            apart = np.abs(middle[:, :, one] - middle[:, :, other]).max(axis=-1)
            cost += np.maximum(0, (half[:, one] + half[:, other])[:, None] - apart)
    return middle[np.arange(count), cost.argmin(axis=1)]


def _thick(face: str, code: int, size: int) -> Image.Image:
    """The ink of a glyph with strokes of about `_STROKE` of its longer side, those that are wider already as they are."""
    font = face_font(face, size)
    plain = inked(font, code)
    ink = np.asarray(plain, dtype=np.int64)
    edges = np.abs(np.diff(ink, axis=0)).sum() + np.abs(np.diff(ink, axis=1)).sum()
    # twice area over outline, where steps along rows and columns measure a round outline 4 / pi too long
    width = 2 * float(ink.sum()) / (max(1.0, float(edges)) * np.pi / 4)
    thicker = round((_STROKE * longer_side(plain) - width) / (2 * (1 - _STROKE)))
    return inked(font, code, thicker) if thicker > 0 else plain


def grounds(rows: np.ndarray, size: int, contrast: float, ink: str, purpose: str) -> np.ndarray:
    """Coloured noise of several scales about a colour, for each scene: uint8 (N, 3, size, size)."""
    first = keyed_uniform(_SEED, f"glyph_scenes/{purpose}/ground", 0, rows, 3 + len(_CELLS))
    low, high = _GROUND[ink]
    base, weight = low + (high - low) * first[:, :3], first[:, 3:] + np.float32(0.1)
    weight = weight / weight.sum(axis=1, keepdims=True)
    ground = np.repeat(base[:, :, None, None], size, axis=2).repeat(size, axis=3)
    for number, cells in enumerate(_CELLS):
        draws = keyed_uniform(_SEED, f"glyph_scenes/{purpose}/ground/{cells}", 0, rows, cells * cells * 3)
        grids = (256 * draws).astype(np.uint8).reshape(len(rows), cells, cells, 3)
        # Pillow resizes bytes with whole numbers: the same on every machine
        smooth = np.stack([np.asarray(Image.fromarray(grid).resize((size, size), Image.Resampling.BICUBIC)) for grid in grids])
        ground += np.float32(_LOUDNESS * contrast) * weight[:, number, None, None, None] * (smooth.transpose(0, 3, 1, 2) - np.float32(128))
    return np.rint(ground).clip(0, 255).astype(np.uint8)


def _colour(image: np.ndarray, ink: np.ndarray, earlier: np.ndarray, rows: np.ndarray, darkest: int, purpose: str) -> np.ndarray:
    """For each scene a drawn colour, int64 (N, 3), whose channels are `darkest` or more: the first that is far from the mean beneath the
    ink and from those of the glyphs before, (N, slot, 3), else the farthest.
    """
    draws = keyed_uniform(_SEED, f"glyph_scenes/{purpose}/colour", earlier.shape[1], rows, _COLOURS * 3)
    colours = (darkest + (256 - darkest) * draws).astype(np.int64).reshape(len(rows), _COLOURS, 3)
    beneath = (image * ink[:, None]).sum(axis=(2, 3), dtype=np.int64) // np.maximum(1, ink.sum(axis=(1, 2)))[:, None]
    others = np.concatenate([earlier, beneath[:, None]], axis=1)
    distance = ((colours[:, :, None] - others[:, None]) ** 2).sum(axis=3).min(axis=2)
    far = distance >= _DISTANCE**2
    place = np.where(far.any(axis=1), far.argmax(axis=1), distance.argmax(axis=1))
    return colours[np.arange(len(rows)), place]


def _painted(image: np.ndarray, cover: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """A colour (N, 3) laid over images (N, 3, H, W) as far as `cover` (N, H, W) of 255 says."""
    share = cover[:, None].astype(np.uint16)
    mixed = image.astype(np.uint16) * (255 - share) + colour[:, :, None, None].astype(np.uint16) * share + 127
    return (mixed // 255).astype(np.uint8)
