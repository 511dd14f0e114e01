"""The parts of `kinshot.miners` for type checkers, written by `make api`."""

from kinshot.kin.miners.distance_weighted import distance_weighted as distance_weighted
from kinshot.kin.miners.farthest_first import farthest_first as farthest_first
from kinshot.kin.miners.hard import hard as hard
from kinshot.kin.miners.multi_similarity import multi_similarity as multi_similarity
from kinshot.kin.miners.semi_hard import semi_hard as semi_hard
from kinshot.kin.miners.uniform import uniform as uniform

__all__ = [
    "distance_weighted",
    "farthest_first",
    "hard",
    "multi_similarity",
    "semi_hard",
    "uniform",
]
