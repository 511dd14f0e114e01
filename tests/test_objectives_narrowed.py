"""Pairs that a miner left, compared alone: the same distances, losses and gradients as among all pairs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kinshot.kin import constructors as make
from kinshot.kin.miners.distance_weighted import distance_weighted
from kinshot.kin.parts import Mask
from kinshot.kin.relation import Relation
from kinshot.objectives import common
from kinshot.objectives.common import distances, narrowed, unit
from kinshot.objectives.margin import margin_loss

Y = torch.arange(24) // 2


def mined() -> tuple[Tensor, Relation]:
    z = unit(torch.randn(24, 6, generator=torch.Generator().manual_seed(1)))
    relation = distance_weighted(z @ z.T, make.labels(Y), 6, generator=torch.Generator().manual_seed(2))
    return z, Relation(relation.positive, Mask(relation.negative.weights * 1.5), relation.shape)  # type: ignore[union-attr]


def test_every_pair_keeps_its_distance_and_its_weight() -> None:
    z, relation = mined()
    ((few, refs),) = narrowed([(relation, z)])
    assert refs.shape == (24, 2, 6)
    d, near = distances(z, z), distances(z, refs)
    for side, kept in zip(relation.dense(), few.dense(), strict=True):
        for anchor in range(24):
            there, left = side[anchor] > 0, kept[anchor] > 0
            assert sorted(zip(d[anchor][there], side[anchor][there], strict=True)) == sorted(
                zip(near[anchor][left], kept[anchor][left], strict=True)
            )


def test_loss_and_gradients_are_those_among_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    z, relation = mined()
    found = []
    for share in (common.SHARE, 1000):
        monkeypatch.setattr(common, "SHARE", share)
        assert (narrowed([(relation, z)])[0][1] is z) == (share == 1000)
        rows, boundary = z.clone().requires_grad_(), torch.full((24,), 1.1, requires_grad=True)
        loss = margin_loss(rows, relation, boundary=boundary, nu=0.1)
        loss.backward()
        found.append((loss.detach(), rows.grad, boundary.grad))
    for few, all_pairs in zip(*found, strict=True):
        torch.testing.assert_close(few, all_pairs)
    assert found[0][1].abs().max() > 0.01


def test_references_of_which_most_are_paired_stay_as_they_are() -> None:
    z, relation = torch.randn(24, 6), make.labels(Y)
    assert narrowed([(relation, z)])[0] == (relation, z)
    nothing = Relation(Mask(torch.zeros(24, 24)), Mask(torch.zeros(24, 24)), (24, 24))
    assert narrowed([(nothing, z)])[0][1].shape == (24, 0, 6)
    assert margin_loss(z, nothing, boundary=torch.ones(())) == 0
