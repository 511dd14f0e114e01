"""Methods of sequences on small encoders, and a batch of two modalities with what is absent and what was not measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from kinshot.core.context import RunContext
from kinshot.encoders.build import build_encoder
from kinshot.learn import METHODS
from kinshot.learn.model import Model
from kinshot.samples.batch import Batch
from kinshot.samples.bundle import BundleSpec
from kinshot.samples.series import SeriesSpec
from tests import reference_temporal as slow

ACC, AIR = SeriesSpec(3, 24, 50.0, (0.0,) * 3, (1.0,) * 3), SeriesSpec(1, 8, 50 / 3, (0.0,), (1.0,))
SPEC = BundleSpec(("acc", "air"), (ACC, AIR))
SECONDS = 0.48
EACH = {
    "series_cnn": "series_cnn:widths=[8, 6]:kernels=[4, 2]:strides=[2, 1]",
    "tcn": "tcn:hidden=6:depth=2:features=8",
    "conv_gru": "conv_gru:widths=[6, 5]:kernels=[3, 2]:strides=[2, 1]:hidden=7",
}
N, B = 24, 6
# of windows that overlap by half, in two recordings: 0 and 1 overlap, as do 2 and 3
INDICES = torch.tensor([0, 1, 4, 5, 13, 18])
CLOCK = (np.arange(N) % 12 * SECONDS / 2, np.arange(N) // 12)


def rows(seed: int = 0) -> Tensor:
    """Bundles of which the second lacks `air` and the fifth `acc`, with a burst and an end that was not measured."""
    generator = torch.Generator().manual_seed(seed)
    x = {name: part.noise(B, generator) for name, part in SPEC.modalities.items()}
    nan = float("nan")
    x["air"][1], x["acc"][4], x["acc"][2, :, 4:9], x["acc"][3, :, 17:], x["acc"][5, 1] = nan, nan, nan, nan, nan
    return SPEC.join(x)


def method_of(name: str, each: str = "series_cnn", *, spec: Any = SPEC, clock: Any = CLOCK, **settings: Any) -> Any:
    """A method on a small encoder of bundles, or of the accelerometer alone."""
    how = {"each": EACH[each]} if spec is SPEC else {}
    encoder = build_encoder("fused" if spec is SPEC else each, how, spec, seed=3)
    return METHODS.build(name, Model(encoder), RunContext(N, B, 4, 40, 7, clock=clock), settings=settings)


def batch_of(*views: Tensor, step: int = 5, clean: Tensor | None = None) -> Batch:
    return Batch(INDICES, views, clean, step=step)


def apart_of() -> np.ndarray:
    """Who is told apart, by loops over the clock."""
    start, recording = (np.asarray(values)[INDICES.numpy()] for values in CLOCK)
    long = [SECONDS] * B
    return np.array([[i != j and not slow.overlap(recording, start, long, i, j) for j in range(B)] for i in range(B)])


def wide(x: Tensor) -> np.ndarray:
    return x.detach().double().numpy()
