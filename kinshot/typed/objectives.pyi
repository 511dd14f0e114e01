"""The parts of `kinshot.objectives` for type checkers, written by `make api`."""

from kinshot.objectives.alignment import alignment as alignment
from kinshot.objectives.barlow_twins import barlow_twins as barlow_twins
from kinshot.objectives.block_repulsion import block_repulsion as block_repulsion
from kinshot.objectives.class_uniformity import class_uniformity as class_uniformity
from kinshot.objectives.cocoa import cocoa as cocoa
from kinshot.objectives.contra_x import contra_x as contra_x
from kinshot.objectives.cross_entropy import cross_entropy as cross_entropy
from kinshot.objectives.distillation.attention_transfer import attention_transfer as attention_transfer
from kinshot.objectives.distillation.compress import Compress as compress
from kinshot.objectives.distillation.correlation_congruence import CorrelationCongruence as correlation_congruence
from kinshot.objectives.distillation.coss import coss as coss
from kinshot.objectives.distillation.crd import CRD as crd
from kinshot.objectives.distillation.darkrank import darkrank as darkrank
from kinshot.objectives.distillation.fitnet import FitNet as fitnet
from kinshot.objectives.distillation.kd import kd as kd
from kinshot.objectives.distillation.pkt import pkt as pkt
from kinshot.objectives.distillation.rkd_angle import RKDAngle as rkd_angle
from kinshot.objectives.distillation.rkd_distance import rkd_distance as rkd_distance
from kinshot.objectives.distillation.seed import Seed as seed
from kinshot.objectives.distillation.similarity_preserving import similarity_preserving as similarity_preserving
from kinshot.objectives.distillation.simreg import SimReg as simreg
from kinshot.objectives.gaussian_mixture import gaussian_mixture as gaussian_mixture
from kinshot.objectives.info_nce import info_nce as info_nce
from kinshot.objectives.lifted import lifted as lifted
from kinshot.objectives.margin_contrastive import margin_contrastive as margin_contrastive
from kinshot.objectives.multi_similarity import multi_similarity as multi_similarity
from kinshot.objectives.n_pair import n_pair as n_pair
from kinshot.objectives.nca import nca as nca
from kinshot.objectives.nt_xent import nt_xent as nt_xent
from kinshot.objectives.proto_nce import proto_nce as proto_nce
from kinshot.objectives.structural_similarity import structural_similarity as structural_similarity
from kinshot.objectives.sup_con import sup_con as sup_con
from kinshot.objectives.triplet import triplet as triplet
from kinshot.objectives.uniformity import uniformity as uniformity
from kinshot.objectives.vicreg import vicreg as vicreg
from kinshot.objectives.wrt import wrt as wrt

__all__ = [
    "alignment",
    "attention_transfer",
    "barlow_twins",
    "block_repulsion",
    "class_uniformity",
    "cocoa",
    "compress",
    "contra_x",
    "correlation_congruence",
    "coss",
    "crd",
    "cross_entropy",
    "darkrank",
    "fitnet",
    "gaussian_mixture",
    "info_nce",
    "kd",
    "lifted",
    "margin_contrastive",
    "multi_similarity",
    "n_pair",
    "nca",
    "nt_xent",
    "pkt",
    "proto_nce",
    "rkd_angle",
    "rkd_distance",
    "seed",
    "similarity_preserving",
    "simreg",
    "structural_similarity",
    "sup_con",
    "triplet",
    "uniformity",
    "vicreg",
    "wrt",
]
