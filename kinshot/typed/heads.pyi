"""The parts of `kinshot.heads` for type checkers, written by `make api`."""

from kinshot.fewshot.heads.alpha_tim import alpha_tim as alpha_tim
from kinshot.fewshot.heads.anil import anil as anil
from kinshot.fewshot.heads.baseline_pp import baseline_pp as baseline_pp
from kinshot.fewshot.heads.bd_cspn import bd_cspn as bd_cspn
from kinshot.fewshot.heads.calibration import distribution_calibration as distribution_calibration
from kinshot.fewshot.heads.feat import feat as feat
from kinshot.fewshot.heads.imprint import imprint_head as imprint
from kinshot.fewshot.heads.laplacian_shot import laplacian_shot as laplacian_shot
from kinshot.fewshot.heads.logistic import logistic as logistic
from kinshot.fewshot.heads.maml import maml as maml
from kinshot.fewshot.heads.matching import matching as matching
from kinshot.fewshot.heads.nearest import nearest as nearest
from kinshot.fewshot.heads.prototype import prototype as prototype
from kinshot.fewshot.heads.pt_map import pt_map as pt_map
from kinshot.fewshot.heads.ridge import ridge as ridge
from kinshot.fewshot.heads.soft_kmeans import soft_kmeans as soft_kmeans
from kinshot.fewshot.heads.svm import svm as svm
from kinshot.fewshot.heads.tim import tim as tim
from kinshot.fewshot.heads.transductive_finetune import transductive_finetune as transductive_finetune

__all__ = [
    "alpha_tim",
    "anil",
    "baseline_pp",
    "bd_cspn",
    "distribution_calibration",
    "feat",
    "imprint",
    "laplacian_shot",
    "logistic",
    "maml",
    "matching",
    "nearest",
    "prototype",
    "pt_map",
    "ridge",
    "soft_kmeans",
    "svm",
    "tim",
    "transductive_finetune",
]
