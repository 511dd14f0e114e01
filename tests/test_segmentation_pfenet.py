"""The PFENet-style decoder and its head: against loops, ways and shots, base-class suppression, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kinshot.core.errors import ConfigError, DataError
from kinshot.encoders.build import keyed_initialisation
from kinshot.segmentation import SEGMENTERS
from kinshot.segmentation.base_classes import BaseClasses
from kinshot.segmentation.dense import Dense
from kinshot.segmentation.heads.base_suppressed import base_suppressed
from kinshot.segmentation.heads.pfenet import pfenet
from kinshot.segmentation.pfenet import PFENet, together
from kinshot.segmentation.planned import stages_of
from tests import reference_segmentation_decoder as reference

E, W, K, Q, C = 2, 2, 3, 2, 4
MIDDLE, HIGH, PIXELS = {"layer2": 4, "layer3": 6}, "layer4", 12
SIZES = {"layer2": (6, 6), "layer3": (3, 3), "layer4": (3, 3)}
DIMS = {**MIDDLE, HIGH: 5}
SCALES = (1.0, 0.5)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def episodes(ways=W, shots=K):
    """Masks of blocks in which ways, background and pixels of which nothing is said alternate; every image shows its own way."""
    support = {stage: draw(E, ways, shots, DIMS[stage], *SIZES[stage], seed=1) for stage in (HIGH, *MIDDLE)}
    query = {stage: draw(E, Q, DIMS[stage], *SIZES[stage], seed=2) for stage in (HIGH, *MIDDLE)}
    blocks = torch.randint(0, ways + 2, (E, ways, shots, 4, 4), generator=torch.Generator().manual_seed(3))
    blocks[blocks == ways + 1] = 255
    blocks[..., 1, 1] = torch.arange(1, ways + 1).view(-1, 1)
    masks = blocks.repeat_interleave(PIXELS // 4, -1).repeat_interleave(PIXELS // 4, -2)
    return Dense(support, masks, query)


def decoder(base=None, width=6):
    with keyed_initialisation(0, "test"):
        return PFENet(MIDDLE, HIGH, width, SCALES, base).double().eval()


def by_hand(network, dense, e, w, q):
    """Log odds of one way in one query, main head first."""
    weights = {name: value.detach().numpy() for name, value in network.named_parameters()}
    own = (dense.masks[e, w] == w + 1).numpy()
    shots = [
        reference.middle([dense.support[stage][e, w, k].numpy() for stage in MIDDLE], weights["down_support.weight"])
        for k in range(dense.shots)
    ]
    query = reference.middle([dense.query[stage][e, q].numpy() for stage in MIDDLE], weights["down_query.weight"])
    prior = reference.prior(dense.query[HIGH][e, q].numpy(), dense.support[HIGH][e, w].numpy(), own)
    prior = reference.bilinear(prior[None], query.shape[1:])[0]
    inner = {name.removeprefix("enrichment."): value for name, value in weights.items()}
    return reference.enrich(inner, list(SCALES), query, reference.support_vector(np.stack(shots), own), prior)


def test_scores_equal_loops_over_episodes_ways_and_queries():
    network, dense = decoder(), episodes()
    with torch.no_grad():
        found = network(dense)
    assert [tuple(one.shape) for one in found] == [(E, Q, 1 + W, 6, 6), (E, Q, 1 + W, 6, 6), (E, Q, 1 + W, 3, 3)]
    for one in found:
        assert not one[:, :, 0].any()
        assert one[:, :, 1:].std() > 0
    for e, w, q in np.ndindex(E, W, Q):
        for mine, other in zip(found, by_hand(network, dense, e, w, q), strict=True):
            np.testing.assert_allclose(mine[e, q, 1 + w].numpy(), other, rtol=1e-5, atol=1e-6)


def test_together_is_what_detectors_say_of_which_at_most_one_is_right():
    odds = draw(1, 3, 1, 2, 2)
    got = together(odds)[0, 0].softmax(0)
    for i, j in np.ndindex(2, 2):
        p = odds[0, :, 0, i, j].sigmoid().numpy()
        none = np.prod(1 - p)
        joint = np.array([none, *(p[w] * none / (1 - p[w]) for w in range(3))])
        np.testing.assert_allclose(got[:, i, j].numpy(), joint / joint.sum(), atol=1e-12)
    one = together(odds[:, :1])[0, 0].softmax(0)
    torch.testing.assert_close(one[1], odds[0, 0, 0].sigmoid())


def test_scores_permute_with_the_ways():
    network, dense = decoder().state_dict(), episodes()
    order = [1, 0]
    masks = dense.masks[:, order].clone()
    first, second = masks == 1, masks == 2
    masks[first], masks[second] = 2, 1
    swapped = Dense({stage: maps[:, order] for stage, maps in dense.support.items()}, masks, dense.query)
    torch.testing.assert_close(pfenet(swapped, network=network), pfenet(dense, network=network)[:, :, [0, 2, 1]])


def test_equal_shots_are_one():
    network, dense = decoder().state_dict(), episodes(shots=1)
    five = Dense({s: maps.repeat(1, 1, 5, 1, 1, 1) for s, maps in dense.support.items()}, dense.masks.repeat(1, 1, 5, 1, 1), dense.query)
    torch.testing.assert_close(pfenet(five, network=network), pfenet(dense, network=network))


def test_a_batch_of_episodes_is_a_loop():
    network, dense = decoder().state_dict(), episodes()
    whole = pfenet(dense, network=network)
    for e in range(E):
        rows = slice(e, e + 1)
        one = Dense({s: m[rows] for s, m in dense.support.items()}, dense.masks[rows], {s: m[rows] for s, m in dense.query.items()})
        torch.testing.assert_close(pfenet(one, network=network), whole[rows])


def test_pixels_of_which_nothing_is_said_are_background_to_the_support_and_no_object():
    """Only a way's own pixels make its support vector and its prior."""
    network, dense = decoder().state_dict(), episodes()
    masks = dense.masks.where(dense.masks != 255, 0)
    assert not torch.equal(masks, dense.masks)
    assert torch.equal(pfenet(Dense(dense.support, masks, dense.query), network=network), pfenet(dense, network=network))


