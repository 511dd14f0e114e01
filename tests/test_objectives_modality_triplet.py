"""Triplets within and across modalities against loops in float64, and kin that are restricted to a group."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.kin import KINS
from kinshot.kin import constructors as make
from kinshot.kin.kin import Known
from kinshot.kin.miners import MINERS
from kinshot.objectives.modality_triplet import MODES, ModalityTriplet, modality_triplet_loss
from kinshot.objectives.triplet import triplet
from kinshot.samples.batch import Batch, Shown

CONTEXT = RunContext(num_samples=9, batch_size=9, steps_per_epoch=1, total_steps=10, seed=0)
Y = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 2, -1])
MODALITY = torch.tensor([0, 0, 1, 1, 0, 0, 1, 1, 1, 0])
KINDS = {"within": (0, 0), "hybrid": (1, 0), "across": (1, 1)}


def rows(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def within() -> Any:
    return make.grouped(make.labels(Y), MODALITY, positives="same", negatives="same")


def gaps(d: list[list[Tensor]], positive: tuple[int, ...], negative: tuple[int, ...]) -> list[Tensor]:
    """d+ - d- of every anchor that has both; a side names modalities, 0 for the anchor's own and 1 for the other."""
    found = []
    for a in range(len(Y)):
        both: dict[bool, list[Tensor]] = {True: [], False: []}
        for b in range(len(Y)):
            if a != b and Y[a] >= 0 and Y[b] >= 0:
                kin = bool(Y[a] == Y[b])
                if int(MODALITY[a] != MODALITY[b]) in (positive if kin else negative):
                    both[kin].append(d[a][b])
        if both[True] and both[False]:
            found.append(torch.stack(both[True]).max() - torch.stack(both[False]).min())
    return found


def by_loops(z: Tensor, mode: str, margin: float = 0.2, scale: float = 20.0, floor: float = 0.1) -> Tensor:
    u = [row / row.square().sum().sqrt() for row in z]
    d = [[(u[a] - u[b]).square().sum().sqrt() if a != b else u[a].sum() * 0 for b in range(len(z))] for a in range(len(z))]
    kinds = {name: gaps(d, (p,), (n,)) for name, (p, n) in KINDS.items()}
    if mode in (*KINDS, "all", "basic"):
        chosen = gaps(d, (0, 1), (0, 1)) if mode == "basic" else list(itertools.chain(*kinds.values())) if mode == "all" else kinds[mode]
        return torch.stack([(gap + margin).clamp(min=0) for gap in chosen]).mean()
    losses = [torch.stack([(1 + (scale * (g + margin)).exp()).log() / scale for g in kind]).mean() for kind in kinds.values()]
    slopes = [torch.stack([1 / (1 + (-scale * (g + margin)).exp()) for g in kind]).mean() for kind in kinds.values()]
    if mode == "weighted":
        slopes = [slope.detach() for slope in slopes]
    weights = [sum(slopes) / 3 / slope.clamp(min=floor) for slope in slopes]
    if mode == "weighted":
        return torch.stack([w * one for w, one in zip(weights, losses, strict=True)]).sum()
    return torch.stack(weights).sum() * torch.stack(losses).mean()


@pytest.mark.parametrize("mode", MODES)
def test_value_and_gradient_equal_loops(mode: Any) -> None:
    z = rows(10, 4).requires_grad_()
    value = ModalityTriplet(4, 3, CONTEXT, mode=mode)(z, within(), None, Y, 0)
    expected = by_loops(z, mode)
    torch.testing.assert_close(value, expected)
    assert value > 0
    torch.testing.assert_close(*[torch.autograd.grad(x, z, retain_graph=True)[0] for x in (value, expected)])


