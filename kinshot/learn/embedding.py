"""From whatever a user has to features: batch by batch, so that no more than one batch of decoded samples is held."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from kinshot.core.errors import ConfigError, DataError
from kinshot.core.progress import Progress
from kinshot.datasets.images import failures, told
from kinshot.datasets.pictures import Picture, pictures
from kinshot.samples.pixels import PixelSpec
from kinshot.samples.spec import Spec, given_as

IMAGES_AT_ONCE = 32
"""Images in a batch where nobody says; other samples are small and pass at once."""
_HELD = (list, tuple, str, os.PathLike, np.ndarray, Image.Image, Tensor)
"""What can be listed before anything is decoded; other iterables are read one by one."""
Run = Callable[[Any], dict[str, Tensor]]
Found = tuple[dict[str, Tensor], dict[int, str], int]


def embedded(spec: Spec, run: Run, samples: Any, batch: int | None, progress: bool) -> Found:
    """Outputs of samples of any form by name, what is wrong with pictures that cannot be read and so have no row, and how many there were.

    Args:
        spec: samples that the encoder takes.
        run: outputs of a batch that `spec.prepare` takes.
        samples: see `Model.embed`.
        batch: samples that pass at once; None: `IMAGES_AT_ONCE` images, and other samples all at once.
        progress: show on stderr how far it is.
    """
    if batch is not None and (isinstance(batch, bool) or not isinstance(batch, int) or batch < 1):
        raise ConfigError(f"batch is how many samples pass the encoder at once, a whole number of at least 1, got {batch!r}")
    if isinstance(spec, PixelSpec):
        return _images(spec, run, samples, batch or IMAGES_AT_ONCE, progress)
    parts, done = [], 0
    batches = _others(spec, samples, None if spec.whole else batch)
    with Progress(None, unit="sample", quiet=not progress) as bar:
        for one in batches:
            parts.append(run(one))
            done += len(next(iter(parts[-1].values())))
            bar.update(done)
    return _joined(parts), {}, done


def _images(spec: PixelSpec, run: Run, samples: Any, batch: int, progress: bool) -> Found:
    items: Iterable[Picture | Tensor] = pictures(samples)
    total = None
    if isinstance(samples, _HELD):
        items = list(items)
        total = sum(1 if isinstance(item, Picture) else len(item) for item in items)
    parts, failed, row, began = [], dict[int, str](), 0, time.monotonic()
    with Progress(total, unit="image", quiet=not progress) as bar:
        for group in _groups(items, batch):
            count = len(group)
            if isinstance(group, Tensor):
                parts.append(run(group))
            else:
                pixels, wrong = _decoded(spec, group, row)
                failed |= wrong
                if len(pixels):
                    parts.append(run(torch.from_numpy(pixels)))
            row += count
            bar.update(row, rate=row / max(time.monotonic() - began, 1e-9))
    if not row and not parts:
        raise DataError("got no images: give at least one")
    return _joined(parts), failed, row


def _groups(items: Iterable[Picture | Tensor], batch: int) -> Iterator[list[Picture] | Tensor]:
    """Pictures, and rows of tensors, in their order, at most so many at a time."""
    waiting: list[Picture] = []
    for item in items:
        if isinstance(item, Picture):
            waiting.append(item)
        if waiting and (len(waiting) == batch or isinstance(item, Tensor)):
            yield waiting
            waiting = []
        if isinstance(item, Tensor):
            yield from item.split(batch)
    if waiting:
        yield waiting


def _decoded(spec: PixelSpec, group: Sequence[Picture], row: int) -> tuple[np.ndarray, dict[int, str]]:
    """Pixels of the pictures that can be read, bytes if all of them are, and what is wrong with the others by their row."""
    if spec.height != spec.width or spec.channels not in (1, 3):
        advice = "pictures are brought to squares of 1 or 3 channels alone: give tensors (B, C, H, W)"
        raise ConfigError(f"the encoder was made for {spec.describe()}, and {advice}")
    found: dict[int, np.ndarray] = {}

    def decode(place: int) -> None:
        found[place] = group[place].pixels(spec.size, spec.channels, row + place)

    wrong = failures(len(group), decode)
    kept = [found[place] for place in range(len(group)) if place not in wrong]
    if any(one.dtype != np.uint8 for one in kept):
        kept = [one.astype(np.float32) / 255 if one.dtype == np.uint8 else one for one in kept]
    pixels = np.stack(kept) if kept else np.empty((0, *spec.shape), dtype=np.uint8)
    return pixels, {row + place: why for place, why in wrong.items()}


def _others(spec: Spec, samples: Any, batch: int | None) -> Iterator[Any]:
    """Batches of samples that are no images, as `prepare` takes them: one of all where `batch` is None."""
    given = _tensors(samples)
    if isinstance(given, Tensor):
        yield from given.split(batch) if batch else [given]
    elif isinstance(given, Mapping):
        parts = {name: values.split(batch) if batch and isinstance(values, Tensor) else [values] for name, values in given.items()}
        if len({len(one) for one in parts.values()}) != 1:
            yield given  # none, or different numbers of samples, which `prepare` refuses with their names
        else:
            yield from (dict(zip(parts, one, strict=True)) for one in zip(*parts.values(), strict=True))
    elif isinstance(given, str):
        yield given  # one text is none of a list of texts, and says so where texts are taken
    elif isinstance(given, bytes | os.PathLike | Image.Image) or not isinstance(given, Iterable):
        raise DataError(f"this encoder was made for {spec.describe()}, got {given_as(given)}: give it samples of that kind")
    else:
        yield from _gathered(spec, iter(given), batch)


def _gathered(spec: Spec, items: Iterator[Any], batch: int | None) -> Iterator[Any]:
    """What an iterable gives one by one, so many at a time: texts as a list, tensors or arrays of one sample each as a batch."""
    first = True
    while (group := [_tensors(item) for item in itertools.islice(items, batch)]) or first:
        first = False
        shapes = {item.shape for item in group if isinstance(item, Tensor)}
        if not shapes or any(not isinstance(item, Tensor) for item in group):
            yield group  # texts, or what `prepare` refuses
        elif len(shapes) > 1 or len(min(shapes)) != len(spec.shape):
            got = ", ".join(str(tuple(shape)) for shape in sorted(shapes)[:3])
            raise DataError(f"this encoder was made for {spec.describe()}: give a batch, or single samples that are all alike, got {got}")
        else:
            yield torch.stack(group)
        if batch is None:
            return


def _tensors(given: Any) -> Any:
    """Arrays of numbers as tensors, also those in a mapping, arrays of texts as lists; anything else as it is."""
    if isinstance(given, np.ndarray):
        if given.dtype.kind in "OUT":
            return given.tolist()
        return torch.from_numpy(given if given.flags.writeable and min(given.strides, default=0) >= 0 else given.copy())
    if isinstance(given, Mapping):
        return {name: _tensors(values) for name, values in given.items()}
    return given


def _joined(parts: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    return parts[0] if len(parts) == 1 else {name: torch.cat([part[name] for part in parts]) for name in (parts[0] if parts else ())}


def refuse(failed: Mapping[int, str], count: int) -> None:
    """Raises DataError that names all pictures that cannot be read, where there are any."""
    if failed:
        raise DataError(told(failed, count))
