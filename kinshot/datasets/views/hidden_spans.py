"""Views with spans of time hidden, for methods that rebuild what is hidden."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from kinshot.datasets.views import VIEWS
from kinshot.datasets.views.plan import Indices, Plan, Views, drawn
from kinshot.datasets.views.series.geometric import geometric_spans, least_mean
from kinshot.datasets.views.series.hiding import absent, hidden_modality, hide, presence
from kinshot.datasets.views.series.modalities import Columns, Modalities, check_settings
from kinshot.samples.spec import Spec


@VIEWS.register("hidden_spans")
class HiddenSpans(Views):
    """Windows with spans of geometric length hidden, and perhaps one modality: hidden is NaN, and what a clean sample has there is asked.

    Windows are normalised first. Lengths are in steps of each modality, whose spans are its own, those of frames of whole
    ones; of every window something stays.

    Paper: Zerveas et al., "A Transformer-based Framework for Multivariate Time Series Representation Learning", 2020, arXiv:2010.02803
    Departure: hidden values are 0 there.

    Args:
        views: number of views of each sample.
        ratio: share of the steps that is hidden, above 0 and below 1.
        span: mean length of a hidden span in steps, at least 1 / (1 - ratio).
        channels: each channel has spans of its own, or all of a modality the same.
        modality: probability of hiding a whole modality of a bundle, any of those that a sample has, if it has another.
    """

    accepts = ("series", "bundle")

    def __init__(
        self,
        input: Spec | Mapping[str, Spec],
        *,
        views: int = 1,
        ratio: float = 0.15,
        span: float = 3.0,
        channels: Literal["each", "all"] = "each",
        modality: float = 0.0,
    ) -> None:
        super().__init__(input, views)
        self._modalities = {field: Modalities("hidden_spans", spec) for field, spec in self.fields.items()}
        bounded = 0 < ratio < 1
        least = least_mean(ratio) if bounded else 0.0
        check_settings(
            "hidden_spans",
            {
                f"views must be at least 1, got {views}": views < 1,
                f"ratio is a share above 0 and below 1, got {ratio}": not bounded,
                f"span must be at least {least:.4g} steps where {ratio} of them are hidden, got {span}": bounded and span < least,
                f"modality is a probability between 0 and 1, got {modality}": not 0 <= modality <= 1,
                "modality hides modalities of bundles, and the samples are series: set it to 0": modality > 0
                and all(len(found.parts) == 1 for found in self._modalities.values()),
            },
        )
        self.ratio, self.span, self.channels, self.modality = ratio, span, channels, modality
        self._columns = {field: self._columns_of(modalities) for field, modalities in self._modalities.items()}

    def draw(self, indices: Indices, seed: int, epoch: int) -> Plan:
        """For each field and view a number for every step, of each channel or of all, and for every modality."""
        return drawn({field: columns.total for field, columns in self._columns.items()}, self.views, indices, seed, epoch)

    def apply(self, plan: Plan, field: str, samples: Tensor) -> list[Tensor]:
        """`views` views of a loaded batch, normalised float32 of its own shape on its device, NaN where something is hidden or missing."""
        self.spec_of(field)
        modalities = self._modalities[field]
        clean = modalities.normalized(modalities.split(samples))
        return [modalities.join(self._view(field, clean, u.to(samples.device))) for u in plan.draws[field]]

    def _view(self, field: str, clean: Mapping[str, Tensor], u: Tensor) -> dict[str, Tensor]:
        modalities, columns, found = self._modalities[field], self._columns[field], dict(clean)
        for name, steps in modalities.steps.items():
            draws = columns.of(u, f"{name}/spans").unflatten(1, (-1, 1 + steps))
            found[name] = hide(clean[name], geometric_spans(draws[..., 1:], draws[..., :1], self.ratio, self.span))
        return absent(found, hidden_modality(presence(clean), columns.of(u, "modality"), self.modality)) if self.modality > 0 else found

    def _columns_of(self, modalities: Modalities) -> Columns:
        each = modalities.series if self.channels == "each" else {}
        rows = {name: each[name].channels if name in each else 1 for name in modalities.steps}
        spans = {f"{name}/spans": rows[name] * (1 + steps) for name, steps in modalities.steps.items()}
        return Columns({"modality": 1 + len(modalities.parts)} | spans)
