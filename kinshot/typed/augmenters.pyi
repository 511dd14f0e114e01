"""The parts of `kinshot.augmenters` for type checkers, written by `make api`."""

from kinshot.objectives.augmenters.das import Das as das
from kinshot.objectives.augmenters.embedding_expansion import embedding_expansion as embedding_expansion
from kinshot.objectives.augmenters.iaa import Iaa as iaa
from kinshot.objectives.augmenters.pair_stretching import pair_stretching as pair_stretching

__all__ = [
    "das",
    "embedding_expansion",
    "iaa",
    "pair_stretching",
]
