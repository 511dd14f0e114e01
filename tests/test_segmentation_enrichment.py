"""PFENet's feature enrichment against loops in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kinshot.encoders.build import keyed_initialisation
from kinshot.segmentation.enrichment import Enrichment
from tests import reference_segmentation_decoder as reference

D = 8


def made(scales):
    with keyed_initialisation(0, "test"):
        return Enrichment(D, scales).double()


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


CASES = [((1.0, 0.5, 0.25, 0.125), (6, 6)), ((1.0, 0.6), (5, 4)), ((0.5,), (4, 4)), ((1.0, 0.5), (1, 1))]


@pytest.mark.parametrize(("scales", "size"), CASES)
def test_enrichment_equals_loops_over_queries_and_scales(scales, size):
    module, query, support, prior = made(scales), draw(2, D, *size), draw(2, D, seed=1), draw(2, 1, *size, seed=2).sigmoid()
    weights = {name: value.detach().numpy() for name, value in module.named_parameters()}
    got = module(query, support, prior)
    assert all(one.std() > 0 for one in got)
    for number in range(2):
        expected = reference.enrich(weights, list(scales), query[number].numpy(), support[number].numpy(), prior[number, 0].numpy())
        assert len(got) == len(expected) == 1 + len(scales)
        for mine, other in zip(got, expected, strict=True):
            np.testing.assert_allclose(mine[number].detach().numpy(), other, rtol=1e-9, atol=1e-11)


def test_sizes_of_scales_are_rounded_up_as_sixty_and_eight():
    found = made((1.0, 0.5, 0.25, 0.125))(draw(1, D, 60, 60), draw(1, D), draw(1, 1, 60, 60))
    assert [one.shape[-1] for one in found] == [60, 60, 30, 15, 8]


def test_every_weight_learns_from_the_main_head_but_those_of_the_auxiliary_ones():
    module = made((1.0, 0.5))
    module(draw(2, D, 6, 6), draw(2, D, seed=1), draw(2, 1, 6, 6))[0].square().sum().backward()
    still = [name for name, p in module.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == [name for name, _ in module.named_parameters() if name.startswith("inner_heads")]
