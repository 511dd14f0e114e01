"""Every registered augmenter, and embedding expansion against loops."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from kinshot.core.errors import ConfigError
from kinshot.kin import constructors as make
from kinshot.kin.miners import MINERS
from kinshot.kin.parts import Mask
from kinshot.kin.relation import Relation
from kinshot.objectives.augmenters import AUGMENTERS
from kinshot.objectives.augmenters.embedding_expansion import embedding_expansion
from kinshot.objectives.multi_similarity import multi_similarity
from kinshot.objectives.triplet import triplet

every_augmenter = pytest.mark.parametrize("name", AUGMENTERS.names())
Y = torch.tensor([0, 0, 1, 1, 1, -1])


def rows(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@every_augmenter
def test_documentation(name: str) -> None:
    entry = AUGMENTERS.entry(name)
    assert "Paper:" in entry.docstring
    assert entry.summary.endswith(".")
    assert not [p.name for p in entry.parameters.values() if not p.help]


@every_augmenter
def test_what_it_gives_is_a_batch_with_its_relation(name: str) -> None:
    z, relation = rows(6, 4, dtype=torch.float32).requires_grad_(), make.labels(Y)
    more, kin = AUGMENTERS.build(name, z, relation)
    assert kin.shape == (len(more), len(more))
    assert len(more) > 6
    for got, own in zip(kin.validate().dense(), relation.dense(), strict=True):
        assert torch.equal(got[:6, :6], own)
        assert not got.diagonal().any()
    value = triplet(more, kin, chunk=4)
    value.backward()
    assert torch.isfinite(z.grad).all()
    assert z.grad[:5].abs().max() > 0
    # rows of which nothing is known, and a batch without kin, stay as they are
    for y in (torch.full((6,), -1), torch.arange(6)):
        assert AUGMENTERS.build(name, z, make.labels(y))[1].shape == (6, 6)


@every_augmenter
def test_half_precision_and_misfits(name: str) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        more, _ = AUGMENTERS.build(name, rows(6, 4).half(), make.labels(Y))
    assert more.dtype == torch.float32
    with pytest.raises(ConfigError, match=name):
        AUGMENTERS.get(name)(rows(5, 4), make.labels(Y))


@pytest.mark.parametrize("normalize", [True, False])
def test_points_between_kin_equal_loops(normalize):
    z = rows(6, 4)
    u = torch.nn.functional.normalize(z, dim=1) if normalize else z
    more, _ = embedding_expansion(z, make.labels(Y), points=3, normalize=normalize)
    expected = []
    for k in (1, 2, 3):
        for a, b in itertools.combinations(range(6), 2):
            if Y[a] == Y[b] >= 0:
                point = u[a] + (u[b] - u[a]) * k / 4
                expected.append(point / point.norm() if normalize else point)
    torch.testing.assert_close(more, torch.cat([u, torch.stack(expected)]), rtol=0, atol=1e-12)


def test_of_classes_every_point_is_a_member_of_its_ends_class():
    more, kin = embedding_expansion(rows(6, 4), make.labels(Y), points=2)
    pairs = [(a, b) for a, b in itertools.combinations(range(6), 2) if Y[a] == Y[b] >= 0]
    y = torch.cat([Y, torch.tensor([int(Y[a]) for a, _ in pairs]).repeat(2)])
    for got, expected in zip(kin.dense(), make.labels(y).dense(), strict=True):
        assert torch.equal(got.bool(), expected)
    assert len(more) == len(y)


def test_weights_and_gaps_of_a_relation_are_kept():
    """0 and 1 are kin, as 0 alone says; 2 is kin to both with other weights, 3 told apart from one of them, 4 from both."""
    positive, negative = torch.zeros(5, 5), torch.zeros(5, 5)
    positive[0, 1], positive[0, 2], positive[1, 2] = 2.0, 0.5, 3.0
    negative[0, 3], negative[0, 4], negative[1, 4], negative[4, 0], negative[4, 1] = 1.0, 4.0, 2.0, 1.0, 1.5
    _, kin = embedding_expansion(rows(5, 3), Relation(Mask(positive), Mask(negative), (5, 5)), points=1)
    got = [part[5].numpy() for part in kin.dense()]  # the point between 0 and 1
    np.testing.assert_allclose(got[0][:5], [1, 1, 0.5, 0, 0])
    np.testing.assert_allclose(got[1][:5], [0, 0, 0, 0, 2])
    np.testing.assert_allclose(kin.dense()[1][4, 5], 1)


def test_a_miner_sees_what_an_augmenter_made():
    z, relation = rows(8, 4), make.labels(torch.arange(8) % 3)
    more, kin = embedding_expansion(z, relation)
    mined = MINERS.build("hard", more @ more.T, kin)
    assert triplet(more, mined) == triplet(more, kin, mining="hard")
    assert multi_similarity(more, kin) != multi_similarity(z, relation)


def test_points_out_of_range_are_refused():
    with pytest.raises(ConfigError, match="points"):
        embedding_expansion(rows(6, 4), make.labels(Y), points=0)
