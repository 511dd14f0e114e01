"""Every registered miner: what it keeps, against loops; the same for every form of a relation, and no pair more than there was."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.kin import constructors as make
from kinshot.kin.miners import MINERS
from kinshot.kin.parts import Listed, Mask
from kinshot.kin.relation import Relation
from kinshot.objectives.multi_similarity import multi_similarity
from kinshot.objectives.triplet import triplet

every_miner = pytest.mark.parametrize("name", MINERS.names())
Kept = tuple[set[int], set[int]]


def unit(*shape: int, seed: int = 0) -> Tensor:
    rows = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(rows, dim=1)


def by_loops(name: str, s: np.ndarray, kin: list[int], others: list[int]) -> Kept:
    """What a miner keeps of one anchor's kin and others."""
    if not kin or not others:
        return set(), set()
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


@every_miner
@pytest.mark.parametrize("seed", range(4))
def test_a_miner_keeps_what_loops_keep(name: str, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    kind = torch.randint(-1, 2, (9, 7), generator=generator)
    kind[0], kind[1], kind[2] = 1, -1, 0
    weights = torch.rand(9, 7, generator=generator, dtype=torch.float64) + 0.5
    relation = Relation(Mask(weights * (kind == 1)), Mask(weights * (kind == -1)), (9, 7))
    similarity = unit(9, 4, seed=seed) @ unit(7, 4, seed=seed + 9).T
    positive, negative = MINERS.build(name, similarity, relation).validate().dense()
    for a in range(9):
        expected = by_loops(name, similarity[a].numpy(), *[(kind[a] == sign).nonzero().flatten().tolist() for sign in (1, -1)])
        got = tuple(set(part[a].nonzero().flatten().tolist()) for part in (positive, negative))
        assert got == expected
    # what is left weighs what it weighed
    assert torch.equal(positive[positive > 0], weights[positive > 0])
    assert torch.equal(negative[negative > 0], weights[negative > 0])


@every_miner
def test_a_miner_sees_the_same_in_every_form_of_a_relation(name: str) -> None:
    similarity = unit(6, 3) @ unit(6, 3, seed=1).T
    mask = make.labels(torch.tensor([0, 0, 1, 1, 2, 2]))
    blocks = make.views(torch.arange(3))
    listed = Relation(Listed(mask.dense()[0].to(torch.uint8).argmax(1, keepdim=True)), mask.negative, mask.shape)
    assert all(torch.equal(*pair) for pair in zip(*(MINERS.build(name, similarity, r).dense() for r in (mask, listed)), strict=True))
    z = torch.cat([unit(3, 4), unit(3, 4, seed=2)])
    dense = Relation(*[Mask(part) for part in blocks.dense()], shape=blocks.shape)
    found = [MINERS.build(name, z @ z.T, r).dense() for r in (blocks, dense)]
    assert all(torch.equal(one.bool(), other.bool()) for one, other in zip(*found, strict=True))


@every_miner
def test_no_reference_no_gradient_and_shapes_that_do_not_fit(name: str) -> None:
    empty = MINERS.build(name, torch.zeros(2, 0), Relation(Mask(torch.zeros(2, 0)), Mask(torch.zeros(2, 0)), (2, 0)))
    assert empty.shape == (2, 0)
    similarity = torch.rand(4, 4, requires_grad=True)
    relation = MINERS.build(name, similarity, make.labels(torch.tensor([0, 0, 1, 1])))
    assert not any(part.requires_grad for part in relation.dense())
    with pytest.raises(ConfigError, match=name):
        MINERS.get(name)(torch.zeros(3, 4), make.labels(torch.tensor([0, 0, 1, 1])))


@every_miner
def test_documentation(name: str) -> None:
    entry = MINERS.entry(name)
    assert "Paper:" in entry.docstring
    assert entry.summary.endswith(".")
    assert not [p.name for p in entry.parameters.values() if not p.help]


def test_mining_before_an_objective_is_mining_inside_it() -> None:
    z, relation = unit(12, 5), make.labels(torch.arange(12) % 3)
    similarity = z @ z.T
    mined = MINERS.build("multi_similarity", similarity, relation, settings={"margin": 0.2})
    assert multi_similarity(z, mined, mining_margin=None) == multi_similarity(z, relation, mining_margin=0.2)
    assert triplet(z, MINERS.build("hard", similarity, relation)) == triplet(z, relation, mining="hard")


def test_a_margin_that_is_no_number_is_refused() -> None:
    with pytest.raises(ConfigError, match="margin"):
        MINERS.get("multi_similarity")(torch.zeros(2, 2), make.labels(torch.tensor([0, 1])), margin=float("nan"))
