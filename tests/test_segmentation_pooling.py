"""Masked average pooling and score maps against pixel-by-pixel references."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

import kinshot.segmentation.pooling
from kinshot.segmentation.cosine_maps import cosine_maps, pixel_cross_entropy, predicted, upsampled
from kinshot.segmentation.pooling import (
    EPS,
    background_pixels,
    cell_weights,
    interpolation,
    masked_mean,
    mean_of_present,
    pooled_prototypes,
    shot_prototypes,
)
from tests import reference_segmentation as slow

CONVENTIONS = [("upsample", False), ("upsample", True), ("downsample", False), ("downsample", True), ("nearest", False)]
conventions = pytest.mark.parametrize(("pooling", "align_corners"), CONVENTIONS)
SIZES = [((7, 9), (3, 4)), ((8, 8), (2, 4)), ((5, 6), (5, 6)), ((3, 5), (4, 7)), ((6, 6), (1, 1))]


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mask_of(*shape: int, seed: int = 1) -> Tensor:
    return drawn(*shape, seed=seed) > 0.3


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(("size", "to"), [(3, 7), (7, 3), (4, 4), (1, 5), (5, 1), (8, 16)])
def test_interpolation_is_that_of_the_reference(size: int, to: int, align_corners: bool) -> None:
    line = drawn(size)
    wanted = slow.bilinear(line.numpy()[:, None], to, 1, align_corners)[:, 0]
    found = interpolation(size, to, align_corners=align_corners, like=line) @ line
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-12)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(("pixels", "cells"), SIZES)
def test_weights_carried_down_equal_features_carried_up(pixels: tuple[int, int], cells: tuple[int, int], align_corners: bool) -> None:
    features, mask = drawn(2, 5, *cells), mask_of(2, 3, *pixels)
    up = interpolate(features, pixels, mode="bilinear", align_corners=align_corners)
    wanted = torch.einsum("echw,emhw->emc", up, mask.double())
    weights = cell_weights(mask, cells, "upsample", align_corners=align_corners, dtype=torch.float64)
    torch.testing.assert_close(torch.einsum("echw,emhw->emc", features, weights), wanted, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(weights.sum((-2, -1)), mask.sum((-2, -1)).double(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(("pixels", "cells"), SIZES)
def test_masks_carried_down_are_those_of_the_library(pixels: tuple[int, int], cells: tuple[int, int], align_corners: bool) -> None:
    mask = mask_of(2, 3, *pixels)
    wanted = interpolate(mask.double(), cells, mode="bilinear", align_corners=align_corners)
    found = cell_weights(mask, cells, "downsample", align_corners=align_corners, dtype=torch.float64)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


@conventions
@pytest.mark.parametrize(("pixels", "cells"), SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_prototypes_are_those_of_the_reference(
    pooling: str, align_corners: bool, pixels: tuple[int, int], cells: tuple[int, int], dtype: torch.dtype
) -> None:
    features, mask = drawn(2, 4, *cells), mask_of(2, 3, *pixels)
    mask[1, 2] = False
    found, present = shot_prototypes(features.to(dtype), mask, pooling, align_corners=align_corners)  # type: ignore[arg-type]
    assert found.dtype == dtype
    for image in range(2):
        for which in range(3):
            given = features[image].numpy(), mask[image, which].numpy()
            wanted, weight = slow.mean_and_weight(*given, pooling, align_corners, EPS[pooling])
            np.testing.assert_allclose(found[image, which].numpy(), wanted, atol=1e-5 if dtype == torch.float32 else 1e-11)
            assert bool(present[image, which]) == (weight > 0)
    assert not found[1, 2].any(), "a mask without a pixel has a zero prototype"


@conventions
def test_pooling_all_shots_at_once_averages_their_pixels(pooling: str, align_corners: bool) -> None:
    features, mask = drawn(2, 3, 4, 3, 4), mask_of(2, 3, 2, 7, 9)
    mask[0, 1] = False  # a shot of nothing
    found = pooled_prototypes(features, mask, pooling, align_corners=align_corners, eps=0.1)  # type: ignore[arg-type]
    for episode in range(2):
        for which in range(2):
            given = [(features[episode, k].numpy(), mask[episode, k, which].numpy()) for k in range(3)]
            parts = [slow.mean_and_weight(f, m, pooling, align_corners, 1.0) for f, m in given]
            total, weight = sum((w + 1.0) * mean for mean, w in parts), sum(w for _, w in parts)
            np.testing.assert_allclose(found[episode, which].numpy(), total / (weight + 0.1), atol=1e-11)


@conventions
def test_a_few_masks_at_a_time_give_the_same(pooling: str, align_corners: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    mask = mask_of(3, 2, 7, 9)
    whole = cell_weights(mask, (3, 4), pooling, align_corners=align_corners, dtype=torch.float64)  # type: ignore[arg-type]
    monkeypatch.setattr(kinshot.segmentation.pooling, "_TILE", 70)
    parts = cell_weights(mask, (3, 4), pooling, align_corners=align_corners, dtype=torch.float64)  # type: ignore[arg-type]
    torch.testing.assert_close(parts, whole, rtol=1e-12, atol=1e-12)


def test_eps_is_added_to_the_sum_of_weights() -> None:
    features, weights = torch.ones(1, 2, 2, dtype=torch.float64), torch.tensor([[[1.0, 0.0], [0.0, 0.0]]], dtype=torch.float64)
    assert masked_mean(features, weights, eps=1.0).tolist() == [[0.5]]


def test_absent_vectors_are_left_out_of_the_mean() -> None:
    vectors = torch.tensor([[[1.0, 2.0], [5.0, 6.0], [9.0, 9.0]], [[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]])
    present = torch.tensor([[True, True, False], [False, False, False]])
    assert mean_of_present(vectors, present, 1).tolist() == [[3.0, 4.0], [0.0, 0.0]]
    assert mean_of_present(vectors, present, (0, 1)).tolist() == [3.0, 4.0]


def test_background_by_every_rule() -> None:
    masks = torch.tensor([0, 1, 2, 255]).expand(1, 2, 1, 1, 4)  # one image of each of two ways, all values in it

    def found(**rules: object) -> list[list[bool]]:
        return background_pixels(masks, **rules)[0, :, 0, 0].tolist()  # type: ignore[arg-type]

    assert found() == [[True, False, False, False]] * 2
    assert found(ignored=True) == [[True, False, False, True]] * 2
    assert found(other_ways="background") == [[True, False, True, False], [True, True, False, False]]
    assert found(ignored=True, other_ways="background") == [[True, False, True, True], [True, True, False, True]]


@pytest.mark.parametrize("own", [False, True])
def test_score_maps_are_those_of_the_reference(own: bool) -> None:
    query, prototypes = drawn(2, 2, 5, 3, 4), drawn(2, 2, 3, 5, seed=2)
    query[0, 1, :, 1, 2] = 0
    prototypes[1, :, 2] = 0
    given = prototypes if own else prototypes[:, 0]
    found = cosine_maps(query, given, scale=7.0)
    assert found.shape == (2, 2, 3, 3, 4)
    for e, q, p in np.ndindex(2, 2, 3):
        row = prototypes[e, q if own else 0, p]
        np.testing.assert_allclose(found[e, q, p].numpy(), slow.score_map(query[e, q].numpy(), row.numpy(), 7.0), atol=1e-12)
    torch.testing.assert_close(cosine_maps(query.float(), given.float(), 7.0), found.float(), rtol=1e-4, atol=1e-5)


@conventions
def test_gradients_reach_support_and_query(pooling: str, align_corners: bool) -> None:
    support, query, mask = drawn(1, 2, 3, 2, 2).requires_grad_(), drawn(1, 1, 3, 2, 2, seed=5).requires_grad_(), mask_of(1, 2, 5, 6)

    def scores(support: Tensor, query: Tensor) -> Tensor:
        found, _ = shot_prototypes(support, mask.unsqueeze(2), pooling, align_corners=align_corners)  # type: ignore[arg-type]
        return cosine_maps(query, found.squeeze(2))

    assert torch.autograd.gradcheck(scores, (support, query))


def test_gradients_of_zero_vectors_are_finite() -> None:
    """A prototype of an image without its object, a cell that a ReLU left nothing of."""
    support, query = drawn(1, 4, 3, 3).requires_grad_(), drawn(1, 1, 4, 3, 3).relu().masked_fill(torch.eye(3) > 0, 0).requires_grad_()
    mask = torch.zeros(1, 2, 6, 6, dtype=torch.bool)
    mask[0, 0, :2] = True
    found, _ = shot_prototypes(support, mask)
    pixel_cross_entropy(cosine_maps(query, found), torch.ones(1, 1, 6, 6)).backward()
    for leaf in (support, query):
        assert leaf.grad is not None
        assert torch.isfinite(leaf.grad).all()
        assert leaf.grad.any()


def test_score_maps_keep_full_precision_under_autocast() -> None:
    query, prototypes = drawn(1, 1, 64, 3, 3).float(), drawn(1, 2, 64, seed=3).float()
    masks = mask_of(1, 2, 6, 6)
    plain = cosine_maps(query, prototypes), shot_prototypes(query[:, 0], masks)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = cosine_maps(query, prototypes), shot_prototypes(query[:, 0], masks)[0]
    for one, other in zip(plain, mixed, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("align_corners", [False, True])
def test_both_orders_of_upsampling(align_corners: bool) -> None:
    scores = drawn(2, 3, 3, 4)
    after = predicted(scores, (7, 9), order="after", align_corners=align_corners)
    before = predicted(scores, (7, 9), order="before", align_corners=align_corners)
    for e in range(2):
        up = slow.resized(scores[e].numpy(), 7, 9, align_corners)
        np.testing.assert_allclose(upsampled(scores, (7, 9), align_corners=align_corners)[e].numpy(), up, atol=1e-12)
        assert np.array_equal(after[e].numpy(), up.argmax(0))
        assert np.array_equal(before[e].numpy(), slow.nearest(scores[e].numpy().argmax(0), 7, 9))
    assert not torch.equal(after, before)
    assert torch.equal(predicted(scores, (3, 4), order="before"), predicted(scores, (3, 4), order="after"))


@pytest.mark.parametrize("align_corners", [False, True])
def test_cross_entropy_is_that_of_the_reference(align_corners: bool) -> None:
    scores = 30 * drawn(3, 3, 4)
    target = torch.randint(3, (7, 9), generator=torch.Generator().manual_seed(4))
    target[2:4, 1:5] = 255
    found = pixel_cross_entropy(scores, target, align_corners=align_corners)
    assert float(found) == pytest.approx(slow.cross_entropy(scores.numpy(), target.numpy(), align_corners, 255), abs=1e-10)
    several = pixel_cross_entropy(scores.expand(2, 2, -1, -1, -1), target.expand(2, 2, -1, -1), align_corners=align_corners)
    torch.testing.assert_close(several, found, rtol=1e-12, atol=1e-12)


def test_cross_entropy_of_nothing_is_zero_with_a_zero_gradient() -> None:
    scores = drawn(1, 2, 3, 3).requires_grad_()
    loss = pixel_cross_entropy(scores, torch.full((1, 5, 5), 255))
    loss.backward()
    assert loss.item() == 0
    assert scores.grad is not None
    assert not scores.grad.any()


def test_ignored_pixels_get_no_gradient() -> None:
    scores = drawn(2, 4, 4).requires_grad_()
    target = torch.full((4, 4), 255)
    target[1, 2] = 1
    pixel_cross_entropy(scores, target).backward()
    assert scores.grad is not None
    assert scores.grad.abs().sum(0).nonzero().tolist() == [[1, 2]]