def test_weights_make_the_pull_of_every_kind_alike() -> None:
    """What a kind's triplets pull with is its weight times its mean slope: above the floor the same for all."""
    across = make.grouped(make.labels(Y), MODALITY, positives="other", negatives="other")
    z = rows(10, 4)
    unit = torch.nn.functional.normalize(z, dim=1)
    d = [list(row) for row in torch.cdist(unit, unit)]
    slopes = [torch.stack([(5 * (g + 0.2)).sigmoid() for g in gaps(d, (p,), (n,))]).mean() for p, n in KINDS.values()]
    losses = [torch.stack([torch.nn.functional.softplus(5 * (g + 0.2)) / 5 for g in gaps(d, (p,), (n,))]).mean() for p, n in KINDS.values()]
    assert min(slopes) > 0.1
    pull = sum(slopes) / 3
    value = modality_triplet_loss(z, within(), across, scale=5.0)
    torch.testing.assert_close(value, torch.stack([pull / s * one for s, one in zip(slopes, losses, strict=True)]).sum())


def test_one_mode_of_three_is_a_kin_and_a_miner() -> None:
    """What any objective may do: kin of the other modality, others of the anchor's own, batch hard."""
    z = rows(10, 4)
    unit = torch.nn.functional.normalize(z, dim=1)
    relation = make.grouped(make.labels(Y), MODALITY, positives="other", negatives="same")
    mined = MINERS.build("hard", unit @ unit.T, relation)
    torch.testing.assert_close(triplet(z, mined, margin=0.2), ModalityTriplet(4, 3, CONTEXT, mode="hybrid")(z, within(), y=Y))


def test_one_modality_alone_is_batch_hard() -> None:
    z = rows(10, 4)
    alone = ModalityTriplet(4, 3, CONTEXT, mode="all")
    torch.testing.assert_close(alone(z, make.labels(Y), y=Y), triplet(z, make.labels(Y), mining="hard", margin=0.2))
    assert alone(z, make.labels(Y)) == alone(z, make.labels(Y), y=Y)


@pytest.mark.parametrize(("positives", "negatives"), list(itertools.product(("any", "same", "other"), repeat=2)))
def test_kin_and_others_of_a_group_equal_loops(positives: Any, negatives: Any) -> None:
    groups = MODALITY.clone()
    groups[3] = -1
    got = make.grouped(make.labels(Y), groups, positives=positives, negatives=negatives).validate().dense()
    for a, b in itertools.product(range(10), repeat=2):
        known = groups[a] >= 0 and groups[b] >= 0
        fits = {"any": True, "same": known and groups[a] == groups[b], "other": known and groups[a] != groups[b]}
        kin, other = a != b and Y[a] == Y[b] >= 0, Y[a] >= 0 and Y[b] >= 0 and Y[a] != Y[b]
        assert bool(got[0][a, b]) == bool(kin and fits[positives])
        assert bool(got[1][a, b]) == bool(other and fits[negatives])


def test_the_kin_labels_goes_by_an_attribute() -> None:
    known = Known(CONTEXT, Y.numpy(), {"camera": MODALITY.numpy()})
    kin = KINS.build("labels", known, settings={"by": "camera", "positives": "other"})
    order = torch.tensor([2, 0, 8, 5])
    z = rows(4, 3)
    shown = Shown(order, (0,), (z,))
    pairs = kin.pairs(z, None, shown, Batch(order, [z]), 0)
    expected = make.grouped(make.labels(Y[order]), MODALITY[order], positives="other").dense()
    assert all(torch.equal(*both) for both in zip(pairs.relation.dense(), expected, strict=True))
    assert torch.equal(pairs.y, Y[order])
    with pytest.raises(ConfigError, match="by=NAME"):
        KINS.build("labels", known, settings={"negatives": "same"})
    with pytest.raises(ConfigError, match="camera"):
        KINS.build("labels", known, settings={"by": "cameras"})
    with pytest.raises(ConfigError, match="positives"):
        make.grouped(make.labels(Y), MODALITY, positives="mine")
    with pytest.raises(ConfigError, match="groups"):
        make.grouped(make.labels(Y), torch.from_numpy(np.zeros((10, 2), dtype=np.int64)))
