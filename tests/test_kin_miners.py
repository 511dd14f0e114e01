"""Every registered miner: what it keeps, against loops; the same for every form of a relation, and no pair more than there was."""

from __future__ import annotations

import inspect
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.kin import constructors as make
from kinshot.kin.miners import MINERS
from kinshot.kin.miners.distance_weighted import probabilities
from kinshot.kin.parts import Listed, Mask
from kinshot.kin.relation import Relation
from kinshot.objectives.multi_similarity import multi_similarity
from kinshot.objectives.triplet import triplet

every_miner = pytest.mark.parametrize("name", MINERS.names())
Kept = tuple[dict[int, int], dict[int, int]]
DIM = 4
OF_THE_BATCH = {"farthest_first"}
"""They compare the references of an anchor with one another. A miner that is not named here takes any references."""


def unit(*shape: int, seed: int = 0) -> Tensor:
    rows = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(rows, dim=1)


def mined(name: str, similarity: Tensor, relation: Relation, seed: int = 0) -> Relation:
    """What a miner leaves, given what a run would give it beside settings."""
    wired: dict[str, Any] = {"dim": DIM, "generator": torch.Generator().manual_seed(seed)}
    asked = inspect.signature(MINERS.get(name)).parameters
    return MINERS.build(name, similarity, relation, **{key: value for key, value in wired.items() if key in asked})


def of_one_anchor(name: str, s: np.ndarray, kin: list[int], others: list[int]) -> tuple[set[int], set[int]]:
    if name == "multi_similarity":
        hardest, easiest = max(s[o] for o in others), min(s[k] for k in kin)
        return {k for k in kin if s[k] - 0.1 < hardest}, {o for o in others if s[o] + 0.1 > easiest}
    if name == "hard":
        return {min(kin, key=lambda k: s[k])}, {max(others, key=lambda o: s[o])}
    chosen = set()
    for k in kin:
        beyond = [o for o in others if s[o] < s[k]]
        chosen.add(max(beyond, key=lambda o: s[o]) if beyond else min(others, key=lambda o: s[o]))
    return set(kin), chosen


def inverse_density(s: np.ndarray, others: list[int], cutoff: float = 0.5, last: float = 1.4) -> list[float]:
    """How likely each other is to be drawn."""
    distances = [float(np.sqrt(2 - 2 * s[o])) for o in others]
    raw = []
    for d in distances:
        at = max(d, cutoff)
        raw.append(1 / (at ** (DIM - 2) * (1 - at**2 / 4) ** ((DIM - 3) / 2)) if d < last else 0.0)
    raw = raw if sum(raw) > 0 else [1.0] * len(others)
    return [r / sum(raw) for r in raw]


def drawn(s: np.ndarray, others: list[int], draws: list[float]) -> dict[int, int]:
    """How often each other is drawn, by uniform numbers."""
    likely, found = inverse_density(s, others), Counter()
    for u in draws:
        passed = 0.0
        for o, p in zip(others, likely, strict=True):
            passed += p
            if u < passed:
                found[o] += 1
                break
    return dict(found)


def greedy(d: np.ndarray, left: list[int], count: int, score: dict[int, float], first: int | None = None) -> list[int]:
    """Points one after the other, by score and by distance to what was chosen."""
    chosen: list[int] = [] if first is None else [first]
    while len(chosen) < min(count, len(left)):
        chosen.append(max((i for i in left if i not in chosen), key=lambda i: score[i] + min((d[i, c] for c in chosen), default=0.0)))
    return chosen


def far_apart(s: np.ndarray, weights: tuple[np.ndarray, np.ndarray]) -> list[Kept]:
    """`farthest_first` with its defaults."""
    d, rows = np.sqrt(np.maximum(2 - 2 * s, 0)), range(len(s))
    able = [a for a in rows if (weights[0][a] > 0).any() and (weights[1][a] > 0).any()]
    found: list[Kept] = [({}, {}) for _ in rows]
    if able:
        for a in greedy(d, able, 16, dict.fromkeys(rows, 0.0), min(able, key=lambda a: d[a].mean())):
            sides = []
            for w, hard in ((weights[0][a], d[a]), (weights[1][a], 2 - d[a])):
                score = {i: w[i] / w.max() + hard[i] for i in rows}
                sides.append(dict.fromkeys(greedy(d, [i for i in rows if w[i] > 0], 2, score), 1))
            found[a] = (sides[0], sides[1])
    return found


