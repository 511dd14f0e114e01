"""The parts of `kinshot.augmenters` for type checkers, written by `make api`."""

from kinshot.objectives.augmenters.embedding_expansion import embedding_expansion as embedding_expansion

__all__ = [
    "embedding_expansion",
]
