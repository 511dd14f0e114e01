"""Augmentation alone: two views of a batch by kinshot's warp, lightly (PIL), kornia and torchvision, alternating in one process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import kornia.augmentation as K
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from benchmarks.common import (
    BATCH,
    CLOCKS,
    RATE,
    SEED,
    Clock,
    Measured,
    alternate,
    color_images,
    gray_images,
    parser,
    rate,
    ratios,
    say,
    settle,
    write_result,
)
from benchmarks.lightly_recipes import make_transform, pil_arrays
from benchmarks.throughput import VIEWS
from kinshot.datasets.base import ArraySource
from kinshot.datasets.views.warp import Warp
from kinshot.samples.pixels import PixelSpec
from kinshot.samples.statistics import pixel_statistics

OURS = "kinshot warp"
LIGHTLY = "lightly SimCLRTransform (PIL)"
KORNIA = "kornia AugmentationSequential"
TORCHVISION = "torchvision v2, one sample at a time"
BARS = {LIGHTLY: 15.0, KORNIA: 4.0, TORCHVISION: None}
SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)
JITTER: dict[str, float] = {"brightness": 0.8, "contrast": 0.8, "saturation": 0.8, "hue": 0.2}
Views = Callable[[], list[Tensor]]


def warp_views(source: ArraySource) -> Views:
    """kinshot: the whole batch at once, each sample with its own keyed draw."""
    views = Warp(PixelSpec.square(source.shape[0], source.shape[1], *pixel_statistics(source)), **VIEWS["simclr"])
    images, indices = source.load(torch.arange(BATCH)), torch.arange(BATCH)
    epochs = iter(range(10**9))
    return lambda: views(images, indices, seed=SEED, epoch=next(epochs))


def lightly_views(source: ArraySource) -> Views:
    """lightly: one PIL image after the other, then stacked as a loader does."""
    transform: Any = make_transform("simclr", source)
    images = [Image.fromarray(image) for image in pil_arrays(source)[:BATCH]]

    def both() -> list[Tensor]:
        first, second = zip(*(transform(image) for image in images), strict=True)
        return [torch.stack(first), torch.stack(second)]

    return both


def kornia_views(source: ArraySource) -> Views:
    """kornia: the whole batch at once, each sample with its own draw; its colour operations need three channels, so gray has tones only."""
    channels, size, _ = source.shape
    mean, std = (torch.tensor(v) for v in pixel_statistics(source))
    tones = (1 - JITTER["brightness"], 1 + JITTER["brightness"])
    color: list[Any] = [K.ColorJitter(**JITTER, p=0.8), K.RandomGrayscale(p=0.2)]  # type: ignore[arg-type]
    gray: list[Any] = [K.RandomBrightness(tones, p=0.8), K.RandomContrast(tones, p=0.8)]
    chain = K.AugmentationSequential(
        K.RandomResizedCrop((size, size), scale=SCALE, ratio=RATIO),
        K.RandomHorizontalFlip(p=0.5),
        *(color if channels == 3 else gray),
        K.Normalize(mean, std),
        data_keys=["input"],
        same_on_batch=False,
    )
    images = source.load(torch.arange(BATCH))

    @torch.no_grad()
    def both() -> list[Tensor]:
        x = images.float().div(255)
        return [chain(x), chain(x)]

    return both


def torchvision_views(source: ArraySource) -> Views:
    """torchvision v2 on uint8 tensors: it has one draw per call, so one call per sample."""
    channels, size, _ = source.shape
    mean, std = pixel_statistics(source)
    jitter = JITTER if channels == 3 else {"brightness": 0.8, "contrast": 0.8}
    chain = v2.Compose(
        [
            v2.RandomResizedCrop(size, scale=SCALE, ratio=RATIO, antialias=True),
            v2.RandomHorizontalFlip(0.5),
            v2.RandomApply([v2.ColorJitter(**jitter)], p=0.8),  # type: ignore[arg-type]
            v2.RandomGrayscale(0.2),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(list(mean), list(std)),
        ]
    )
    images = source.load(torch.arange(BATCH))
    return lambda: [torch.stack([chain(image) for image in images]) for _ in range(2)]


SIDES: dict[str, Callable[[ArraySource], Views]] = {
    OURS: warp_views,
    LIGHTLY: lightly_views,
    KORNIA: kornia_views,
    TORCHVISION: torchvision_views,
}
# One call of a batched side takes milliseconds: more calls per round, so that every side is measured for a comparable time.
FAST = {OURS: 10, KORNIA: 4}


def compare(title: str, source: ArraySource, rounds: int, steps: int, clock: Clock) -> list[Measured]:
    """Rates of every side, and our ratio to each, one figure per round."""
    made = {name: build(source) for name, build in SIDES.items()}
    for name, views in made.items():
        _check(name, views(), source)
    timed = {name: _timed(views, steps * FAST.get(name, 1), clock) for name, views in made.items()}
    found = alternate(timed, rounds)
    rates = [Measured(f"{title}, {name}", RATE, values) for name, values in found.items()]
    against = [Measured(f"{title}, kinshot / {name}", "times", ratios(found[OURS], found[name]), bar) for name, bar in BARS.items()]
    return rates + against


def main() -> None:
    """Measure, print, and write the result file if one is asked for."""
    options = parser(__doc__, rounds=5, steps=5).parse_args()
    notes = [
        f"{settle(options.threads)}; the same for every side",
        f"threads: {options.threads}, clock: {options.clock}",
        "images/s counts source images, two views each; no blur",
    ]
    for note in notes:
        say(note)
    measured: list[Measured] = []
    for title, source in (("gray 28", gray_images()), ("colour 32", color_images())):
        found = compare(title, source, options.rounds, options.steps, CLOCKS[options.clock])
        for one in found:
            say(one.line())
        measured += found
    if options.json:
        data = {
            "gray 28": "glyphs",
            "colour 32": "random colour",
            "batch": BATCH,
            "views": 2,
            "rounds": options.rounds,
            "steps": options.steps,
        }
        write_result(options.json, "benchmarks.augmentation", data, measured, ("lightly", "kornia", "torchvision", "pillow"), notes)


def _timed(views: Views, repeats: int, clock: Clock) -> Callable[[], float]:
    return lambda: rate(views, BATCH, repeats, clock)


def _check(name: str, views: list[Tensor], source: ArraySource) -> None:
    """Every side must give the same kind of result before its time means anything."""
    for view in views:
        if view.shape != (BATCH, *source.shape) or view.dtype != torch.float32 or not torch.isfinite(view).all():
            raise RuntimeError(f"{name} gave {view.dtype} {tuple(view.shape)}, expected finite float32 {(BATCH, *source.shape)}")


if __name__ == "__main__":
    main()
