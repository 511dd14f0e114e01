"""What an encoder costs: parameters, multiply-accumulates, bytes of its file, and how long it takes on a CPU."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from kinshot.core.checkpoint_files import encode_tensors
from kinshot.core.errors import ConfigError
from kinshot.core.rng import keyed_generator
from kinshot.encoders.base import FeatureSpec, InputSpec, Spec
from kinshot.fewshot.records import torch_threads
from kinshot.recipes.embedder import Embedder

_FEWEST = 5
"""Calls that are timed however slow they are."""


@dataclass(frozen=True)
class Timing:
    """How latency is measured.

    Args:
        threads: torch threads inside an operation.
        batches: samples in a call, one measurement for each.
        warmup: calls before the clock starts.
        repeats: calls that are timed.
        seconds: calls end after so many seconds, once five are timed: for encoders that are slow.
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


@dataclass(frozen=True)
class Footprint:
    """What an encoder costs, its projector left out.

    Args:
        parameters: learned numbers; running statistics of normalisations are none.
        macs: multiply-accumulates of convolutions, linear layers and matrix products for one sample; what goes on between them
            (normalisation, rectifiers, pooling, quantisation) is not counted.
        file_bytes: size of the encoder's safetensors file.
        latency: on this machine's CPU, for each size of batch.
    """

    parameters: int
    macs: int
    file_bytes: int
    latency: tuple[Latency, ...]


def footprint(model: Embedder, timing: Timing | None = None, *, origin: Embedder | None = None) -> Footprint:
    """What a model's encoder costs.

    Args:
        model: the model.
        timing: how latency is measured; None for the defaults.
        origin: the float model that a quantised one was made from, whose parameters and MACs count: the quantised network folds its
            normalisations, and computes the same products on smaller numbers.

    Raises:
        ConfigError: a timing out of range.
    """
    counted = origin or model
    return Footprint(
        parameters=parameters_of(counted.encoder),
        macs=macs_of(counted.encoder, counted.input),
        file_bytes=file_bytes_of(model.encoder),
        latency=latency_of(model.encoder, model.input, timing or Timing()),
    )


def parameters_of(module: nn.Module) -> int:
    """Learned numbers of a module."""
    return sum(parameter.numel() for parameter in module.parameters())


def macs_of(encoder: nn.Module, input: Spec) -> int:
    """Multiply-accumulates of convolutions, linear layers and matrix products for one sample: half of torch's count of operations."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        encoder(example_batch(input, 1).to(_device(encoder)))
    return counter.get_total_flops() // 2


def file_bytes_of(encoder: nn.Module) -> int:
    """Size in bytes of the safetensors file of an encoder's state, as checkpoints hold it."""
    return len(encode_tensors(encoder.state_dict(), "encoder"))


def latency_of(encoder: nn.Module, input: Spec, timing: Timing) -> tuple[Latency, ...]:
    """Latency of an encoder on the CPU, in its present mode, on normalised samples, for each size of batch. Raises ConfigError."""
    timing.check()
    with torch.inference_mode(), torch_threads(timing.threads):
        return tuple(_timed(encoder, example_batch(input, batch), timing) for batch in timing.batches)


def example_batch(input: Spec, batch: int) -> Tensor:
    """Noise as the encoder takes it, the same every time: normalised images channels-last (B, C, H, W), rows (B, F) or tokens (B, L)."""
    generator = keyed_generator(0, "example batch", batch)
    if isinstance(input, InputSpec):
        shape = (batch, input.channels, input.size, input.size)
        return torch.randn(shape, generator=generator).contiguous(memory_format=torch.channels_last)
    if isinstance(input, FeatureSpec):
        return torch.randn(batch, input.dim, generator=generator)
    return torch.randint(1, input.vocabulary, (batch, input.length), generator=generator)


def _timed(encoder: nn.Module, x: Tensor, timing: Timing) -> Latency:
    for _ in range(timing.warmup):
        encoder(x)
    taken: list[float] = []
    start = time.perf_counter()
    while len(taken) < timing.repeats and (len(taken) < _FEWEST or time.perf_counter() - start < timing.seconds):
        before = time.perf_counter()
        encoder(x)
        taken.append(1000 * (time.perf_counter() - before))
    low, median, high = np.percentile(taken, [25, 50, 75])
    return Latency(len(x), float(median), float(low), float(high), len(taken))


def _device(module: nn.Module) -> torch.device:
    parameter = next(module.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device
