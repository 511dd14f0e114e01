"""What a method says of a batch: tensors by name, with the sample and the view that each row shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from kinshot.learn.model import Model
from kinshot.samples.batch import Batch, Shown


@dataclass(frozen=True)
class Outputs:
    """Outputs by name, each (R, ...) with gradients, and what their rows show."""

    values: Mapping[str, Tensor]
    shown: Shown

    def __getitem__(self, name: str) -> Tensor:
        """All rows of an output, (R, ...)."""
        return self.values[name]

    def passes(self, name: str) -> tuple[Tensor, ...]:
        """Rows of an output by pass of the networks: those that one batch normalisation saw."""
        return self.values[name].split([len(x) for x in self.shown.inputs])

    def blocks(self, name: str) -> tuple[Tensor, ...]:
        """Rows of an output by view, each (B, ...)."""
        rows = self.values[name]
        return rows.split(len(rows) // len(self.shown.views)) if len(self.shown.views) > 1 else (rows,)


def outputs_of(model: Model, batch: Batch, views: Sequence[int], names: Sequence[str], *, joint: bool = True) -> Outputs:
    """A model's outputs on some views of a batch.

    Args:
        model: the networks.
        batch: of B samples.
        views: numbers of the views that are shown.
        names: outputs wanted, see `Model.outputs`.
        joint: pass neighbouring views of one size as one batch, so that batch normalisation sees all of them; else one pass each.
    """
    shown = [batch.views[number] for number in views]
    if joint:
        alike = [list(group) for _, group in groupby(shown, key=lambda x: x.shape)]
        shown = [torch.cat(group) if len(group) > 1 else group[0] for group in alike]
    found = [model.outputs(x, names) for x in shown]
    values = {name: found[0][name] if len(found) == 1 else torch.cat([one[name] for one in found]) for name in found[0]}
    samples = batch.indices if len(views) == 1 else batch.indices.repeat(len(views))
    return Outputs(values, Shown(samples, tuple(views), tuple(shown)))
