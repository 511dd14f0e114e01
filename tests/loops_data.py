"""Labelled data as other people have it: folders of pictures, data sets whose labels are in their items, a small source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

import kinshot
from kinshot.datasets.base import ArraySource

GROCERY = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "grocery_store48.npz"
LABELS = np.array([0, 1, 2, 3, 4, -1] * 9)


def write_photos(folder: Path) -> Path:
    """labelled_photos in a folder, five classes of twenty real images: photographs of groceries where they are, else digits."""
    if GROCERY.is_file():
        with np.load(GROCERY) as data:
            pixels, labels = data["x"], data["fine"]
    else:
        digits = kinshot.sources.digits(split="train")
        pixels, labels = digits.load(np.arange(len(digits)))[:, 0].numpy(), np.asarray(digits.labels)
    for label in range(5):
        kind = folder / "labelled_photos" / f"Größe {label}"
        kind.mkdir(parents=True)
        for number, row in enumerate(np.flatnonzero(labels == label)[:20]):
            Image.fromarray(pixels[row]).convert("RGB").save(kind / f"{number}.png")
    return folder


def tiny_source(count: int = 30, classes: int = 3) -> ArraySource:
    images = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 4, 4).contiguous()
    return ArraySource(images, np.arange(count) % classes, [f"c{i}" for i in range(classes)], "tiny")


class Pictures(Dataset[Any]):
    """Pillow's pictures of changing sizes; labels only in the items."""

    classes = ("zero", "one")

    def __init__(self, labelled: bool = True) -> None:
        self.labelled = labelled

    def __len__(self) -> int:
        return 6

    def __getitem__(self, number: int) -> Any:
        picture = Image.new("RGB", (20 + number, 30), (40 * number, 0, 0))
        return (picture, torch.tensor(number % 2)) if self.labelled else picture
