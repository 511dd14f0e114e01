"""Backbone features of a stream of sensors: of each window by itself, or of all that came, from a state that is carried on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.datasets.stream_windows import Window
from kinshot.encoders.streaming import stream_of
from kinshot.learn.model import BACKBONE, Model
from kinshot.samples.bundle import BundleSpec
from kinshot.samples.series import SeriesSpec

_EPS = 1e-6


class Features(Protocol):
    """What gives the features of the windows of a stream, in their order."""

    def begin(self) -> None:
        """Another stream begins."""

    def __call__(self, window: Window) -> tuple[Tensor | None, dict[str, float]]:
        """(1, dim), None where nothing was measured, and the share of its steps that each modality measured in the window."""


class WindowFeatures:
    """Each window by itself, as `Model.embed` takes it.

    Args:
        model: in evaluation mode.
        series: what its encoder takes of each modality.
        seconds: length of a window, not above that of the windows that the encoder was trained on; a shorter one is filled up with NaN.
        measured: least share of its steps that a modality must have measured to be present.

    Raises:
        ConfigError: windows of another length than these, or of no step of a modality.
    """

    def __init__(self, model: Model, series: Mapping[str, SeriesSpec], seconds: float, measured: float) -> None:
        longest = max(part.seconds for part in series.values())
        if seconds > longest + _EPS:
            raise ConfigError(f"--window: this encoder was trained on windows of {longest:g} s, got {seconds:g}: give at most that")
        self.model, self.measured = model, measured
        self.lengths = {name: math.floor(seconds * part.rate + _EPS) for name, part in series.items()}
        short = [name for name, length in self.lengths.items() if length < 1]
        if short:
            rate = series[short[0]].rate
            raise ConfigError(f"--window: no step of {short[0]} at {rate:g} Hz fits into {seconds:g} s: take longer windows")

    def begin(self) -> None:
        """Windows do not know of each other."""

    def __call__(self, window: Window) -> tuple[Tensor | None, dict[str, float]]:
        """See `Features`."""
        shares, there = {}, {}
        for name, length in self.lengths.items():
            steps = window.steps[name][:length]
            shares[name] = _measured(steps) / length
            if 0 < shares[name] >= self.measured - _EPS:
                there[name] = torch.from_numpy(np.ascontiguousarray(steps.T))[None]
        if not there:
            return None, shares
        device = next(self.model.parameters()).device
        given: Any = {name: values.to(device) for name, values in there.items()}
        samples = given if isinstance(self.model.input, BundleSpec) else given["series"]
        return self.model.embed(samples)[BACKBONE], shares


class CarriedFeatures:
    """Everything since the stream began, from a state that each window's steps are added to; windows lie end to end.

    A modality that counts around the mean of its whole window (`SeriesSpec.relative`) cannot be known before the window's end, and is
    absent.

    Args:
        model: in evaluation mode.
        series: what its encoder takes of each modality.
        whose: the encoder's name, for messages.
        say: told which modalities are absent for that.

    Raises:
        ConfigError: an encoder that does not stream, or all of whose modalities count around the means of windows.
    """

    def __init__(self, model: Model, series: Mapping[str, SeriesSpec], whose: str, say: Callable[[str], None]) -> None:
        self.model = model
        self.encoder: Any = stream_of(whose, model.encoder)  # of chunks, or of chunks by modality
        self.series = {name: part for name, part in series.items() if not part.relative}
        left_out = [name for name in series if name not in self.series]
        if left_out:
            what = f"{', '.join(left_out)}: counts around the mean of its window, which is not known before the window's end"
            if not self.series:
                raise ConfigError(f"encoder {whose} cannot stream {what}: ask for windows, or train without relative")
            say(f"{what}: left out")
        self.begin()

    def begin(self) -> None:
        """Forget what came."""
        self.state = self.encoder.start(1)
        self.feature: Tensor | None = None
        self.some = False

    @torch.no_grad()
    def __call__(self, window: Window) -> tuple[Tensor | None, dict[str, float]]:
        """See `Features`."""
        device = next(self.model.parameters()).device
        chunks = {
            name: self.series[name].normalize(torch.from_numpy(np.ascontiguousarray(steps.T))[None].to(device))
            for name, steps in window.steps.items()
            if len(steps) and name in self.series
        }
        shares = {name: _measured(steps) / max(len(steps), 1) if name in self.series else 0.0 for name, steps in window.steps.items()}
        if chunks:
            streamed, self.state = self.encoder.step(chunks if isinstance(self.model.input, BundleSpec) else chunks["series"], self.state)
            self.feature = streamed.feature
            self.some = self.some or any(shares.values())
        return self.feature if self.some else None, shares


def _measured(steps: np.ndarray) -> int:
    """Steps (n, C) of which any channel was measured."""
    return int((~np.isnan(steps).all(axis=1)).sum())
