"""The parts of `kinshot.segmenters` for type checkers, written by `make api`."""

from kinshot.segmentation.heads.base_suppressed import base_suppressed as base_suppressed
from kinshot.segmentation.heads.cosine import cosine as cosine
from kinshot.segmentation.heads.pfenet import pfenet as pfenet
from kinshot.segmentation.heads.rows import rows as rows

__all__ = [
    "base_suppressed",
    "cosine",
    "pfenet",
    "rows",
]
