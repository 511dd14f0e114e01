"""HIER against loops in float64: the triplets it may draw, the loss and its gradients into embeddings and proxies, the released form."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.core.rng import keyed_generator
from kinshot.kin import constructors as make
from kinshot.objectives.hier import Hier, affinities, ancestor_loss, gumbel, reciprocal_triplets

CONTEXT = RunContext(num_samples=9, batch_size=9, steps_per_epoch=1, total_steps=10, seed=5)
Y = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, -1])
SMALL: dict[str, Any] = {"proxies": 6, "neighbors": 4, "draws": 5}
C = 0.1


def rows(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mapped(v: Tensor) -> Tensor:
    """One row into the ball."""
    v = v * 2.3 / (_root(v) + 1e-5) if _root(v.detach()) + 1e-5 > 2.3 else v
    length = math.sqrt(C) * _root(v)
    return v * torch.tanh(length) / length


def _root(v: Tensor) -> Tensor:
    return v.square().sum().sqrt()


def distance(x: Tensor, y: Tensor, released: bool) -> Tensor:
    xy, xx, yy = (-x * y).sum(), (x * x).sum(), (y * y).sum()
    summed = ((1 + 2 * C * xy + C * yy) * -x + (1 - C * xx) * y) / (1 + 2 * C * xy + C * C * xx * yy + (1e-5 if released else 0))
    reach = math.sqrt(C) * _root(summed)
    return 2 / math.sqrt(C) * torch.atanh(reach.clamp(max=1 - 1e-5) if released else reach)


def chosen(d: list[list[Tensor]], noise: Tensor, temperature: float) -> tuple[list[Tensor], int]:
    """Straight-through weights of proxies, and which one it is, from the distances of two or three points to them."""
    logits = torch.stack([-torch.stack(column).max() / temperature + g for column, g in zip(zip(*d, strict=True), noise, strict=True)])
    soft = logits.softmax(0)
    best = int(soft.argmax())
    return [float(p == best) - soft[p].detach() + soft[p] for p in range(len(soft))], best


def loss_by_loops(points: Tensor, proxies: Tensor, triplets: Tensor, noise: tuple[Tensor, Tensor], released: bool) -> Tensor:
    # at 0, the distance of a proxy to itself, the root has no gradient
    itself = points is proxies
    d = [[x.sum() * 0 if itself and a == b else distance(x, p, released) for b, p in enumerate(proxies)] for a, x in enumerate(points)]
    total = torch.zeros((), dtype=points.dtype)
    for number, (i, j, k) in enumerate(triplets.tolist()):
        r, best_r = chosen([d[i], d[j]], noise[0][number], 0.1)
        q, best_q = chosen([d[i], d[j], d[k]], noise[1][number], 0.1)
        if best_r == best_q:
            continue
        to = [[sum(w * x for w, x in zip(one, d[point], strict=True)) for one in (r, q)] for point in (i, j, k)]
        total = total + (to[0][0] - to[0][1] + 0.1).clamp(min=0) + (to[1][0] - to[1][1] + 0.1).clamp(min=0)
        total = total + (to[2][1] - to[2][0] + 0.1).clamp(min=0)
    return total / max(len(triplets), 1)


def pools(affinity: Tensor, neighbors: int) -> list[set[int]]:
    """Each point's reciprocal neighbors."""
    near = [set(sorted(range(len(affinity)), key=lambda b, a=a: -float(affinity[a, b]))[:neighbors]) for a in range(len(affinity))]
    return [{b for b in near[a] if b != a and a in near[b]} for a in range(len(affinity))]


@pytest.mark.parametrize("form", ["paper", "released"])
def test_value_and_gradients_equal_loops(form: Any) -> None:
    released = form == "released"
    loss = Hier(4, 3, CONTEXT, form=form, **SMALL).double()
    z = (2 * rows(9, 4)).requires_grad_()
    value = loss(z, make.labels(Y), step=3)
    value.backward()

    # the same, with the gradient at the ball's points times (1 - c |x|^2)^2 / 4
    again, table = z.detach().clone().requires_grad_(), loss.proxies.detach().clone().requires_grad_()
    inside = [torch.stack([mapped(v) for v in given]) for given in (again[:8], table)]
    points, proxies = (x.detach().requires_grad_() for x in inside)
    generator, expected = keyed_generator(5, "hier", 3), torch.zeros((), dtype=torch.float64)
    for given, kin in ((points, make.labels(Y[:8]).dense()[0] > 0), (proxies, None)):
        own = torch.zeros(len(given), len(given), dtype=given.dtype)
        for a, b in itertools.permutations(range(len(given)), 2):
            own[a, b] = distance(given[a], given[b], released).detach()
        affinity = affinities(own, kin)
        triplets = reciprocal_triplets(affinity, 4, 5, generator=generator, anchor_among_negatives=released)
        noise = gumbel((len(triplets), 6), given, generator), gumbel((len(triplets), 6), given, generator)
        expected = expected + loss_by_loops(given, proxies, triplets, noise, released)
    torch.testing.assert_close(value, expected)
    assert value > 0
    at_ball = torch.autograd.grad(expected, [points, proxies])
    scaled = [g * (1 - C * x.detach().square().sum(1, keepdim=True)) ** 2 / 4 for g, x in zip(at_ball, (points, proxies), strict=True)]
    torch.autograd.backward(inside, scaled)
    torch.testing.assert_close(z.grad, again.grad)
    torch.testing.assert_close(loss.proxies.grad, table.grad)
    assert loss.proxies.grad.abs().max() > 0


