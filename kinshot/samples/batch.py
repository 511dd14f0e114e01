"""What one step of training sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

Loaded = Tensor | Mapping[str, Tensor]
"""Samples as a source gives them: (B, ...), or one such tensor by field."""


class Partners(NamedTuple):
    """Further samples that a term asked for beside a batch, normalised: `ids` int64 (P,), `samples` (P, ...)."""

    ids: Tensor
    samples: Tensor


@dataclass(frozen=True)
class Shown:
    """What rows of outputs show; rows of one view stand together, in the order of the batch.

    Args:
        samples: int64 (R,), the sample that each row shows.
        views: number of the view that each block of R / len(views) rows shows; -1 for the samples as they are.
        inputs: what the networks were given, whose rows are these rows.
    """

    samples: Tensor
    views: tuple[int, ...]
    inputs: tuple[Tensor, ...]


@dataclass(frozen=True)
class Batch:
    """The samples of one step, on the device of the networks, normalised.

    Args:
        indices: int64 (B,), which samples of the training source these are.
        views: augmented batches, each (B, ...), in the order of the recipe's views.
        clean: the same samples as evaluation sees them, (B, ...), where somebody asked for them.
        partners: what each term asked for, by the term's number.
        beside: fields that the networks do not take, class maps for example, as tensors (B, ...) for each view: what `Method.fields` names.
        step: 0-based step of the whole run, by which a method keys what it draws.
    """

    indices: Tensor
    views: Sequence[Tensor]
    clean: Tensor | None = None
    partners: Mapping[int, Partners] = field(default_factory=dict)
    beside: Mapping[str, Sequence[Tensor]] = field(default_factory=dict)
    step: int = 0


def moved(samples: Loaded, device: torch.device) -> Loaded:
    """Samples on another device."""
    if isinstance(samples, Tensor):
        return samples.to(device, non_blocking=True)
    return {name: values.to(device, non_blocking=True) for name, values in samples.items()}
