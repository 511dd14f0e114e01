"""Made-up photographs of a few classes, and a classifier that carries a small encoder of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from kinshot.core.rng import keyed_numpy
from kinshot.encoders.build import build_encoder
from kinshot.learn.features import weights_hash
from kinshot.learn.model import Model
from kinshot.runs.encoder_identity import EncoderIdentity
from kinshot.runs.teaching import Taught, enroll
from kinshot.samples.pixels import PixelSpec

COLOURS = {"cherry": (200, 20, 40), "leaf": (30, 180, 40), "sky": (40, 90, 220), "lemon": (230, 220, 40), "coal": (25, 25, 25)}
SPEC = PixelSpec.square(3, 16, (0.5,) * 3, (0.5,) * 3)


def photo(path: Path, label: str, number: int) -> Path:
    """A picture of a class: patches of its colour and a stripe that depends on the number."""
    rng = keyed_numpy(7, label, number)
    pixels = np.array(COLOURS[label]) + rng.normal(0, 18, (24, 30, 3))
    pixels[:, 3 + number % 9] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
    return path


def photos(folder: Path, label: str, numbers: range) -> list[Path]:
    """Several pictures of a class in a folder of its name."""
    return [photo(folder / label / f"{label}{number}.png", label, number) for number in numbers]


def small_encoder(name: str = "small") -> tuple[Model, EncoderIdentity]:
    """An untrained encoder of 16 pixels, and what it is."""
    encoder = build_encoder("conv4", {"width": 8}, SPEC)
    identity = EncoderIdentity(name, weights_hash(encoder.state_dict()), SPEC, "conv4", {"width": 8}, "made for a test")
    return Model(encoder, input=SPEC).eval(), identity


def taught(path: Path, folder: Path, labels: tuple[str, ...] = ("cherry", "leaf", "sky"), count: int = 4, **options: object) -> Taught:
    """A file that was taught some classes by the small encoder, which it carries along."""
    for label in labels:
        done = enroll(path, label, photos(folder, label, range(count)), opened=small_encoder(), embed_encoder=True, **options)  # type: ignore[arg-type]
    return done
