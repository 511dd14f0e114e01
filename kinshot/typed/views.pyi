"""The parts of `kinshot.views` for type checkers, written by `make api`."""

from kinshot.datasets.views.clean import Clean as clean
from kinshot.datasets.views.feature_noise import FeatureNoise as feature_noise
from kinshot.datasets.views.token_mask import TokenMask as token_mask
from kinshot.datasets.views.warp import Warp as warp

__all__ = [
    "clean",
    "feature_noise",
    "token_mask",
    "warp",
]
