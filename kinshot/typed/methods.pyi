"""The parts of `kinshot.methods` for type checkers, written by `make api`."""

from kinshot.fewshot.methods.classifier import Classifier as classifier
from kinshot.fewshot.methods.dual_path import DualPath as dual_path
from kinshot.fewshot.methods.feat import FEAT as feat
from kinshot.fewshot.methods.maml import ANIL as anil
from kinshot.fewshot.methods.maml import MAML as maml
from kinshot.fewshot.methods.matchingnet import MatchingNet as matchingnet
from kinshot.fewshot.methods.metric import MetricLearning as metric
from kinshot.fewshot.methods.protonet import ProtoNet as protonet
from kinshot.segmentation.methods.base_classes import BaseClassesMethod as base_classes
from kinshot.segmentation.methods.dual_prototype import DualPrototype as dual_prototype
from kinshot.segmentation.methods.panet import PANet as panet
from kinshot.segmentation.methods.pfenet import PFENetMethod as pfenet
from kinshot.ssl.methods.barlow_twins import BarlowTwins as barlow_twins
from kinshot.ssl.methods.barlow_x import BarlowX as barlow_x
from kinshot.ssl.methods.byol import BYOL as byol
from kinshot.ssl.methods.cmc import CMC as cmc
from kinshot.ssl.methods.cocoa import Cocoa as cocoa
from kinshot.ssl.methods.cpc import CPC as cpc
from kinshot.ssl.methods.dcl import DCL as dcl
from kinshot.ssl.methods.dino import DINO as dino
from kinshot.ssl.methods.focal import Focal as focal
from kinshot.ssl.methods.interclr import InterCLR as interclr
from kinshot.ssl.methods.mae import MAE as mae
from kinshot.ssl.methods.masked_reconstruction import MaskedReconstruction as masked_reconstruction
from kinshot.ssl.methods.masked_vicreg import MaskedVICReg as masked_vicreg
from kinshot.ssl.methods.meow import Meow as meow
from kinshot.ssl.methods.moco import MoCo as moco
from kinshot.ssl.methods.moco_v3 import MoCoV3 as moco_v3
from kinshot.ssl.methods.nnclr import NNCLR as nnclr
from kinshot.ssl.methods.npid import NPID as npid
from kinshot.ssl.methods.psco import PsCo as psco
from kinshot.ssl.methods.pseudo_classes import PseudoClasses as pseudo_classes
from kinshot.ssl.methods.reconstruction import Reconstruction as reconstruction
from kinshot.ssl.methods.simclr import SimCLR as simclr
from kinshot.ssl.methods.simsiam import SimSiam as simsiam
from kinshot.ssl.methods.student import Student as student
from kinshot.ssl.methods.swav import SwAV as swav
from kinshot.ssl.methods.tico import TiCo as tico
from kinshot.ssl.methods.tnc import TNC as tnc
from kinshot.ssl.methods.ts2vec import TS2Vec as ts2vec
from kinshot.ssl.methods.ts_tcc import TSTCC as ts_tcc
from kinshot.ssl.methods.vicreg import VICReg as vicreg
from kinshot.ssl.methods.vicreg_x import VICRegX as vicreg_x

__all__ = [
    "anil",
    "barlow_twins",
    "barlow_x",
    "base_classes",
    "byol",
    "classifier",
    "cmc",
    "cocoa",
    "cpc",
    "dcl",
    "dino",
    "dual_path",
    "dual_prototype",
    "feat",
    "focal",
    "interclr",
    "mae",
    "maml",
    "masked_reconstruction",
    "masked_vicreg",
    "matchingnet",
    "meow",
    "metric",
    "moco",
    "moco_v3",
    "nnclr",
    "npid",
    "panet",
    "pfenet",
    "protonet",
    "psco",
    "pseudo_classes",
    "reconstruction",
    "simclr",
    "simsiam",
    "student",
    "swav",
    "tico",
    "tnc",
    "ts2vec",
    "ts_tcc",
    "vicreg",
    "vicreg_x",
]