@pytest.mark.parametrize("released", [False, True])
def test_triplets_are_drawn_from_reciprocal_neighbors_and_everybody_else(released: bool) -> None:
    x = rows(9, 3)
    affinity = affinities(torch.cdist(x, x), make.labels(Y).dense()[0] > 0)
    triplets = reciprocal_triplets(affinity, 4, 400, generator=torch.Generator().manual_seed(1), anchor_among_negatives=released)
    expected = pools(affinity, 4)
    found: dict[int, tuple[set[int], set[int]]] = {}
    for i, j, k in triplets.tolist():
        found.setdefault(i, (set(), set()))
        found[i][0].add(j)
        found[i][1].add(k)
    assert set(found) == {a for a, pool in enumerate(expected) if len(pool) > 1}
    for i, (near, apart) in found.items():
        assert near == expected[i]
        assert apart == set(range(9)) - expected[i] - (set() if released else {i})
    assert len(triplets) == 400 * len(found)


def test_kin_are_closer_than_anybody() -> None:
    d = torch.cdist(rows(5, 2), rows(5, 2))
    kin = make.labels(torch.tensor([0, 1, 0, 1, 2])).dense()[0] > 0
    close = affinities(d, kin)
    assert float(close[kin].min()) > float(close[~kin & ~torch.eye(5, dtype=torch.bool)].max())
    torch.testing.assert_close(close.diagonal(), torch.full((5,), 2.0, dtype=close.dtype))
    torch.testing.assert_close(affinities(d), (-d).exp())


def test_equal_ancestors_and_no_triplets_cost_nothing() -> None:
    d = rows(4, 3).abs().requires_grad_()
    quiet = torch.zeros(1, 3, dtype=torch.float64)
    loud = quiet.clone()
    loud[0, 1] = 1e4  # both choose proxy 1
    assert ancestor_loss(d, torch.tensor([[0, 1, 2]]), (loud, loud)) == 0
    nothing = ancestor_loss(d, torch.zeros(0, 3, dtype=torch.int64), (quiet[:0], quiet[:0]))
    nothing.backward()
    assert nothing == 0
    assert torch.equal(d.grad, torch.zeros_like(d))


def test_draws_are_keyed_by_seed_and_step() -> None:
    loss, z, kin = Hier(4, 3, CONTEXT, **SMALL), rows(9, 4).float(), make.labels(Y)
    assert loss(z, kin, step=1) == loss(z, kin, step=1)
    assert loss(z, kin, step=1) != loss(z, kin, step=2)
    assert set(loss.state_dict()) == {"proxies"}


def test_proxies_learn_to_stand_for_groups_nobody_named() -> None:
    """Two groups of classes, known by distance alone: after some steps most of the triplets have the ancestors that they want."""
    generator = torch.Generator().manual_seed(0)
    centers = torch.tensor([[3.0, 0.0], [3.0, 1.0], [-3.0, 0.0], [-3.0, 1.0]])
    z = centers.repeat_interleave(4, 0) * 0.5 + 0.05 * torch.randn(16, 2, generator=generator)
    kin = make.labels(torch.arange(16) // 4)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        loss = Hier(2, 4, CONTEXT, proxies=12, neighbors=6, draws=10, clip=1.6)
    optimizer = torch.optim.Adam(loss.parameters(), lr=0.05)

    def mean() -> float:
        with torch.no_grad():
            return sum(float(loss(z, kin, step=1000 + k)) for k in range(8)) / 8

    before = mean()
    for step in range(60):
        optimizer.zero_grad()
        loss(z, kin, step=step).backward()
        optimizer.step()
    assert mean() < 0.7 * before


def test_references_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"hier.*references"):
        Hier(4, 3, CONTEXT, **SMALL)(rows(9, 4).float(), make.labels(Y), rows(9, 4).float())