def by_loops(name: str, s: np.ndarray, weights: tuple[np.ndarray, np.ndarray], seed: int = 0) -> list[Kept]:
    """How often a miner keeps each of every anchor's kin and others."""
    if name == "farthest_first":
        return far_apart(s, weights)
    kin, others = ([row.nonzero()[0].tolist() for row in side] for side in weights)
    most = max(len(k) for k, o in zip(kin, others, strict=True) if o)
    draws = torch.rand(len(s), most, generator=torch.Generator().manual_seed(seed)).tolist()
    found: list[Kept] = []
    for a, row in enumerate(s):
        if not kin[a] or not others[a]:
            found.append(({}, {}))
        elif name == "distance_weighted":
            found.append((dict.fromkeys(kin[a], 1), drawn(row, others[a], draws[a][: len(kin[a])])))
        elif name == "uniform":
            chosen = [others[a][int(np.float32(u) * np.float32(len(others[a])))] for u in draws[a][: len(kin[a])]]
            found.append((dict.fromkeys(kin[a], 1), dict(Counter(chosen))))
        else:
            sides = of_one_anchor(name, row, kin[a], others[a])
            found.append((dict.fromkeys(sides[0], 1), dict.fromkeys(sides[1], 1)))
    return found


@every_miner
@pytest.mark.parametrize("seed", range(4))
def test_a_miner_keeps_what_loops_keep(name: str, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    anchors, references = (9, 9) if name in OF_THE_BATCH else (9, 7)
    kind = torch.randint(-1, 2, (anchors, references), generator=generator)
    kind[0], kind[1], kind[2] = 1, -1, 0
    weights = torch.rand(anchors, references, generator=generator, dtype=torch.float64) + 0.5
    sides = weights * (kind == 1), weights * (kind == -1)
    relation = Relation(Mask(sides[0]), Mask(sides[1]), (anchors, references))
    rows = unit(anchors, DIM, seed=seed)
    similarity = rows @ (rows if name in OF_THE_BATCH else unit(references, DIM, seed=seed + 9)).T
    found = mined(name, similarity, relation, seed).validate().dense()
    expected = by_loops(name, similarity.numpy(), (sides[0].numpy(), sides[1].numpy()), seed)
    for side in (0, 1):
        times = torch.zeros_like(weights)
        for a, kept in enumerate(expected):
            for column, count in kept[side].items():
                times[a, column] = count
        # what is left weighs what it weighed, as often as it was drawn
        assert torch.equal(found[side], weights * times)


@every_miner
def test_a_miner_sees_the_same_in_every_form_of_a_relation(name: str) -> None:
    rows, refs = unit(6, DIM), unit(6, DIM, seed=1)
    similarity = rows @ (rows if name in OF_THE_BATCH else refs).T
    mask = make.labels(torch.tensor([0, 0, 1, 1, 2, 2]))
    blocks = make.views(torch.arange(3))
    listed = Relation(Listed(mask.dense()[0].to(torch.uint8).argmax(1, keepdim=True)), mask.negative, mask.shape)
    assert all(torch.equal(*pair) for pair in zip(*(mined(name, similarity, r).dense() for r in (mask, listed)), strict=True))
    z = torch.cat([unit(3, DIM), unit(3, DIM, seed=2)])
    dense = Relation(*[Mask(part) for part in blocks.dense()], shape=blocks.shape)
    found = [mined(name, z @ z.T, r).dense() for r in (blocks, dense)]
    assert all(torch.equal(one.bool(), other.bool()) for one, other in zip(*found, strict=True))


@every_miner
def test_no_reference_no_gradient_and_shapes_that_do_not_fit(name: str) -> None:
    empty = mined(name, torch.zeros(2, 0), Relation(Mask(torch.zeros(2, 0)), Mask(torch.zeros(2, 0)), (2, 0)))
    assert empty.shape == (2, 0)
    similarity = torch.rand(4, 4, requires_grad=True)
    relation = mined(name, similarity, make.labels(torch.tensor([0, 0, 1, 1])))
    assert not any(part.requires_grad for part in relation.dense())
    with pytest.raises(ConfigError, match=name):
        mined(name, torch.zeros(3, 4), make.labels(torch.tensor([0, 0, 1, 1])))


@every_miner
def test_documentation(name: str) -> None:
    entry = MINERS.entry(name)
    assert "Paper:" in entry.docstring
    assert entry.summary.endswith(".")
    assert not [p.name for p in entry.parameters.values() if not p.help]


def test_mining_before_an_objective_is_mining_inside_it() -> None:
    z, relation = unit(12, 5), make.labels(torch.arange(12) % 3)
    similarity = z @ z.T
    chosen = MINERS.build("multi_similarity", similarity, relation, settings={"margin": 0.2})
    assert multi_similarity(z, chosen, mining_margin=None) == multi_similarity(z, relation, mining_margin=0.2)
    assert triplet(z, MINERS.build("hard", similarity, relation)) == triplet(z, relation, mining="hard")


def test_a_margin_that_is_no_number_is_refused() -> None:
    with pytest.raises(ConfigError, match="margin"):
        MINERS.get("multi_similarity")(torch.zeros(2, 2), make.labels(torch.tensor([0, 1])), margin=float("nan"))


@pytest.mark.parametrize("cutoffs", [(0.5, 1.4), (0.2, 1.1)])
def test_probabilities_of_distance_weighting_equal_loops(cutoffs: tuple[float, float]) -> None:
    s, others = unit(6, DIM) @ unit(8, DIM, seed=1).T, torch.rand(6, 8, generator=torch.Generator().manual_seed(2)) < 0.7
    others[3] = False
    s[4] = -0.9  # all beyond the second cut-off
    likely = probabilities(s, others, DIM, cutoff=cutoffs[0], nonzero_loss_cutoff=cutoffs[1])
    for a in range(6):
        among = others[a].nonzero().flatten().tolist()
        expected = np.zeros(8)
        expected[among] = inverse_density(s[a].numpy(), among, *cutoffs) if among else []
        np.testing.assert_allclose(likely[a], expected, rtol=1e-9)
    assert torch.equal(likely[4][others[4]], torch.full((int(others[4].sum()),), 1 / int(others[4].sum()), dtype=s.dtype))
    assert torch.isfinite(probabilities(s.float() * 0.999, others, 2048)).all()


def test_draws_follow_the_probabilities_and_never_leave_them() -> None:
    s = unit(1, DIM) @ unit(4, DIM, seed=4).T
    others = torch.tensor([[True, True, False, True]])
    kin, apart = torch.zeros(1, 4004), torch.zeros(1, 4004)
    kin[:, 4:], apart[:, :4] = 1, others
    relation = Relation(Mask(kin), Mask(apart), (1, 4004))
    times = mined("distance_weighted", torch.cat([s, torch.zeros(1, 4000, dtype=s.dtype)], dim=1), relation).dense()[1][0, :4]
    assert times.sum() == 4000
    assert times[2] == 0
    torch.testing.assert_close(times.double() / 4000, probabilities(s, others, DIM)[0], atol=0.03, rtol=0)


def test_uniform_draws_are_even() -> None:
    apart, kin = torch.zeros(1, 4005), torch.zeros(1, 4005)
    apart[0, [0, 1, 3, 4]], kin[0, 5:] = 1, 1
    times = mined("uniform", torch.zeros(1, 4005), Relation(Mask(kin), Mask(apart), (1, 4005))).dense()[1][0]
    assert times.sum() == 4000
    assert times[2] == 0
    torch.testing.assert_close(times[[0, 1, 3, 4]] / 4000, torch.full((4,), 0.25), atol=0.03, rtol=0)


def test_farthest_first_may_begin_anywhere_and_wants_a_batch() -> None:
    z, relation = unit(8, DIM), make.labels(torch.arange(8) % 3)
    begun = set()
    for seed in range(12):
        generator = torch.Generator().manual_seed(seed)
        one = MINERS.build("farthest_first", z @ z.T, relation, settings={"anchors": 1, "start": "random"}, generator=generator)
        anchors = one.dense()[0].any(dim=1).nonzero().flatten().tolist()
        assert len(anchors) == 1
        begun |= set(anchors)
    assert len(begun) > 3
    with pytest.raises(ConfigError, match="choose other kin"):
        mined("farthest_first", torch.zeros(3, 4), make.labels(torch.arange(3), torch.arange(4)))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("distance_weighted", {"cutoff": 0.0}),
        ("distance_weighted", {"nonzero_loss_cutoff": 0.5}),
        ("distance_weighted", {"nonzero_loss_cutoff": 2.5}),
        ("farthest_first", {"anchors": 0}),
        ("farthest_first", {"positives": 0}),
        ("farthest_first", {"negatives": 0}),
        ("farthest_first", {"relevance": -1.0}),
        ("farthest_first", {"hardness": float("nan")}),
        ("farthest_first", {"diversity": -0.1}),
        ("farthest_first", {"start": "middle"}),
    ],
)
def test_settings_out_of_range_are_refused(name: str, settings: dict[str, Any]) -> None:
    part, wired = MINERS.get(name), {"dim": DIM} if name == "distance_weighted" else {}
    with pytest.raises(ConfigError, match=next(iter(settings))):
        part(torch.zeros(2, 2), make.labels(torch.tensor([0, 1])), **wired, **settings)


def test_a_sphere_of_two_points_is_refused() -> None:
    with pytest.raises(ConfigError, match="dim"):
        MINERS.get("distance_weighted")(torch.zeros(2, 2), make.labels(torch.tensor([0, 1])), 1)
