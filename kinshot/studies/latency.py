"""How long encoders take on a CPU, called in turn, so that what else the machine does falls on all of them alike."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from kinshot.core.errors import ConfigError
from kinshot.core.rng import keyed_generator
from kinshot.fewshot.records import torch_threads
from kinshot.samples.spec import Spec

_FEWEST = 5
"""Calls that are timed however slow an encoder is."""

_TURN = 5
"""Calls that an encoder gets in a turn, behind one that is not timed: its weights are in the cache, as in use."""


@dataclass(frozen=True)
class Timing:
    """How latency is measured.

    Args:
        threads: torch threads inside an operation.
        batches: samples in a call, one measurement for each.
        warmup: calls before the clock starts.
        repeats: calls that are timed.
        seconds: an encoder's calls end after so many seconds, once five are timed: for those that are slow.
    """

    threads: int = 1
    batches: tuple[int, ...] = (1, 64)
    warmup: int = 5
    repeats: int = 50
    seconds: float = 10.0

    def check(self) -> None:
        """Raise ConfigError for a number out of range."""
        for name, value in (("threads", self.threads), ("repeats", self.repeats), ("batch", min(self.batches, default=1))):
            if value < 1:
                raise ConfigError(f"latency: {name} must be at least 1, got {value}")


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one call with `batch` samples: the median and the quartiles around it, over `calls` calls."""

    batch: int
    median: float
    low: float
    high: float
    calls: int


def latencies(encoders: Sequence[tuple[nn.Module, Spec]], timing: Timing) -> list[tuple[Latency, ...]]:
    """Latency of each encoder on the CPU, in its present mode, on normalised samples, for each size of batch.

    The encoders take turns of a few calls, so that their figures can be compared on a machine that is not quiet.

    Args:
        encoders: each with what it takes.
        timing: how many calls, of how many samples.

    Raises:
        ConfigError: a timing out of range.
    """
    timing.check()
    found = []
    with torch.inference_mode(), torch_threads(timing.threads):
        for batch in timing.batches:
            stands = [_Stand(encoder, example_batch(input, batch), timing) for encoder, input in encoders]
            while turns := [stand for stand in stands if stand.goes_on]:
                for stand in turns:
                    stand.turn()
            found.append([stand.latency() for stand in stands])
    return list(zip(*found, strict=True)) if found else [()] * len(encoders)


def example_batch(input: Spec, batch: int) -> Tensor:
    """Noise as the encoder takes it, the same every time: normalised images channels-last (B, C, H, W), rows (B, F) or tokens (B, L)."""
    return input.noise(batch, keyed_generator(0, "example batch", batch))


class _Stand:
    """One encoder and one batch under the clock."""

    def __init__(self, encoder: nn.Module, x: Tensor, timing: Timing) -> None:
        self.encoder, self.x, self.timing = encoder, x, timing
        self.taken: list[float] = []
        for _ in range(timing.warmup):
            encoder(x)

    @property
    def goes_on(self) -> bool:
        """Whether calls are left to time."""
        calls = len(self.taken)
        return calls < self.timing.repeats and (calls < _FEWEST or sum(self.taken) < 1000 * self.timing.seconds)

    def turn(self) -> None:
        """One call to come back into the cache, then those that are timed."""
        self.encoder(self.x)
        for _ in range(_TURN):
            if self.goes_on:
                before = time.perf_counter()
                self.encoder(self.x)
                self.taken.append(1000 * (time.perf_counter() - before))

    def latency(self) -> Latency:
        """What was found."""
        low, median, high = np.percentile(self.taken, [25, 50, 75])
        return Latency(len(self.x), float(median), float(low), float(high), len(self.taken))
