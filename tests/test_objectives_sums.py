"""Sums of many float32 terms keep their digits: each objective and gauge against itself in float64, on many rows that add up one way."""

from __future__ import annotations

import math

import pytest
import torch

from kinshot.kin.constructors import labels
from kinshot.learn import gauges
from kinshot.objectives.alignment import alignment
from kinshot.objectives.common import reduce
from kinshot.objectives.cross_entropy import cross_entropy
from kinshot.objectives.distillation.rkd_distance import rkd_distance
from kinshot.objectives.distillation.similarity_preserving import similarity_preserving
from kinshot.objectives.proto_nce import densities
from kinshot.objectives.structural_similarity import structural_similarity
from kinshot.objectives.uniformity import uniformity

MANY = 1_000_003


def positive(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).float() + 0.5


def agrees(found: torch.Tensor, exact: torch.Tensor, rel: float = 1e-6) -> None:
    assert found.dtype == torch.float32
    assert exact.dtype == torch.float64
    assert found.item() == pytest.approx(exact.item(), rel=rel)


def test_densities_of_clusters_with_many_members():
    z, centers, own = positive(MANY, 2), positive(2, 2), torch.arange(MANY) % 2
    for found, exact in zip(densities(z, centers, own), densities(z.double(), centers.double(), own), strict=True):
        agrees(found, exact)


@pytest.mark.parametrize("reduction", ["mean", "sum", "valid"])
def test_reductions(reduction):
    losses, valid = positive(MANY), torch.ones(MANY, dtype=torch.bool)
    agrees(reduce(losses, valid, reduction), reduce(losses.double(), valid, reduction))


def test_cross_entropy_over_many_rows():
    logits, y = positive(MANY, 3), torch.zeros(MANY, dtype=torch.int64)
    agrees(cross_entropy(logits, y), cross_entropy(logits.double(), y))


def test_relations_of_many_pairs():
    z, other = positive(900, 5), positive(900, 5).flip(0)
    agrees(uniformity(z), uniformity(z.double()), rel=1e-5)  # log of nearly 1
    one = labels(torch.zeros(900, dtype=torch.int64))
    agrees(alignment(z, one), alignment(z.double(), one), rel=1e-5)
    agrees(rkd_distance(z, other), rkd_distance(z.double(), other.double()), rel=1e-5)
    agrees(similarity_preserving(z, other), similarity_preserving(z.double(), other.double()), rel=1e-4)  # differences of similarities
    for form in ("distance", "cka"):
        exact = structural_similarity(z.double(), other.double(), form=form)
        agrees(structural_similarity(z, other, form=form), exact, rel=1e-4)


def test_gauges_of_many_rows():
    z = positive(200_003, 4)
    norms = torch.nn.functional.normalize(z.double(), dim=1)
    agrees(gauges.feature_std(z), norms.std(0).mean() * math.sqrt(4), rel=1e-5)
    values = torch.linalg.svdvals(z.double())
    shares = values / values.sum()
    agrees(gauges.effective_rank(z), torch.special.entr(shares).sum().exp(), rel=1e-5)
