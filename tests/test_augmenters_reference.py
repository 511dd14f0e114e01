"""Augmenters against loops in float64: stretched pairs, densely-anchored sampling, intra-class adaptive augmentation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.kin import constructors as make
from kinshot.kin.parts import Mask
from kinshot.kin.relation import Relation
from kinshot.objectives.augmenters.copies import copied
from kinshot.objectives.augmenters.das import Das
from kinshot.objectives.augmenters.iaa import Iaa, Spread, corrected_variance, merged
from kinshot.objectives.augmenters.pair_stretching import pair_stretching

CONTEXT = RunContext(num_samples=60, batch_size=7, steps_per_epoch=10, total_steps=100, seed=0)
Y = torch.tensor([0, 2, 0, 2, 2, -1, 1])


def rows(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def drawing(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def unit(x: Tensor) -> Tensor:
    return torch.nn.functional.normalize(x, dim=1)


def test_copies_stand_for_their_parents() -> None:
    positive, negative = torch.zeros(3, 3), torch.zeros(3, 3)
    positive[0, 1], positive[1, 0], negative[0, 2], negative[2, 1] = 2.0, 0.5, 3.0, 1.5
    relation = Relation(Mask(positive), Mask(negative), (3, 3))
    parents = torch.tensor([0, 1, 0])
    index = [0, 1, 2, 0, 1, 0]
    for anchors in (True, False):
        kin, apart = copied(relation, parents, anchors=anchors).validate().dense()
        for a, b in itertools.product(range(6), repeat=2):
            dumb = a >= 3 and not anchors
            own = anchors and a != b and index[a] == index[b]
            assert kin[a, b] == (0 if dumb else 1 if own else positive[index[a], index[b]])
            assert apart[a, b] == (0 if dumb else negative[index[a], index[b]])


@pytest.mark.parametrize("normalize", [True, False])
def test_stretched_pairs_equal_loops(normalize: bool) -> None:
    z = rows(7, 3).requires_grad_()
    more, kin = pair_stretching(z, make.labels(Y), strength=0.6, reach=1.5, normalize=normalize)
    u = unit(z) if normalize else z
    expected, parents = [], []
    for a, p in itertools.product(range(7), repeat=2):
        d = (u[a] - u[p]).norm() if a != p else torch.zeros(())
        if a != p and Y[a] == Y[p] >= 0 and d < 1.5:
            row = u[p] + 0.6 * (1 - d / 1.5) * (u[p] - u[a])
            expected.append(row / row.norm() if normalize else row)
            parents.append(p)
    assert 0 < len(expected) < 8
    torch.testing.assert_close(more, torch.cat([u, torch.stack(expected)]))
    for got, wanted in zip(kin.dense(), copied(make.labels(Y), torch.tensor(parents)).dense(), strict=True):
        assert torch.equal(got, wanted)
    weights = rows(*more.shape, seed=1)
    one = torch.autograd.grad((more * weights).sum(), z, retain_graph=True)[0]
    other = torch.autograd.grad((torch.cat([u, torch.stack(expected)]) * weights).sum(), z)[0]
    torch.testing.assert_close(one, other)


def test_close_pairs_are_stretched_more_than_far_ones() -> None:
    z = torch.tensor([[0.0, 0.0], [0.2, 0.0], [1.0, 0.0]])
    more, _ = pair_stretching(z, make.labels(torch.tensor([0, 0, 0])), strength=0.5, reach=0.9, normalize=False)
    moved = [float(row[0]) for row in more[3:]]
    # 0.2 apart: by 0.5 (1 - 0.2 / 0.9); 0.8 apart: by 0.5 (1 - 0.8 / 0.9); 1.0 apart: not at all
    near, far = 0.5 * (1 - 0.2 / 0.9) * 0.2, 0.5 * (1 - 0.8 / 0.9) * 0.8
    np.testing.assert_allclose(sorted(moved), sorted([0.2 + near, -near, 1.0 + far, 0.2 - far]), rtol=1e-6)


class DasByLoops:
    """Counters and banks of classes in dictionaries and lists."""

    def __init__(self, dim: int, channels: int, bank: int) -> None:
        self.dim, self.channels, self.size = dim, channels, bank
        self.counts: dict[int, list[int]] = {}
        self.banks: dict[int, list[Tensor]] = {}
        self.written: dict[int, int] = {}

    def see(self, u: Tensor, y: list[int]) -> None:
        for a, c in enumerate(y):
            if c >= 0:
                self.counts.setdefault(c, [0] * self.dim)
                for channel in sorted(range(self.dim), key=lambda k, a=a: -float(u[a, k]))[: self.channels]:
                    self.counts[c][channel] += 1
        for a, b in itertools.product(range(len(y)), repeat=2):
            if a != b and y[a] == y[b] >= 0 and bool((u[a] != u[b]).any()):
                bank = self.banks.setdefault(y[a], [torch.zeros(self.dim, dtype=u.dtype)] * self.size)
                bank[self.written.get(y[a], 0) % self.size] = u[a] - u[b]
                self.written[y[a]] = self.written.get(y[a], 0) + 1

    def make(
        self, u: Tensor, y: list[int], copies: int, scale: tuple[float, float], shift: float, generator: torch.Generator
    ) -> list[Tensor]:
        known = [a for a, c in enumerate(y) if c >= 0]
        factors = torch.rand(copies * len(known), self.channels, generator=generator)
        picks = torch.rand(copies * len(known), generator=generator)
        made = []
        for number, (_, a) in enumerate(itertools.product(range(copies), known)):
            row, c = u[a].clone(), y[a]
            often = sorted(range(self.dim), key=lambda k, c=c: -self.counts[c][k])[: self.channels]
            for k, channel in enumerate(often):
                row[channel] = row[channel] * (scale[0] + (scale[1] - scale[0]) * float(factors[number, k]))
            held = min(self.written.get(c, 0), self.size)
            if held:
                row = row + shift * self.banks[c][int(float(picks[number]) * held)]
            made.append(row)
        return made


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("detach", [True, False])
def test_das_equals_loops_step_by_step(normalize: bool, detach: bool) -> None:
    settings = {"channels": 2, "bank": 4, "shift": 0.3, "scale": (0.5, 2.0), "copies": 2}
    one = Das(5, 3, CONTEXT, normalize=normalize, detach=detach, **settings).double()
    other = DasByLoops(5, 2, 4)
    for step in range(4):
        z = rows(7, 5, seed=step)
        z[3] = z[1] if step == 2 else z[3]  # the same row twice has no difference
        z.requires_grad_()
        more, kin, y = one(z, make.labels(Y), Y, step, generator=drawing(step))
        u = unit(z) if normalize else z
        other.see(u.detach(), Y.tolist())
        made = other.make(u.detach() if detach else u, Y.tolist(), 2, (0.5, 2.0), 0.3, drawing(step))
        expected = torch.cat([u, unit(torch.stack(made)) if normalize else torch.stack(made)])
        torch.testing.assert_close(more, expected, rtol=1e-6, atol=1e-7)  # draws are float32 numbers
        parents = torch.tensor([0, 1, 2, 3, 4, 6] * 2)
        assert torch.equal(y, torch.cat([Y, Y[parents]]))
        assert all(torch.equal(*pair) for pair in zip(kin.dense(), copied(make.labels(Y), parents).dense(), strict=True))
        weights = rows(*more.shape, seed=9)
        found = [torch.autograd.grad((x * weights).sum(), z, retain_graph=True)[0] for x in (more, expected)]
        torch.testing.assert_close(*found, rtol=1e-6, atol=1e-7)
        one.after_step()
        for c in range(3):
            assert one.counts[c].tolist() == other.counts[c]
            assert int(one.pushed[c]) == other.written.get(c, 0)
            if c in other.banks:
                torch.testing.assert_close(one.bank[c], torch.stack(other.banks[c]))


def test_das_takes_the_channels_of_the_class_and_not_of_the_row() -> None:
    y = torch.tensor([0, 0, 0])
    one = Das(3, 1, CONTEXT, channels=1, copies=1, scale=(3.0, 3.0), shift=0.0, normalize=False)
    z = torch.tensor([[1.0, 5.0, 2.0], [1.0, 5.0, 2.0], [9.0, 5.0, 2.0]])
    more, _, _ = one(z, make.labels(y), y, 0)
    assert more[5].tolist() == [9.0, 15.0, 2.0]


def moments(seen: dict[int, list[Tensor]], c: int) -> tuple[Tensor, Tensor]:
    together = torch.stack(seen[c])
    return together.mean(0), together.var(0, unbiased=False)


def test_statistics_of_iaa_are_those_of_all_rows_so_far() -> None:
    one = Iaa(4, 3, CONTEXT, momentum=1.0).double()
    seen: dict[int, list[Tensor]] = {}
    for step in range(3):
        z = rows(7, 4, seed=step)
        one(z, make.labels(Y), Y, step)
        one.after_step()
        for row, c in zip(z, Y.tolist(), strict=True):
            seen.setdefault(c, []).append(row)
    for c in range(3):
        mean, variance = moments(seen, c)
        torch.testing.assert_close(one.mean[c], mean)
        torch.testing.assert_close(one.variance[c], variance)
        assert one.seen[c] == len(seen[c])


def test_a_momentum_lets_old_statistics_fade() -> None:
    old = Spread(torch.tensor([1000.0]), torch.tensor([[2.0]]), torch.tensor([[0.5]]))
    batch = torch.tensor([[4.0], [6.0]])
    new = merged(old, batch, torch.tensor([0, 0]), 0.9)
    w = 0.1  # 2 / 1002 is less
    assert float(new.mean) == pytest.approx((1 - w) * 2 + w * 5)
    assert float(new.variance) == pytest.approx((1 - w) * 0.5 + w * 1 + w * (1 - w) * 9)


def corrected_by_loops(spread: Spread, sizes: list[float], k: int, neighbors: int, few: int, beta: float, gamma: float) -> np.ndarray:
    seen, mean, variance = (np.asarray(part) for part in spread)
    there = [c for c in range(len(seen)) if seen[c] > 0]
    everywhere = sum(sizes[c] * variance[c] for c in there) / sum(sizes[c] for c in there)
    others = [c for c in there if c != k]
    dm = {c: math.sqrt(sum((mean[k][d] ** 2 - mean[c][d] ** 2) ** 2 for d in range(mean.shape[1]))) for c in others}
    dc = {c: math.sqrt(sum((variance[k][d] - variance[c][d]) ** 2 for d in range(mean.shape[1]))) for c in others}
    scaled = [{c: (d[c] - min(d.values())) / (max(d.values()) - min(d.values())) for c in others} for d in (dm, dc)]
    near = sorted(others, key=lambda c: scaled[0][c])[:neighbors]
    weight = {c: sizes[c] * math.exp(-(scaled[0][c] ** 2) / 2 - scaled[1][c] ** 2 / 2) for c in near}
    around = sum(weight[c] * variance[c] for c in near) / sum(weight.values())
    a = 1 / (1 + math.log(1 + beta * (max(sizes[k], 1.0) - 1))) if sizes[k] <= few else 0.0
    return np.asarray((1 - a) * variance[k] + a * ((1 - gamma) * around + gamma * everywhere))


def test_the_correction_of_small_classes_equals_loops() -> None:
    sizes = [3.0, 12.0, 60.0, 1.0, 8.0, 0.0, 20.0]
    spread = Spread(torch.tensor(sizes, dtype=torch.float64), rows(7, 3), rows(7, 3, seed=1).square())
    which = torch.tensor([3, 0, 2, 6])
    got = corrected_variance(which, spread, torch.tensor(sizes), neighbors=3, few=40, beta=0.2, gamma=0.3)
    for row, k in zip(got, which.tolist(), strict=True):
        np.testing.assert_allclose(row, corrected_by_loops(spread, sizes, k, 3, 40, 0.2, 0.3), rtol=1e-6)
    assert torch.equal(got[2], spread.variance[2])  # 60 samples are not few
    alone = Spread(torch.tensor([0.0, 2.0]), torch.zeros(2, 3), torch.ones(2, 3))
    torch.testing.assert_close(corrected_variance(torch.tensor([1]), alone, alone.seen), torch.ones(1, 3))


@pytest.mark.parametrize("neighbors", [0, 2])
def test_copies_of_iaa_equal_loops(neighbors: int) -> None:
    one = Iaa(4, 3, CONTEXT, copies=2, strength=0.8, neighbors=neighbors, few=40).double()
    for step in range(3):
        one(rows(7, 4, seed=step), make.labels(Y), Y, step)
        one.after_step()
    z = rows(7, 4, seed=7).requires_grad_()
    more, kin, y = one(z, make.labels(Y), Y, 65, generator=drawing(3))
    parents = [a for a, c in enumerate(Y.tolist()) if c >= 0] * 2
    noise = torch.randn(len(parents), 4, generator=drawing(3)).double()
    sizes = [float(n) / 6.5 for n in one.seen]
    variance = [
        torch.from_numpy(corrected_by_loops(one.spread, sizes, c, 2, 40, 0.1, 0.1)) if neighbors else one.variance[c] for c in range(3)
    ]
    made = [z[a] + (0.8 * 0.75 * variance[int(Y[a])]).sqrt() * e for a, e in zip(parents, noise, strict=True)]
    expected = unit(torch.cat([z, torch.stack(made)]))
    torch.testing.assert_close(more, expected, rtol=1e-6, atol=1e-7)
    assert torch.equal(y, torch.cat([Y, Y[parents]]))
    weights = rows(*more.shape, seed=9)
    found = [torch.autograd.grad((x * weights).sum(), z, retain_graph=True)[0] for x in (more, expected)]
    torch.testing.assert_close(*found, rtol=1e-6, atol=1e-7)
    # rows are anchors, copies are not; an anchor meets copies of its kin and of others, and not its own
    positive, negative = kin.dense()
    assert not positive[7:].any()
    assert not negative[7:].any()
    for a, (s, p) in itertools.product(range(7), enumerate(parents)):
        assert bool(positive[a, 7 + s]) == bool(a != p and Y[a] == Y[p] >= 0)
        assert bool(negative[a, 7 + s]) == bool(Y[a] >= 0 and Y[a] != Y[p])


def test_the_strength_of_iaa_fades_and_begins_late() -> None:
    one = Iaa(4, 3, CONTEXT, strength=1.0)
    assert [one.strength_at(step) for step in (30, 39, 40, 60, 79, 80, 99, 100)] == [1.0, 1.0, 0.9, 0.75, 0.75, 0.6, 0.6, 0.6]
    z = rows(7, 4).float()
    assert [len(one(z, make.labels(Y), Y, step)[0]) for step in (29, 30)] == [7, 7 + 18]


@pytest.mark.parametrize("scale", [(0.0, 1.0), (2.0, 1.0)])
def test_a_scale_that_is_no_range_is_refused(scale: tuple[float, float]) -> None:
    with pytest.raises(ConfigError, match="scale"):
        Das(4, 3, CONTEXT, scale=scale)


@pytest.mark.parametrize("name", ["start", "momentum", "gamma"])
def test_what_is_no_share_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        Iaa(4, 3, CONTEXT, **{name: 1.5})