def test_a_support_without_its_way_gives_finite_scores():
    dense = episodes()
    masks = torch.zeros_like(dense.masks)
    without = Dense(dense.support, masks, dense.query)
    assert all(one.isfinite().all() for one in decoder()(without))  # as a crop may leave it in training
    with pytest.raises(DataError, match="way 0 of episode 0 has no pixel"):
        pfenet(without, network=decoder().state_dict())


def test_only_weights_of_the_decoder_have_gradients_through_frozen_maps():
    network, dense = decoder(base=(DIMS[HIGH], C), width=16), episodes()
    found = network(dense)
    final = network.final(found[0], dense.query)
    sum(one.softmax(2)[:, :, 0].sum() for one in (final, *found[1:])).backward()
    still = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == ["base.rows.weight", "base.rows.bias"]  # which learns from its own loss alone


def test_gradients_reach_maps_of_middle_stages_of_support_and_query():
    dense = episodes()
    for maps in (dense.support, dense.query):
        for values in maps.values():
            values.requires_grad_()
    decoder(width=16)(dense)[0].square().sum().backward()
    for maps in (dense.support, dense.query):
        assert all(maps[stage].grad is not None and maps[stage].grad.any() for stage in MIDDLE)


def test_a_network_is_rebuilt_from_its_weights():
    network, dense = decoder(base=(DIMS[HIGH], C)), episodes()
    with torch.no_grad():
        network.merge.copy_(torch.tensor([0.9, 0.4]))
        expected = network.final(network(dense)[0], dense.query)
    assert torch.equal(pfenet(dense, network=network.state_dict()), expected)
    assert stages_of(network.state_dict()) == (HIGH, *MIDDLE)


def test_without_its_weight_base_suppression_changes_no_bit():
    network, dense = decoder(base=(DIMS[HIGH], C)), episodes()
    plain = network(dense)[0].detach()
    assert torch.equal(pfenet(dense, base_weight=0.0, network=network.state_dict()), plain)
    torch.testing.assert_close(pfenet(dense, network=network.state_dict()), plain)  # as initialised: (1, 0)
    more = pfenet(dense, base_weight=1.0, network=network.state_dict())
    assert bool((more[:, :, 0] > plain[:, :, 0]).all())
    assert torch.equal(more[:, :, 1:], plain[:, :, 1:])


def test_ways_own_base_classes_are_left_out_in_training():
    network, dense = decoder(base=(DIMS[HIGH], 2)), episodes()
    plain = network(dense)[0]
    both = torch.tensor([[1, 2]] * E)  # no base class is left
    torch.testing.assert_close(network.final(plain, dense.query, weight=1.0, own=both), plain)
    assert not torch.allclose(network.final(plain, dense.query, weight=1.0, own=both[:, :1]), plain)


def learner():
    with keyed_initialisation(0, "test"):
        return BaseClasses(HIGH, DIMS[HIGH], C).double()


def test_base_suppression_of_another_head():
    dense, weights = episodes(), learner().state_dict()
    plain = SEGMENTERS.get("cosine")(dense)
    assert torch.equal(base_suppressed(dense, base_weight=0.0, network=weights), plain)
    found = base_suppressed(dense, base_weight=0.5, network=weights)
    assert torch.equal(found[:, :, 1:], plain[:, :, 1:])
    p = learner()(dense.query[HIGH]).softmax(2)[0, 0, 1:].sum(0)
    q = plain[0, 0].softmax(0)
    expected = torch.cat([q[:1] + 0.5 * p, q[1:]])
    torch.testing.assert_close(found[0, 0].softmax(0), expected / expected.sum(0))


def test_what_cannot_be_is_refused():
    dense, weights = episodes(), decoder().state_dict()
    with pytest.raises(ConfigError, match="needs its trained decoder"):
        pfenet(dense)
    with pytest.raises(ConfigError, match="base_weight must be at least 0, got -1"):
        pfenet(dense, base_weight=-1.0, network=weights)
    with pytest.raises(ConfigError, match="without a base learner"):
        pfenet(dense, base_weight=0.5, network=weights)
    with pytest.raises(DataError, match="expected the weights of a PFENet, got those of a BaseClasses"):
        pfenet(dense, network=learner().state_dict())
    with pytest.raises(ConfigError, match="stage layer3 and maps of layer4, layer2 were given"):
        pfenet(Dense(*({s: m for s, m in one.items() if s != "layer3"} if isinstance(one, dict) else one for one in _parts(dense))),
               network=weights)  # fmt: skip
    with pytest.raises(DataError, match="trained on 6 channels of layer3"):
        pfenet(Dense({**dense.support, "layer3": dense.support["layer2"]}, dense.masks, dense.query), network=weights)
    with pytest.raises(ConfigError, match="needs a trained classifier"):
        base_suppressed(dense)
    with pytest.raises(ConfigError, match="at least 0"):
        base_suppressed(dense, base_weight=-1.0, network=learner().state_dict())
    for bad in ({"middle": {}}, {"width": 0}, {"scales": ()}, {"scales": (2.0,)}):
        with pytest.raises(ConfigError, match="pfenet"):
            PFENet(**{"middle": MIDDLE, "high": HIGH, **bad})


def _parts(dense):
    return dense.support, dense.masks, dense.query
