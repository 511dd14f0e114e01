"""What an encoder weighs: parameters, multiply-accumulates, and bytes of its file."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from kinshot.core.checkpoint_files import encode_tensors
from kinshot.learn.model import Model
from kinshot.samples.spec import Spec
from kinshot.studies.latency import example_batch


@dataclass(frozen=True)
class Footprint:
    """What an encoder weighs, its projector left out.

    Args:
        parameters: learned numbers; running statistics of normalisations are none.
        macs: multiply-accumulates of convolutions, linear layers and matrix products for one sample; what goes on between them
            (normalisation, rectifiers, pooling, quantisation) is not counted.
        file_bytes: size of the encoder's safetensors file.
    """

    parameters: int
    macs: int
    file_bytes: int


def footprint(model: Model, *, origin: Model | None = None) -> Footprint:
    """What a model's encoder weighs.

    Args:
        model: the model.
        origin: the float model that a quantised one was made from, whose parameters and MACs count: the quantised network folds its
            normalisations, and computes the same products on smaller numbers.
    """
    counted = origin or model
    return Footprint(parameters_of(counted.encoder), macs_of(counted.encoder, counted.input), file_bytes_of(model.encoder))


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


def counted(value: float) -> str:
    """A large number in a few characters: 111936 is 112k."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def _device(module: nn.Module) -> torch.device:
    parameter = next(module.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device
