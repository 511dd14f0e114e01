"""VICReg of two random subsets of a sample's modalities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.core.rng import keyed_uniform
from kinshot.learn import METHODS
from kinshot.learn.method import Method
from kinshot.learn.model import PROJECTOR, Model
from kinshot.learn.outputs import Outputs
from kinshot.objectives.common import check_at_least
from kinshot.objectives.vicreg import vicreg_terms
from kinshot.samples.batch import Batch, Shown
from kinshot.samples.bundle import BundleSpec
from kinshot.ssl.modalities import fused, present


@METHODS.register("masked_vicreg")
class MaskedVICReg(Method):
    """Some modalities' features are hidden at random, twice; what is made of the others agrees, varies, and does not say a thing twice.

    Paper: Deldari, Spathis, Malekzadeh, Kawsar, Salim, Mathur 2023, arXiv 2307.16847 (CroSSL)
    Paper: Bardes, Ponce, LeCun 2021, arXiv 2105.04906 (VICReg)

    One view of each sample passes every modality's encoder once. Of the features, those of a random subset of the modalities that the
    sample has are fused as the encoder fuses, twice with two subsets, and VICReg compares the two projections: what is trained is what
    evaluation reads where a sensor is missing. A subset is never empty; a sample of one modality agrees with itself and counts towards the
    spread alone. The projector is one for all modalities (projector.modalities=false).

    A reconstruction from what the paper's abstract says: embeddings of each modality's encoder are masked, a cross-modal aggregator makes
        one of them, nothing is a negative. Which network aggregates there, and how much is masked, we do not know: here it is the
        encoder's own fusion, `concat`, `mean` or `attention`, and `hide`.

    Args:
        hide: probability with which each modality is hidden, 0 to below 1.
        invariance: weight of the mean squared difference.
        variance: weight of the hinge on standard deviations.
        covariance: weight of the squared covariances.
    """

    accepts = ("bundle",)
    view_count = 1

    def __init__(
        self,
        model: Model,
        context: RunContext,
        *,
        hide: float = 0.5,
        invariance: float = 25.0,
        variance: float = 25.0,
        covariance: float = 1.0,
    ) -> None:
        super().__init__(model)
        self.fused = fused(model, "masked_vicreg").fused
        self.weights = {"invariance": invariance, "variance": variance, "covariance": covariance}
        check_at_least(0, **self.weights)
        if not 0 <= hide < 1:
            raise ConfigError(f"masked_vicreg: hide is a probability, 0 to below 1, got {hide}")
        if context.batch_size < 2:
            raise ConfigError(f"masked_vicreg: expected a batch of at least 2, got {context.batch_size}: it looks at the spread over one")
        self.hide, self.seed = hide, context.seed

    def outputs(self, batch: Batch, names: Sequence[str] = ()) -> Outputs:
        """Of the view with either subset of its modalities, one after the other; `shown.inputs` holds what is left of it."""
        x, spec = batch.views[0], cast(BundleSpec, self.model.input)
        parts, there = spec.split(x), present(self.model, x).cpu()
        features = self.fused.features(parts, dict(zip(parts, there, strict=True)))
        subsets = [dict(zip(parts, one, strict=True)) for one in self.subsets(batch, there)]
        z = torch.cat([self.fused.join(features, subset) for subset in subsets])
        values = self.model.of_features(z, [*self.uses, *names])
        left = [spec.join({name: _only(part, subset[name]) for name, part in parts.items()}) for subset in subsets]
        return Outputs(values, Shown(batch.indices.repeat(2), (0, 0), (torch.cat(left),)))

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> dict[str, Tensor]:
        """The sum, its three terms unweighted, and the share of modalities that are there."""
        terms = vicreg_terms(*outputs.blocks(PROJECTOR))
        loss = torch.stack([weight * terms[name] for name, weight in self.weights.items()]).sum()
        return {"loss": loss, **terms, "present": present(self.model, batch.views[0]).float().mean()}

    def subsets(self, batch: Batch, there: Tensor) -> Tensor:
        """Two draws of the modalities of each sample that are fused, bool (2, M, B), by step and sample whatever the batch.

        Args:
            batch: of B samples.
            there: bool (M, B) on the CPU, which modalities each sample has.
        """
        draws = keyed_uniform(self.seed, "modalities hidden", batch.step, batch.indices.cpu().numpy(), 2 * len(there))
        return kept(torch.from_numpy(draws).T.unflatten(0, (2, -1)), there, self.hide)


def kept(draws: Tensor, there: Tensor, hide: float) -> Tensor:
    """Which modalities are not hidden, bool (..., M, B): those of a draw from `hide` on, or, where there is none, that of the largest.

    Args:
        draws: (..., M, B), uniform in [0, 1).
        there: bool (M, B), which modalities each sample has, one or more; none of the others is kept.
        hide: probability of each.
    """
    among = torch.where(there, draws, -1.0)
    return there & ((among >= hide) | (among == among.amax(-2, keepdim=True)))


def _only(part: Tensor, rows: Tensor) -> Tensor:
    """A modality (B, C, T), absent but in some rows."""
    return torch.where(rows.to(part.device)[(..., *[None] * (part.dim() - 1))], part, math.nan)
