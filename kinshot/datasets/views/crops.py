"""Two crops that overlap and stay where they were, as TS2Vec has them."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from kinshot.datasets.views import VIEWS
from kinshot.datasets.views.plan import Indices, Plan, Views, drawn
from kinshot.datasets.views.series.hiding import hide
from kinshot.datasets.views.series.modalities import Columns, Modalities, check_settings
from kinshot.datasets.views.series.two_crops import CROP_DRAWS, two_crops
from kinshot.samples.spec import Spec


@VIEWS.register("crops")
class Crops(Views):
    """Two views, each the window with what is outside of a crop not measured (NaN): the crops overlap where both are measured.

    Every step stays where it was, so that a step of one view is the same step of the other; nothing else is altered. Windows are normalised
    first. A crop of which nothing was measured of a modality stays whole there. In a bundle crops are of the same instants.

    Paper: Yue et al., "TS2Vec: Towards Universal Representation of Time Series", 2021, arXiv:2106.10466

    Args:
        least: smallest share of the window in which the crops overlap, above 0.
        synchronised: whether the crops of all modalities of a bundle are of the same instants.
    """

    accepts = ("series", "bundle")

    def __init__(self, input: Spec | Mapping[str, Spec], *, least: float = 0.1, synchronised: bool = True) -> None:
        super().__init__(input, 2)
        check_settings("crops", {f"least is a share of the window, above 0 and at most 1, got {least}": not 0 < least <= 1})
        self._modalities = {field: Modalities("crops", spec) for field, spec in self.fields.items()}
        self._columns = {field: Columns(dict.fromkeys(found.steps, CROP_DRAWS)) for field, found in self._modalities.items()}
        self.least, self.synchronised = least, synchronised

    def draw(self, indices: Indices, seed: int, epoch: int) -> Plan:
        """For each field one overlap and both crops, which are one draw of two views."""
        return drawn({field: columns.total for field, columns in self._columns.items()}, self.views, indices, seed, epoch)

    def apply(self, plan: Plan, field: str, samples: Tensor) -> list[Tensor]:
        """Both crops of a loaded batch, normalised float32 of its own shape on its device, NaN outside."""
        self.spec_of(field)
        modalities, columns = self._modalities[field], self._columns[field]
        values = modalities.split(samples)
        end, clean = modalities.ends(values), modalities.normalized(values)
        u, first = plan.draws[field][0].to(samples.device), next(iter(modalities.steps))
        views: tuple[dict[str, Tensor], ...] = (dict(clean), dict(clean))
        for name, steps in modalities.steps.items():
            draws = columns.of(u, first if self.synchronised else name)
            for view, outside in zip(views, two_crops(steps, end, draws, self.least), strict=True):
                view[name] = hide(clean[name], outside)
        return [modalities.join(view) for view in views]
