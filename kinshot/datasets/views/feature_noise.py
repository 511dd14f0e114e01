"""Random views of rows of numbers: some features hidden, all of them shaken."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.core.rng import keyed_uniform
from kinshot.datasets.views import VIEWS
from kinshot.samples.rows import RowSpec
from kinshot.samples.spec import check_kind

_HALF_STEP = 2.0**-25  # draws are multiples of 2^-24 from 0: shifted by half a step they lie inside (0, 1)


@VIEWS.register("feature_noise")
class FeatureNoise:
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

    def __init__(self, input: RowSpec, *, views: int = 2, mask: float = 0.2, noise: float = 0.1, scale: float = 0.0) -> None:
        check_kind(VIEWS, "feature_noise", input)
        if views < 1 or not 0 <= mask < 1 or noise < 0 or not 0 <= scale < 1:
            raise ConfigError(
                "feature_noise: views must be at least 1, mask and scale at least 0 and below 1, noise at least 0, "
                f"got views {views}, mask {mask}, noise {noise}, scale {scale}"
            )
        self.input, self.views, self.mask, self.noise, self.scale = input, views, mask, noise, scale

    def __call__(self, features: Tensor, indices: Tensor | np.ndarray, seed: int, epoch: int) -> list[Tensor]:
        """`views` random views: (B, F) to normalised float32 (B, F) on the same device."""
        rows = indices.cpu().numpy() if isinstance(indices, Tensor) else np.asarray(indices)
        clean = self.input.normalize(features)
        # each effect owns its draws, so that switching one off leaves the others' as they were
        draws = 1 + (2 if self.noise > 0 else 1) * self.input.dim
        return [self._view(clean, keyed_uniform(seed, f"view{v}", epoch, rows, draws)) for v in range(self.views)]

    def _view(self, clean: Tensor, draws: np.ndarray) -> Tensor:
        u, dim = torch.from_numpy(draws), self.input.dim
        x = clean * (1 + self.scale * (2 * u[:, :1] - 1)).to(clean.device) if self.scale > 0 else clean
        if self.noise > 0:
            # float64: next to 1 the normal quantile of a float32 is infinite
            gaussian = torch.special.ndtri(u[:, 1 + dim :].double() + _HALF_STEP).float()
            x = x + self.noise * gaussian.to(clean.device)
        return x.masked_fill((u[:, 1 : 1 + dim] < self.mask).to(clean.device), 0.0)
