"""Every registered augmenter, and embedding expansion against loops."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.kin import constructors as make
from kinshot.kin.miners import MINERS
from kinshot.kin.parts import Mask
from kinshot.kin.relation import Relation
from kinshot.objectives.augmenters import AUGMENTERS
from kinshot.objectives.augmenters.embedding_expansion import embedding_expansion
from kinshot.objectives.module import ObjectiveModule
from kinshot.objectives.multi_similarity import multi_similarity
from kinshot.objectives.triplet import triplet

every_augmenter = pytest.mark.parametrize("name", AUGMENTERS.names())
Y = torch.tensor([0, 0, 1, 1, 1, -1])
CLASSES, LATE = 6, 90
CONTEXT = RunContext(num_samples=60, batch_size=6, steps_per_epoch=10, total_steps=100, seed=0)


def rows(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@every_augmenter
def test_documentation(name: str) -> None:
    entry = AUGMENTERS.entry(name)
    assert "Paper:" in entry.docstring
    assert entry.summary.endswith(".")
    assert not [p.name for p in entry.parameters.values() if not p.help]


def remembers(name: str) -> bool:
    return bool(AUGMENTERS.entry(name).facts.get("classes"))


def built(name: str, dim: int = 4, **settings: Any) -> Any:
    return AUGMENTERS.build(name, dim, CLASSES, CONTEXT, settings=settings)


def drawing(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def added(name: str, z: Tensor, y: Tensor = Y, relation: Relation | None = None, *, steps: int = 2) -> tuple[Tensor, Relation]:
    """What an augmenter makes of a batch late in a run, after some steps with other embeddings where it remembers them."""
    relation = make.labels(y) if relation is None else relation
    if not remembers(name):
        return AUGMENTERS.build(name, z, relation)
    module = built(name)
    for step in range(steps):
        module(rows(6, 4, seed=step + 1), make.labels(Y), Y, step, generator=drawing())
        module.after_step()
    more, kin, classes = module(z, relation, y, LATE, generator=drawing())
    assert classes.shape == (len(more),)
    assert torch.equal(classes[: len(y)], y)
    assert (classes[len(y) :] >= 0).all()
    return more, kin


@every_augmenter
def test_what_it_gives_is_a_batch_with_its_relation(name: str) -> None:
    z, relation = rows(6, 4, dtype=torch.float32).requires_grad_(), make.labels(Y)
    more, kin = added(name, z)
    assert kin.shape == (len(more), len(more))
    assert len(more) > 6
    for got, own in zip(kin.validate().dense(), relation.dense(), strict=True):
        assert torch.equal(got[:6, :6], own)
        assert not got.diagonal().any()
    value = triplet(more, kin, chunk=4)
    value.backward()
    assert torch.isfinite(z.grad).all()
    assert z.grad[:5].abs().max() > 0
    # a batch of which nothing is known stays as it is, and one without kin where kin are what rows are made of
    assert added(name, z, torch.full((6,), -1))[1].shape == (6, 6)
    if not remembers(name):
        assert added(name, z, torch.arange(6))[1].shape == (6, 6)


@every_augmenter
def test_half_precision_and_misfits(name: str) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        more, _ = added(name, rows(6, 4).half())
    assert more.dtype == torch.float32
    with pytest.raises(ConfigError, match=name):
        added(name, rows(5, 4), relation=make.labels(Y))


@every_augmenter
def test_equal_rows_and_zeros_leave_finite_gradients(name: str) -> None:
    for change in (torch.zeros_like, torch.ones_like):
        z = change(rows(6, 4)).requires_grad_()
        more, _ = added(name, z)
        more.square().sum().backward()
        assert torch.isfinite(z.grad).all()


@every_augmenter
def test_numbers_out_of_range_are_refused(name: str) -> None:
    for key, parameter in AUGMENTERS.entry(name).parameters.items():
        if parameter.annotation in ("int", "float"):
            given = (4, CLASSES, CONTEXT) if remembers(name) else (rows(6, 4), make.labels(Y))
            with pytest.raises(ConfigError, match=key):
                AUGMENTERS.get(name)(*given, **{key: -1})


remembering = pytest.mark.parametrize("name", [name for name in AUGMENTERS.names() if remembers(name)])


@remembering
def test_memory_moves_between_steps_alone_and_is_state(name: str) -> None:
    one = built(name)
    assert isinstance(one, ObjectiveModule)
    before = {key: value.clone() for key, value in one.state_dict().items()}
    assert before
    one(rows(6, 4), make.labels(Y), Y, 0, generator=drawing())
    assert all(torch.equal(value, before[key]) for key, value in one.state_dict().items())
    # a step that was thrown away leaves no trace
    other = built(name)
    other(rows(6, 4, seed=8), make.labels(Y), Y, 0, generator=drawing(8))
    other(rows(6, 4), make.labels(Y), Y, 0, generator=drawing())
    for module in (one, other):
        module.after_step()
    after = one.state_dict()
    assert any(not torch.equal(value, before[key]) for key, value in after.items())
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in after.items())
    one.after_step()  # a second call does nothing
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in one.state_dict().items())
    # what is loaded goes on bit for bit
    again = built(name)
    again.load_state_dict(after)
    found = [module(rows(6, 4, seed=2), make.labels(Y), Y, LATE, generator=drawing(2))[0] for module in (one, again)]
    assert torch.equal(*found)


@remembering
def test_draws_are_the_generators(name: str) -> None:
    module = built(name)
    for step in range(2):
        module(rows(6, 4, seed=step), make.labels(Y), Y, step, generator=drawing())
        module.after_step()
    given = [module(rows(6, 4, seed=3), make.labels(Y), Y, LATE, generator=drawing(seed))[0] for seed in (1, 1, 2)]
    assert torch.equal(given[0], given[1])
    assert not torch.equal(given[0], given[2])


@remembering
def test_a_kin_without_classes_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}.*labels"):
        AUGMENTERS.build(name, 4, 0, CONTEXT)
    with pytest.raises(ConfigError, match=f"{name}.*labels"):
        built(name)(rows(6, 4), make.labels(Y), None, 0)


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
