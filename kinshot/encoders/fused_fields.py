"""Several fields of a sample in one feature: an encoder for each, and any of them may be absent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from kinshot.core.errors import ConfigError, DataError, suggest
from kinshot.encoders.build import Encoder
from kinshot.encoders.fusion import FUSIONS
from kinshot.encoders.present import through
from kinshot.objectives.common import check_choice, unit
from kinshot.samples.spec import Spec

Fields = Mapping[str, Tensor]
"""A tensor (B, ...) by field."""


class Fused(nn.Module):
    """An encoder for each field, and one feature of the fields that a sample has.

    With p_f = 1 where field f is present and 0 where it is absent, u(z) = z / |z|, and encoders e_f, the feature of a sample x is, by
    fusion `concat`,

        joined(x) = [p_1 u(e_1(x_1)), ..., p_M u(e_M(x_M))] / sqrt(p_1 + ... + p_M),

    parts of unit length side by side, zeros for absent ones, of unit length as a whole: every field that is there has the same say, and
    the inner product of samples with m and n fields is the sum of the cosines of the fields that both have, over sqrt(m n). Fusions
    `mean` and `attention` (file `fusion`) give features of one field's width, and of unit length too.

    An absent field never enters a mean or a batch statistic: its rows, whatever they hold, do not pass the encoder. One row that is
    alone in having a field has no batch that it could be normalised by, and passes as in evaluation mode. Where nobody has a field, its
    encoder does not run, and its parameters have no gradient. A series without a measured step is absent, whatever is said of it.

    Args:
        encoders: by the name of the field, which is an identifier; each has `dim` and `input`.
        fusion: how the features of fields become one: `concat`, `mean` (for fields of one width) or `attention` (which learns).

    Attributes:
        input: specifications by field.
        dims: features of each field.
        dim: features of a sample, all fields together.

    Raises:
        ConfigError: no encoder, a name that is no identifier or that modules use for something else, or a fusion that does not fit.
    """

    def __init__(self, encoders: Mapping[str, Encoder], *, fusion: Literal["concat", "mean", "attention"] = "concat") -> None:
        super().__init__()
        own = nn.ModuleDict()  # which refuses the names of its own attributes
        bad = [name for name in encoders if not name.isidentifier() or hasattr(own, name)]
        if bad or not encoders:
            got = ", ".join(encoders) or "none"
            raise ConfigError(f"fused: fields must have names of letters, digits and _ that modules do not use, got {got}: rename them")
        self.encoders = nn.ModuleDict(dict(encoders))
        self.input: dict[str, Spec] = {name: encoder.input for name, encoder in encoders.items()}
        self.dims = {name: encoder.dim for name, encoder in encoders.items()}
        check_choice("fused: fusion", fusion, tuple(FUSIONS))
        self.fusion = FUSIONS[fusion](self.dims)
        self.dim = self.fusion.dim

    def features(self, x: Fields, present: Fields | None = None) -> dict[str, Tensor]:
        """Features of every field: (B, dims[field]) by name, zero for the samples that lack it.

        Args:
            x: normalised samples by field; one that is left out is absent in all of them.
            present: bool (B,) by field, which samples have it; where nothing is said of a field of `x`, all do. Best on the CPU, as it
                is read there.

        Raises:
            DataError: unknown fields, sizes that differ, or a sample without any field.
        """
        return self._features(x, self.presence(x, present))

    def join(self, features: Fields, present: Fields | None = None) -> Tensor:
        """One feature of unit length, (B, dim), of the features of fields; errors as in `features`.

        Args:
            features: (B, dims[field]) by field.
            present: as in `features`; of series with gaps what `presence` finds, since features do not tell what was measured.
        """
        return self._join(features, self._with_some(self._present(features, present or {})))

    def forward(self, x: Fields, present: Fields | None = None) -> Tensor:
        """The joined feature (B, dim) of normalised samples by field; see `features` and `join`."""
        there = self.presence(x, present)
        return self._join(self._features(x, there), there)

    def presence(self, x: Fields, present: Fields | None = None) -> dict[str, Tensor]:
        """Which samples have which field: bool (B,) by every field.

        What is said to be present, less the rows that hold nothing but NaN where that says that nothing was measured (`Spec.absent`).
        Arguments and errors as in `features`.
        """
        there = self._present(x, present or {})
        for name in x:
            if math.isnan(self.input[name].absent):
                measured = ~x[name].flatten(1).isnan().all(dim=1)
                there[name] = there[name] & measured.to(there[name].device)
        return self._with_some(there)

    def _features(self, x: Fields, there: Fields) -> dict[str, Tensor]:
        device = next(iter(x.values())).device
        return {name: self._of_field(name, x.get(name), rows, device) for name, rows in there.items()}

    def _of_field(self, name: str, x: Tensor | None, rows: Tensor, device: torch.device) -> Tensor:
        if x is None:
            return torch.zeros(len(rows), self.dims[name], device=device)
        return through(self.encoders[name], x, rows, self.dims[name])

    def _join(self, features: Fields, there: Fields) -> Tensor:
        device = next(iter(features.values())).device
        masks = {name: rows.to(device).unsqueeze(1) for name, rows in there.items()}
        return self.fusion({name: self._part(name, features.get(name), mask) for name, mask in masks.items()}, masks)

    def _part(self, name: str, features: Tensor | None, mask: Tensor) -> Tensor:
        if features is None:
            return torch.zeros(len(mask), self.dims[name], device=mask.device)
        # absent rows are replaced before they are divided: what they hold would come back through the gradient otherwise
        return unit(torch.where(mask, features, 0.0))

    def _present(self, x: Fields, present: Fields) -> dict[str, Tensor]:
        """bool (B,) by every field, checked."""
        for name in (*x, *present):
            if name not in self.dims:
                raise DataError(f"fused: there is no encoder of field {name!r}: {suggest(name, self.dims)}")
        sizes = {len(value) for value in (*x.values(), *present.values())}
        if len(sizes) != 1:
            raise DataError(f"fused: expected as many samples of every field, got {sorted(sizes) or 'no field'}: give whole batches")
        (batch,) = sizes
        there = {name: present.get(name, torch.full((batch,), name in x)) for name in self.dims}
        for name, rows in there.items():
            if rows.dtype != torch.bool or rows.ndim != 1:
                raise DataError(f"fused: present of {name} must be bool (B,), got {rows.dtype} {tuple(rows.shape)}: compare with 0")
            if name not in x and bool(rows.any()):
                raise DataError(f"fused: {name} is said to be present and is not there: give its samples, or say that it is absent")
        return there

    def _with_some(self, there: dict[str, Tensor]) -> dict[str, Tensor]:
        """The same, of which every sample has at least one."""
        empty = (~torch.stack([rows.cpu() for rows in there.values()]).any(0)).nonzero().flatten().tolist()
        if empty:
            raise DataError(f"fused: samples {empty[:8]} of the batch have none of {', '.join(self.dims)}: leave them out")
        return there
