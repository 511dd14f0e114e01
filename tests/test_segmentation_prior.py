"""PFENet's prior mask against loops over all pairs of cells."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from kinshot.segmentation.prior import EPS, mask_weights, masked, prior_mask
from tests import reference_segmentation as slow


def _given(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Support (E, W, K, C, h', w'), weights, query (E, Q, C, h, w): some cells zero, one shot without any weight."""
    generator = torch.Generator().manual_seed(0)
    support = torch.randn(2, 2, 3, 5, 3, 4, generator=generator, dtype=torch.float64)
    query = torch.randn(2, 2, 5, 4, 3, generator=generator, dtype=torch.float64)
    pixels = torch.rand(2, 2, 3, 9, 8, generator=generator) > 0.6
    pixels[0, 1, 2] = False
    query[1, 0, :, 2, 1] = 0
    return support.to(dtype), mask_weights(pixels, (3, 4), dtype), query.to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_prior_is_that_of_the_reference(dtype: torch.dtype) -> None:
    support, weights, query = _given(dtype)
    found = prior_mask(support, weights, query)
    assert found.shape == (2, 2, 2, 4, 3)
    assert found.dtype == dtype
    tolerance = 1e-5 if dtype == torch.float32 else 1e-10
    for e, q, w in np.ndindex(2, 2, 2):
        arrays = support[e, w].double().numpy(), weights[e, w].double().numpy(), query[e, q].double().numpy()
        np.testing.assert_allclose(found[e, q, w].double().numpy(), slow.prior(*arrays, EPS), atol=tolerance)


@pytest.mark.parametrize("tile", [1, 40, 200])
def test_tiles_change_nothing(tile: int) -> None:
    support, weights, query = _given()
    torch.testing.assert_close(prior_mask(support, weights, query, tile=tile), prior_mask(support, weights, query), rtol=1e-12, atol=1e-12)


def test_a_batch_of_episodes_equals_a_loop() -> None:
    support, weights, query = _given()
    alone = [prior_mask(support[[e]], weights[[e]], query[[e]]) for e in range(2)]
    torch.testing.assert_close(torch.cat(alone), prior_mask(support, weights, query), rtol=1e-10, atol=1e-10)


def test_masking_twice_is_squaring_the_weights_up_to_direction() -> None:
    """A cosine knows no length: of a map that was masked already, the second mask changes nothing but what it makes zero."""
    support, weights, query = _given()
    twice = prior_mask(masked(support, weights), weights, query)
    torch.testing.assert_close(twice, prior_mask(support, weights, query), rtol=1e-8, atol=1e-8)
    outside = support + 100 * (weights == 0).unsqueeze(3)
    assert torch.equal(prior_mask(outside, weights, query), prior_mask(support, weights, query))


def test_degenerate_cases_are_finite() -> None:
    support, weights, query = _given()
    assert not prior_mask(support, torch.zeros_like(weights), query).any(), "no mask, no prior"
    assert not prior_mask(support, weights, query[..., :1, :1]).any(), "one cell has no spread"
    flat = prior_mask(support, weights, torch.ones_like(query))
    assert float(flat.abs().max()) < 1e-6, "a query of equal cells has no spread"
    assert torch.isfinite(prior_mask(torch.zeros_like(support), weights, query)).all()


def test_equal_shots_are_one() -> None:
    support, weights, query = _given()
    one = prior_mask(support[:, :, :1], weights[:, :, :1], query)
    five = prior_mask(support[:, :, :1].repeat(1, 1, 5, 1, 1, 1), weights[:, :, :1].repeat(1, 1, 5, 1, 1), query)
    torch.testing.assert_close(five, one, rtol=1e-10, atol=1e-10)
