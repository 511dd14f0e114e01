"""The parts of `kinshot.metrics` for type checkers, written by `make api`."""

from kinshot.kin.metrics.acg_at_k import acg_at_k as acg_at_k
from kinshot.kin.metrics.ami import ami as ami
from kinshot.kin.metrics.ari import ari as ari
from kinshot.kin.metrics.knn_accuracy import knn_accuracy as knn_accuracy
from kinshot.kin.metrics.lrap import lrap as lrap
from kinshot.kin.metrics.map_at_r import map_at_r as map_at_r
from kinshot.kin.metrics.mean_ap import mean_ap as mean_ap
from kinshot.kin.metrics.minp import minp as minp
from kinshot.kin.metrics.mrr import mrr as mrr
from kinshot.kin.metrics.ndcg_at_k import ndcg_at_k as ndcg_at_k
from kinshot.kin.metrics.nmi import nmi as nmi
from kinshot.kin.metrics.pair_f1 import pair_f1 as pair_f1
from kinshot.kin.metrics.precision_at_k import precision_at_k as precision_at_k
from kinshot.kin.metrics.r_precision import r_precision as r_precision
from kinshot.kin.metrics.recall_at_k import recall_at_k as recall_at_k
from kinshot.kin.metrics.wap import wap as wap

__all__ = [
    "acg_at_k",
    "ami",
    "ari",
    "knn_accuracy",
    "lrap",
    "map_at_r",
    "mean_ap",
    "minp",
    "mrr",
    "ndcg_at_k",
    "nmi",
    "pair_f1",
    "precision_at_k",
    "r_precision",
    "recall_at_k",
    "wap",
]
