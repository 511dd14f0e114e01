"""Passing a network only the samples that have what it takes: absent ones enter no statistic of a batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from kinshot.encoders.build import Encoder
from kinshot.encoders.maps import Maps
from kinshot.encoders.place_pooling import valid_places


def through(module: nn.Module, x: Tensor, rows: Tensor, dim: int) -> Tensor:
    """What a module says of some rows of a batch, (B, dim): zero for the others, which do not pass it.

    One row that is alone in a batch has no batch that it could be normalised by, and passes as in evaluation mode. Where there is none,
    the module does not run.

    Args:
        module: (n, ...) to (n, dim).
        x: (B, ...).
        rows: bool (B,), best on the CPU, as it is read there.
        dim: of what it says.
    """
    kept = rows.nonzero().squeeze(1).to(x.device)
    if not len(kept):
        return x.new_zeros(len(rows), dim)
    if len(kept) == len(rows) > 1:
        found: Tensor = module(x)
        return found
    with _evaluating(module, len(kept) == 1):
        z: Tensor = module(x[kept])
    return _among(len(rows), kept, z)


def maps_through(encoder: Encoder, x: Tensor, rows: Tensor, stages: Sequence[str], **more: Tensor) -> list[Maps]:
    """What stages of an encoder of series say of some rows of a batch: zero and invalid for the others, which do not pass it.

    As `through`, with maps (B, D, T') in place of features.

    Args:
        encoder: of series.
        x: normalised series (B, C, T).
        rows: bool (B,), best on the CPU, as it is read there.
        stages: of the encoder.
        more: what else its `maps` takes, a row for each sample.
    """
    kept = rows.nonzero().squeeze(1).to(x.device)
    if not len(kept):
        return [_nothing(encoder, x, stage) for stage in stages]
    if len(kept) == len(rows) > 1:
        return encoder.maps(x, stages, **more)
    with _evaluating(encoder, len(kept) == 1):
        found = encoder.maps(x[kept], stages, **{name: value[kept] for name, value in more.items()})
    return [Maps(_among(len(rows), kept, maps.values), maps.stride, _among(len(rows), kept, valid_places(maps))) for maps in found]


def _nothing(encoder: Encoder, x: Tensor, stage: str) -> Maps:
    """The maps of a stage that nobody came to."""
    stride = encoder.strides[stage]
    places = -(-x.shape[2] // stride)
    valid = torch.zeros(len(x), places, dtype=torch.bool, device=x.device)
    return Maps(x.new_zeros(len(x), encoder.dims[stage], places), stride, valid)


def _among(count: int, kept: Tensor, values: Tensor) -> Tensor:
    """Rows in their places among `count`, zero elsewhere."""
    return values.new_zeros(count, *values.shape[1:]).index_copy(0, kept, values)


@contextmanager
def _evaluating(module: nn.Module, alone: bool) -> Iterator[None]:
    """Evaluation mode inside, where a row is alone; each submodule's own mode comes back afterwards."""
    if not alone:
        yield
        return
    before = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, training in before.items():
            part.training = training
