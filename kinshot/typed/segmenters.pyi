"""The parts of `kinshot.segmenters` for type checkers, written by `make api`."""

from kinshot.segmentation.heads.cosine import cosine as cosine
from kinshot.segmentation.heads.rows import rows as rows

__all__ = [
    "cosine",
    "rows",
]
