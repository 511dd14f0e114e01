"""The parts of `kinshot.objectives` for type checkers, written by `make api`."""

from kinshot.objectives.alignment import alignment as alignment
from kinshot.objectives.barlow_twins import barlow_twins as barlow_twins
from kinshot.objectives.block_repulsion import block_repulsion as block_repulsion
from kinshot.objectives.cbml import cbml as cbml
from kinshot.objectives.class_uniformity import class_uniformity as class_uniformity
from kinshot.objectives.cocoa import cocoa as cocoa
from kinshot.objectives.contextual import contextual as contextual
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
from kinshot.objectives.hier import Hier as hier
from kinshot.objectives.info_nce import info_nce as info_nce
from kinshot.objectives.lifted import lifted as lifted
from kinshot.objectives.margin import Margin as margin
from kinshot.objectives.margin_contrastive import margin_contrastive as margin_contrastive
from kinshot.objectives.modality_triplet import ModalityTriplet as modality_triplet
from kinshot.objectives.multi_similarity import multi_similarity as multi_similarity
from kinshot.objectives.n_pair import n_pair as n_pair
from kinshot.objectives.nca import nca as nca
from kinshot.objectives.nt_xent import nt_xent as nt_xent
from kinshot.objectives.proto_nce import proto_nce as proto_nce
from kinshot.objectives.proxies.arc_face import ArcFace as arc_face
from kinshot.objectives.proxies.center import Center as center
from kinshot.objectives.proxies.cos_face import CosFace as cos_face
from kinshot.objectives.proxies.linear_softmax import LinearSoftmax as linear_softmax
from kinshot.objectives.proxies.multi_proxy_anchor import MultiProxyAnchor as multi_proxy_anchor
from kinshot.objectives.proxies.normalized_softmax import NormalizedSoftmax as normalized_softmax
from kinshot.objectives.proxies.pml import PML as pml
from kinshot.objectives.proxies.proxy_anchor import ProxyAnchor as proxy_anchor
from kinshot.objectives.proxies.proxy_nca import ProxyNCA as proxy_nca
from kinshot.objectives.proxies.soft_triple import SoftTriple as soft_triple
from kinshot.objectives.proxies.sphere_face import SphereFace as sphere_face
from kinshot.objectives.proxies.sub_center_arc_face import SubCenterArcFace as sub_center_arc_face
from kinshot.objectives.structural_similarity import structural_similarity as structural_similarity
from kinshot.objectives.sup_con import sup_con as sup_con
from kinshot.objectives.triplet import triplet as triplet
from kinshot.objectives.uniformity import uniformity as uniformity
from kinshot.objectives.vicreg import vicreg as vicreg
from kinshot.objectives.wrt import wrt as wrt

__all__ = [
    "alignment",
    "arc_face",
    "attention_transfer",
    "barlow_twins",
    "block_repulsion",
    "cbml",
    "center",
    "class_uniformity",
    "cocoa",
    "compress",
    "contextual",
    "contra_x",
    "correlation_congruence",
    "cos_face",
    "coss",
    "crd",
    "cross_entropy",
    "darkrank",
    "fitnet",
    "gaussian_mixture",
    "hier",
    "info_nce",
    "kd",
    "lifted",
    "linear_softmax",
    "margin",
    "margin_contrastive",
    "modality_triplet",
    "multi_proxy_anchor",
    "multi_similarity",
    "n_pair",
    "nca",
    "normalized_softmax",
    "nt_xent",
    "pkt",
    "pml",
    "proto_nce",
    "proxy_anchor",
    "proxy_nca",
    "rkd_angle",
    "rkd_distance",
    "seed",
    "similarity_preserving",
    "simreg",
    "soft_triple",
    "sphere_face",
    "structural_similarity",
    "sub_center_arc_face",
    "sup_con",
    "triplet",
    "uniformity",
    "vicreg",
    "wrt",
]
