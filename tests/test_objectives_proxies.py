"""Losses against rows of classes: values and both gradients against loops in float64, and against pytorch-metric-learning."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from kinshot.objectives import taking
from kinshot.objectives.proxies.arc_face import arc_face_loss
from kinshot.objectives.proxies.center import center_loss
from kinshot.objectives.proxies.cos_face import cos_face_loss
from kinshot.objectives.proxies.linear_softmax import linear_softmax_loss
from kinshot.objectives.proxies.multi_proxy_anchor import multi_proxy_anchor_loss
from kinshot.objectives.proxies.normalized_softmax import normalized_softmax_loss
from kinshot.objectives.proxies.proxy_anchor import proxy_anchor_loss
from kinshot.objectives.proxies.proxy_nca import proxy_nca_loss
from kinshot.objectives.proxies.soft_triple import soft_triple_loss
from kinshot.objectives.proxies.sphere_face import sphere_face_loss
from kinshot.objectives.proxies.sub_center_arc_face import sub_center_arc_face_loss
from tests import reference_proxies as reference
from tests.proxy_cases import CLASSES, DIM, N, Y, build, close, drawn


class Formula(NamedTuple):
    """A loss of (z, y, weight), its loop, and rows of a class."""

    loss: Callable[..., Tensor]
    loop: Callable[..., float]
    per_class: int = 1


def over_all(losses: list[float]) -> float:
    """The mean over all rows; those of unknown class cost 0."""
    return sum(losses) / N


BIAS = torch.tensor([0.3, -0.2, 0.0, 0.5], dtype=torch.float64)


def linear(smoothing: float, spread: str) -> Formula:
    return Formula(
        lambda z, y, w: linear_softmax_loss(z, y, w, BIAS, smoothing=smoothing, spread=spread),
        lambda z, y, w: over_all(reference.linear_softmax(z, y, w, BIAS.numpy(), smoothing, spread)),
    )


def angular(margin: float, past: str) -> Formula:
    return Formula(
        lambda z, y, w: arc_face_loss(z, y, w, margin=margin, scale=5, past=past),
        lambda z, y, w: over_all(reference.arc_face(z, y, w, margin, 5, past)),
    )


def anchored(anchor: str, proxies: int = 1) -> Formula:
    if proxies == 1:
        return Formula(
            lambda z, y, w: proxy_anchor_loss(z, y, w, margin=0.1, alpha=32, anchor=anchor),
            lambda z, y, w: reference.proxy_anchor(z, y, w, 0.1, 32, anchor),
        )
    return Formula(
        lambda z, y, w: multi_proxy_anchor_loss(z, y, w, proxies=proxies, gamma=0.2, margin=0.15, alpha=16, anchor=anchor),
        lambda z, y, w: reference.proxy_anchor(z, y, w, 0.15, 16, anchor, proxies, 0.2),
        proxies,
    )


FORMULAS = {
    "normalized_softmax": Formula(
        lambda z, y, w: normalized_softmax_loss(z, y, w, scale=7), lambda z, y, w: over_all(reference.normalized_softmax(z, y, w, 7))
    ),
    "linear_softmax": linear(0.0, "others"),
    "linear_softmax others": linear(0.2, "others"),
    "linear_softmax all": linear(0.2, "all"),
    "sphere_face": Formula(lambda z, y, w: sphere_face_loss(z, y, w), lambda z, y, w: over_all(reference.sphere_face(z, y, w, 4))),
    "sphere_face annealed": Formula(
        lambda z, y, w: sphere_face_loss(z, y, w, margin=3, scale=2, annealing=1.5),
        lambda z, y, w: over_all(reference.sphere_face(z, y, w, 3, 2, 1.5)),
    ),
    "cos_face": Formula(
        lambda z, y, w: cos_face_loss(z, y, w, margin=0.3, scale=6), lambda z, y, w: over_all(reference.cos_face(z, y, w, 0.3, 6))
    ),
    "arc_face": angular(0.5, "linear"),
    "arc_face far": angular(2.0, "linear"),
    "arc_face turn": angular(2.0, "turn"),
    "arc_face easy": angular(0.5, "easy"),
    "sub_center_arc_face": Formula(
        lambda z, y, w: sub_center_arc_face_loss(z, y, w, centers=3, margin=0.5, scale=5),
        lambda z, y, w: over_all(reference.arc_face(z, y, w, 0.5, 5, K=3)),
        3,
    ),
    "proxy_nca": Formula(
        lambda z, y, w: proxy_nca_loss(z, y, w, scale=3), lambda z, y, w: over_all(reference.proxy_nca(z, y, w, 3, "paper"))
    ),
    "proxy_nca softmax": Formula(
        lambda z, y, w: proxy_nca_loss(z, y, w, scale=3, form="softmax"),
        lambda z, y, w: over_all(reference.proxy_nca(z, y, w, 3, "softmax")),
    ),
    "proxy_anchor": anchored("class"),
    "proxy_anchor sample": anchored("sample"),
    "multi_proxy_anchor": anchored("class", 3),
    "multi_proxy_anchor sample": anchored("sample", 2),
    "soft_triple": Formula(
        lambda z, y, w: soft_triple_loss(z, y, w, centers=3, scale=8, gamma=0.2, margin=0.05, tau=0.3),
        lambda z, y, w: over_all(reference.soft_triple(z, y, w, 3, 8, 0.2, 0.05)) + 0.3 * reference.center_spread(w, 3),
        3,
    ),
    "center": Formula(center_loss, lambda z, y, w: over_all(reference.center(z, y, w))),
}


every = pytest.mark.parametrize("name", [name for name in taking("proxies") if name != "pml"])  # another package's: test_objectives_pml.py


@every
def test_every_objective_with_rows_has_a_loop(name: str) -> None:
    assert name in FORMULAS


@pytest.mark.parametrize("formula", [pytest.param(one, id=name) for name, one in FORMULAS.items()])
@pytest.mark.parametrize("seed", [0, 1])
def test_value_and_both_gradients_equal_loops(formula: Formula, seed: int) -> None:
    z, w = drawn(N, seed), drawn(CLASSES * formula.per_class, seed + 10)
    leaves = z.clone().requires_grad_(), w.clone().requires_grad_()
    value = formula.loss(leaves[0], Y, leaves[1])
    value.backward()
    x, rows, y = z.numpy(), w.numpy(), Y.tolist()
    close(value.detach(), formula.loop(x, y, rows))
    close(leaves[0].grad, reference.numeric_gradient(lambda a: formula.loop(a, y, rows), x), 1e-6)
    close(leaves[1].grad, reference.numeric_gradient(lambda a: formula.loop(x, y, a), rows), 1e-6)


LIBRARY = {
    "NormalizedSoftmaxLoss": ("normalized_softmax", {"scale": 20.0}, {"temperature": 0.05}, "W"),
    "SphereFaceLoss": ("sphere_face", {"first": 0.0, "last": 0.0}, {}, "W"),
    "CosFaceLoss": ("cos_face", {}, {}, "W"),
    "ArcFaceLoss": ("arc_face", {}, {"margin": math.degrees(0.5)}, "W"),
    "SubCenterArcFaceLoss": ("sub_center_arc_face", {}, {"margin": math.degrees(0.5), "sub_centers": 3}, "W"),
    "ProxyNCALoss": ("proxy_nca", {"scale": 4.0, "form": "softmax"}, {"softmax_scale": 4}, "proxies"),
    "ProxyAnchorLoss": ("proxy_anchor", {}, {}, "proxies"),
    "SoftTripleLoss": ("soft_triple", {"tau": 0.0}, {}, "fc"),
}


@pytest.mark.filterwarnings("ignore:__array_wrap__")  # of theirs, for binomials
@pytest.mark.parametrize("theirs", LIBRARY)
def test_value_and_both_gradients_equal_pytorch_metric_learning(theirs: str) -> None:
    losses = pytest.importorskip("pytorch_metric_learning.losses", reason="pytorch-metric-learning is not installed")
    name, settings, their_settings, attribute = LIBRARY[theirs]
    module = build(name, **settings).double()
    other = getattr(losses, theirs)(num_classes=CLASSES, embedding_size=DIM, **their_settings).double()
    weight = getattr(other, attribute)
    across = weight.shape != module.rows.weight.shape  # theirs is (D, C) for some
    with torch.no_grad():
        weight.copy_(module.rows.weight.T if across else module.rows.weight)
    z, y = drawn(N, 5), Y.clamp(min=0)
    mine, library = z.clone().requires_grad_(), z.clone().requires_grad_()
    ours, reference_value = module(mine, y), other(library, y)
    close(ours.detach(), reference_value.detach(), 1e-8)
    ours.backward()
    reference_value.backward()
    close(mine.grad, library.grad, 1e-7)
    close(module.rows.weight.grad, weight.grad.T if across else weight.grad, 1e-7)
