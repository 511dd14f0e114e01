"""BAM's base learner and what it takes from the foreground, against loops over places."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kinshot.core.errors import ConfigError, DataError
from kinshot.encoders.build import keyed_initialisation
from kinshot.segmentation.base_classes import BaseClasses, base_probability, base_targets, suppress
from kinshot.segmentation.planned import plan_of, stages_of
from tests import reference_segmentation_decoder as reference

E, Q, W, C = 2, 3, 2, 4


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def test_base_probability_is_a_sum_over_classes_but_for_the_ways():
    logits, own = draw(E, Q, 1 + C, 3, 4), torch.tensor([[1, 3], [4, 2]])
    got, whole = base_probability(logits, own), base_probability(logits)
    for e in range(E):
        for place in np.ndindex(Q, 3, 4):
            p = reference.softmax(logits[(e, place[0], slice(None), *place[1:])].numpy())
            assert whole[(e, *place)].item() == pytest.approx(1 - p[0], abs=1e-12)
            assert got[(e, *place)].item() == pytest.approx(sum(p[c] for c in range(1, 1 + C) if c not in own[e]), abs=1e-12)


def test_suppression_is_of_probabilities():
    scores, base = draw(E, Q, 1 + W, 3, 4), draw(E, Q, 3, 4, seed=1).sigmoid()
    got = suppress(scores, base, torch.tensor([0.8, 0.6]).double())
    for e, q, i, j in np.ndindex(E, Q, 3, 4):
        p = reference.softmax(scores[e, q, :, i, j].numpy())
        p[0] = 0.8 * p[0] + 0.6 * base[e, q, i, j].item()
        np.testing.assert_allclose(reference.softmax(got[e, q, :, i, j].numpy()), p / p.sum(), atol=1e-12)


def test_only_background_gains():
    scores, base = draw(E, Q, 1 + W, 3, 4), draw(E, Q, 3, 4, seed=1).sigmoid()
    got = suppress(scores, base, torch.tensor([1.0, 1.0]).double())
    assert torch.equal(got[:, :, 1:], scores[:, :, 1:])
    assert bool((got[:, :, 0] > scores[:, :, 0]).all())
    torch.testing.assert_close(suppress(scores, base, torch.tensor([1.0, 0.0]).double()), scores)


def test_where_base_classes_are_told_at_a_lower_resolution_they_are_brought_to_the_scores():
    scores, base = draw(1, 1, 2, 5, 5), draw(1, 1, 2, 3, seed=1).sigmoid()
    expected = torch.from_numpy(reference.bilinear(base[0].numpy(), (5, 5)))[None]
    weights = torch.tensor([1.0, 1.0]).double()
    torch.testing.assert_close(suppress(scores, base, weights), suppress(scores, expected, weights))


@pytest.mark.parametrize("start", [(1.0, 0.0), (0.5, -2.0)])
def test_suppression_is_finite_and_its_weights_learn(start):
    scores = torch.tensor([50.0, -50.0, 0.0])[None, None, :, None, None].expand(1, 1, 3, 2, 2).flip(2).clone()
    weights = torch.tensor(start, requires_grad=True)
    got = suppress(scores, torch.full((1, 1, 2, 2), 0.3), weights)
    got.softmax(2)[:, :, 0].sum().backward()
    assert got.isfinite().all()
    assert weights.grad is not None
    assert weights.grad.isfinite().all()


def test_base_targets():
    masks = torch.tensor([[0, 1, C, C + 1, 255]])
    assert base_targets(masks, C).tolist() == [[0, 1, C, 0, 255]]
    assert base_targets(masks, C, "ignore").tolist() == [[0, 1, C, 255, 255]]


def learner(classes=C):
    with keyed_initialisation(0, "test"):
        return BaseClasses("layer2", 5, classes)


def test_a_base_learner_is_rebuilt_from_its_weights():
    made, maps = learner(), draw(E, Q, 5, 3, 4).float()
    before = torch.random.get_rng_state()
    again = BaseClasses.of(made.state_dict(), maps)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(again(maps), made(maps))
    assert again(maps).shape == (E, Q, 1 + C, 3, 4)
    assert stages_of(made) == stages_of(made.state_dict()) == ("layer2",)
    assert BaseClasses.of(made, maps) is made
    assert BaseClasses.of(made.state_dict(), maps.double()).rows.weight.dtype == torch.float64


def test_weights_that_are_no_base_learner_are_refused():
    weights, maps = learner().state_dict(), draw(1, 1, 5, 2, 2)
    with pytest.raises(DataError, match="plan"):
        plan_of({"rows.weight": weights["rows.weight"]})
    with pytest.raises(DataError, match="restore"):
        plan_of({"plan": torch.tensor([1, 2, 3], dtype=torch.uint8)})
    with pytest.raises(DataError, match="fit their plan"):
        BaseClasses.of({**weights, "rows.weight": torch.zeros(2, 5, 1, 1)}, maps)
    with pytest.raises(DataError, match="expected the weights of a Other"):
        type("Other", (BaseClasses,), {}).of(weights, maps)
    with pytest.raises(ConfigError, match="at least 1"):
        learner(classes=0)
