"""Folders of pictures for indexes, a small encoder, and brute force in float64."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from kinshot.core.rng import keyed_numpy
from kinshot.index.building import Indexed, build_index
from kinshot.index.opened import Index, open_index
from tests.enrolled_tools import small_encoder

OLD_NS = 1_600_000_000_000_000_000
"""A time long ago: a file that was written just now is hashed again, as it may change once more without a new time."""


def picture(number: int, size: tuple[int, int] = (24, 30)) -> np.ndarray:
    """Smooth colours and grain that depend on the number."""
    rng = keyed_numpy(3, "index", number)
    y, x = np.mgrid[: size[0], : size[1]] / max(size)
    wave = np.sin(rng.uniform(2, 12) * x[..., None] + rng.uniform(2, 12) * y[..., None] + rng.uniform(0, 6, 3))
    return (127 + 90 * wave + rng.normal(0, 8, (*size, 3))).clip(0, 255).astype(np.uint8)


def save(path: Path, pixels: np.ndarray, **options: object) -> Path:
    """A picture as a file of long ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)  # type: ignore[arg-type]
    os.utime(path, ns=(OLD_NS, OLD_NS))
    return path


def folder_of(place: Path, count: int) -> Path:
    """A folder of so many pictures in two folders."""
    for number in range(count):
        save(place / ("a" if number % 3 else "b") / f"{number:03d}.png", picture(number))
    return place


def build(folder: Path, out: Path, **options: object) -> Indexed:
    """An index by the small encoder."""
    return build_index(folder, out, opened=small_encoder(), **options)  # type: ignore[arg-type]


def opened(out: Path, **options: object) -> Index:
    """The index, with the small encoder in the place of the one that it would look for."""
    index = open_index(out, **options)  # type: ignore[arg-type]
    index.__dict__["model"] = small_encoder()[0]
    return index


def rows_of(index: Index) -> np.ndarray:
    """All features, float64 (N, D)."""
    return torch.cat([shard.features for shard in index.state.shards]).double().numpy()


def brute_force(queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """Cosines (Q, N) in float64."""
    a, b = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (queries, gallery))
    return a @ b.T


def contents(out: Path) -> dict[str, bytes]:
    """Every file of tensors of an index."""
    return {path.name: path.read_bytes() for path in sorted(out.glob("*.safetensors"))}


def changed(counts: dict[str, int]) -> Sequence[int]:
    """Unchanged, added, changed, moved, removed, embedded."""
    return [counts[name] for name in ("unchanged", "added", "changed", "moved", "removed", "embedded")]
