"""The parts of `kinshot.views` for type checkers, written by `make api`."""

from kinshot.datasets.views.clean import Clean as clean
from kinshot.datasets.views.crops import Crops as crops
from kinshot.datasets.views.feature_noise import FeatureNoise as feature_noise
from kinshot.datasets.views.hidden_spans import HiddenSpans as hidden_spans
from kinshot.datasets.views.multi_crop import MultiCrop as multi_crop
from kinshot.datasets.views.sensor import Sensor as sensor
from kinshot.datasets.views.token_mask import TokenMask as token_mask
from kinshot.datasets.views.warp import Warp as warp
from kinshot.datasets.views.weak_strong import WeakStrong as weak_strong

__all__ = [
    "clean",
    "crops",
    "feature_noise",
    "hidden_spans",
    "multi_crop",
    "sensor",
    "token_mask",
    "warp",
    "weak_strong",
]
