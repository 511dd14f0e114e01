"""The parts of `kinshot.metrics` for type checkers, written by `make api`."""

from kinshot.kin.metrics.ami import ami as ami
from kinshot.kin.metrics.knn_accuracy import knn_accuracy as knn_accuracy
from kinshot.kin.metrics.lrap import lrap as lrap
from kinshot.kin.metrics.map_at_r import map_at_r as map_at_r
from kinshot.kin.metrics.nmi import nmi as nmi
from kinshot.kin.metrics.precision_at_k import precision_at_k as precision_at_k
from kinshot.kin.metrics.r_precision import r_precision as r_precision
from kinshot.kin.metrics.recall_at_k import recall_at_k as recall_at_k

__all__ = [
    "ami",
    "knn_accuracy",
    "lrap",
    "map_at_r",
    "nmi",
    "precision_at_k",
    "r_precision",
    "recall_at_k",
]
