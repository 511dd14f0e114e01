"""Random views of rows of numbers: some features hidden, all of them shaken."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.datasets.views import VIEWS
from kinshot.datasets.views.plan import Indices, Plan, Views, drawn
from kinshot.samples.spec import Spec, check_kind

_HALF_STEP = 2.0**-25  # draws are multiples of 2^-24 from 0: shifted by half a step they lie inside (0, 1)


@VIEWS.register("feature_noise")
class FeatureNoise(Views):
    """Random scale per sample, Gaussian noise on every feature, and a random part of the features set to their mean.

    A sample's view depends on (seed, view, epoch, index) and its own features, never on its batch. Features are normalised first,
    so that noise and scale act on every feature alike, and a hidden feature is exactly 0 and says nothing.

    Paper: Vincent, Larochelle, Bengio, Manzagol, "Extracting and Composing Robust Features with Denoising Autoencoders", ICML 2008

    Args:
        views: number of views of each sample.
        mask: probability of hiding a feature, below 1.
        noise: standard deviation of the noise, in standard deviations of the feature.
        scale: largest relative change of a whole sample, either way.
    """

    accepts = ("features",)

    def __init__(
        self, input: Spec | Mapping[str, Spec], *, views: int = 2, mask: float = 0.2, noise: float = 0.1, scale: float = 0.0
    ) -> None:
        super().__init__(input, views)
        for spec in self.fields.values():
            check_kind(VIEWS, "feature_noise", spec)
        if views < 1 or not 0 <= mask < 1 or noise < 0 or not 0 <= scale < 1:
            raise ConfigError(
                "feature_noise: views must be at least 1, mask and scale at least 0 and below 1, noise at least 0, "
                f"got views {views}, mask {mask}, noise {noise}, scale {scale}"
            )
        self.mask, self.noise, self.scale = mask, noise, scale

    def draw(self, indices: Indices, seed: int, epoch: int) -> Plan:
        """For each field and view the scale, what is hidden, and the noise."""
        # each effect owns its draws, so that switching one off leaves the others' as they were
        columns = {field: 1 + (2 if self.noise > 0 else 1) * spec.shape[0] for field, spec in self.fields.items()}
        return drawn(columns, self.views, indices, seed, epoch)

    def apply(self, plan: Plan, field: str, samples: Tensor) -> list[Tensor]:
        """`views` random views: (B, F) to normalised float32 (B, F) on the same device."""
        clean = self.spec_of(field).normalize(samples)
        return [self._view(clean, u) for u in plan.draws[field]]

    def _view(self, clean: Tensor, u: Tensor) -> Tensor:
        dim = clean.shape[1]
        x = clean * (1 + self.scale * (2 * u[:, :1] - 1)).to(clean.device) if self.scale > 0 else clean
        if self.noise > 0:
            # float64: next to 1 the normal quantile of a float32 is infinite
            gaussian = torch.special.ndtri(u[:, 1 + dim :].double() + _HALF_STEP).float()
            x = x + self.noise * gaussian.to(clean.device)
        return x.masked_fill((u[:, 1 : 1 + dim] < self.mask).to(clean.device), 0.0)
