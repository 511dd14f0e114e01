"""Convolutions along time and pooling of places against loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kinshot.encoders.maps import Maps, place_mean
from kinshot.encoders.place_pooling import POOLINGS, Pooled
from kinshot.encoders.steps import SeriesConv, cells, measured


def test_measured_values_and_steps() -> None:
    nan = float("nan")
    values, valid = measured(torch.tensor([[[1.0, nan, 3.0, nan], [nan, nan, 2.0, 0.0]]]))
    assert values.tolist() == [[[1.0, 0.0, 3.0, 0.0], [0.0, 0.0, 2.0, 0.0]]]
    assert valid.tolist() == [[True, False, True, True]]


@pytest.mark.parametrize("stride", [1, 2, 3, 7])
def test_cells_against_a_loop(stride: int) -> None:
    valid = torch.rand(6, 10, generator=torch.Generator().manual_seed(0)) < 0.3
    expected = [[any(row[start : start + stride]) for start in range(0, 10, stride)] for row in valid.tolist()]
    assert cells(valid, stride).tolist() == expected


@settings(max_examples=40, deadline=None)
@given(
    kernel=st.integers(1, 9), stride=st.integers(1, 4), dilation=st.integers(1, 5), length=st.integers(1, 12), causal=st.booleans(),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_convolution_with_mask_against_a_loop(kernel: int, stride: int, dilation: int, length: int, causal: bool, seed: int) -> None:
    if dilation > 1:
        stride, kernel = 1, kernel | 1
    stride = min(stride, kernel)
    generator = torch.Generator().manual_seed(seed)
    layer = SeriesConv(2, 3, kernel, stride=stride, dilation=dilation, causal=causal).double()
    torch.nn.init.normal_(layer.conv.weight, generator=generator)
    torch.nn.init.normal_(layer.conv.bias, generator=generator)
    x = torch.randn(2, 2, length, generator=generator, dtype=torch.float64)
    valid = torch.rand(2, -(-length // stride), generator=generator) < 0.7
    found = layer(x, valid).detach().numpy()
    weight, bias = layer.conv.weight.detach().numpy(), layer.conv.bias.detach().numpy()
    # the taps' middle lies over the cell's, half a step to the left where it cannot; or the last tap over the step
    first = -(kernel - 1) * dilation if causal else -(((kernel - 1) * dilation + 1 - stride) // 2)
    expected = np.zeros(found.shape)
    for b, place in zip(*np.nonzero(valid.numpy()), strict=True):
        total = bias.copy()
        for tap in range(kernel):
            step = place * stride + first + tap * dilation
            if 0 <= step < length:
                total += weight[:, :, tap] @ x[b, :, step].numpy()
        expected[b, :, place] = total
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("pooling", sorted(POOLINGS))
def test_pooling_against_a_loop_and_as_a_stream(pooling: str) -> None:
    generator = torch.Generator().manual_seed(0)
    values, valid = torch.randn(4, 3, 9, generator=generator), torch.rand(4, 9, generator=generator) < 0.5
    valid[1], valid[2] = False, True
    expected = torch.zeros(4, 3)
    for b in range(4):
        kept = [values[b, :, t] for t in range(9) if valid[b, t]]
        if kept:
            expected[b] = {"mean": sum(kept) / len(kept), "max": torch.stack(kept).amax(0), "last": kept[-1]}[pooling]
    torch.testing.assert_close(POOLINGS[pooling](Maps(values, 1, valid)), expected)
    pooled = Pooled.start(pooling, 4, values, 3)
    assert pooled.feature(values.dtype).abs().max() == 0
    for start, stop in ((0, 1), (1, 5), (5, 5), (5, 9)):
        pooled = pooled.add(Maps(values[:, :, start:stop], 1, valid[:, start:stop]))
    torch.testing.assert_close(pooled.feature(values.dtype), expected)
    assert pooled.count.tolist() == valid.sum(1).tolist()
    everywhere = torch.ones_like(valid)
    torch.testing.assert_close(POOLINGS[pooling](Maps(values, 1)), POOLINGS[pooling](Maps(values, 1, everywhere)))


def test_place_mean_is_the_mean() -> None:
    assert POOLINGS["mean"] is place_mean
