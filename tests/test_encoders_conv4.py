"""Conv-4 and its fused block against the plain composition of torch's modules."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinshot.core.errors import ConfigError
from kinshot.encoders import ENCODERS
from kinshot.encoders.conv4 import Conv4, ConvBlock
from kinshot.encoders.pooled_norm import PooledNorm, StemPooledNorm
from kinshot.samples.pixels import PixelSpec

GRAY = PixelSpec.square(1, 28, (0.1,), (0.3,))


def plain(block: ConvBlock, x: Tensor) -> Tensor:
    """The four modules, one after the other."""
    return F.max_pool2d(F.relu(block.norm(block.conv(x))), 2, ceil_mode=block.ceil_mode)


def random_block(channels: int, width: int, ceil_mode: bool, seed: int = 0) -> ConvBlock:
    torch.manual_seed(seed)
    block = ConvBlock(channels, width, ceil_mode)
    nn.init.uniform_(block.norm.weight, -1.5, 1.5)  # both signs
    nn.init.uniform_(block.norm.bias, -0.5, 0.5)
    return block


def run(block: ConvBlock, x: Tensor, fused: bool, needs_input_grad: bool) -> dict[str, Tensor]:
    block = copy.deepcopy(block)
    x = x.clone().requires_grad_(needs_input_grad)
    y = block(x) if fused else plain(block, x)
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
    (y * weights).sum().backward()
    found = {"y": y.detach(), **{f"buffer {k}": v for k, v in block.named_buffers()}}
    found |= {f"grad {k}": p.grad for k, p in block.named_parameters() if p.grad is not None}
    if needs_input_grad:
        assert x.grad is not None
        found["grad x"] = x.grad
    return found


@pytest.mark.parametrize("ceil_mode", [True, False])
@pytest.mark.parametrize("side", [7, 8])
@pytest.mark.parametrize(("channels", "needs_input_grad"), [(1, False), (3, False), (1, True), (6, True), (6, False)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_fused_block_equals_plain_modules(ceil_mode, side, channels, needs_input_grad, dtype, tolerance):
    block = random_block(channels, 5, ceil_mode).to(dtype)
    x = torch.randn(19, channels, side, side, dtype=dtype, generator=torch.Generator().manual_seed(1)) * 2 + 3
    ours, reference = run(block, x, True, needs_input_grad), run(block, x, False, needs_input_grad)
    assert ours.keys() == reference.keys()
    for name, value in reference.items():
        scale = value.abs().max().clamp(min=1).item() if value.is_floating_point() else 1.0
        torch.testing.assert_close(ours[name], value, rtol=0, atol=tolerance * scale, msg=lambda m, n=name: f"{n}: {m}")


def test_ties_of_a_blank_background_go_to_the_first_position_as_in_max_pool():
    block = random_block(1, 4, True).double()
    x = torch.zeros(10, 1, 9, 9, dtype=torch.float64)
    x[:, :, 3:6, 4] = 1
    ours, reference = run(block, x, True, False), run(block, x, False, False)
    for name, value in reference.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-9, atol=1e-11, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("ceil_mode", [True, False])
def test_pooled_norm_gradients_match_finite_differences(ceil_mode):
    generator = torch.Generator().manual_seed(3)
    y = torch.randn(3, 2, 5, 4, dtype=torch.float64, generator=generator).requires_grad_()
    gamma = torch.tensor([0.7, 1.3], dtype=torch.float64, requires_grad=True)
    beta = torch.tensor([0.2, -0.1], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *a: PooledNorm.apply(*a, 1e-5, ceil_mode)[0], (y, gamma, beta))


@pytest.mark.parametrize("ceil_mode", [True, False])
def test_stem_gradients_match_finite_differences(ceil_mode):
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(3, 2, 5, 4, dtype=torch.float64, generator=generator)
    weight = torch.randn(3, 2, 3, 3, dtype=torch.float64, generator=generator).requires_grad_()
    gamma = torch.tensor([0.7, 1.3, 0.4], dtype=torch.float64, requires_grad=True)
    beta = torch.tensor([0.2, -0.1, 0.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda w, g, b: StemPooledNorm.apply(x, w, g, b, 1e-5, ceil_mode)[0], (weight, gamma, beta))


@pytest.mark.parametrize(("size", "ceil_mode", "dim"), [(28, True, 256), (28, False, 64), (20, True, 256), (32, True, 256)])
def test_feature_dimension(size, ceil_mode, dim):
    encoder = Conv4(PixelSpec.square(1, size, (0.0,), (1.0,)), ceil_mode=ceil_mode)
    assert encoder.dim == dim
    assert encoder.eval()(torch.randn(1, 1, size, size)).shape == (1, dim)


def test_registered_with_its_settings_and_native_names():
    encoder = ENCODERS.build("conv4", GRAY, settings={"width": 8})
    assert encoder.input == GRAY
    assert set(encoder.state_dict()) == {
        f"blocks.{i}.{name}"
        for i in range(4)
        for name in ("conv.weight", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var", "norm.num_batches_tracked")
    }
    assert encoder.maps(torch.randn(2, 1, 28, 28), ("blocks.3",))[0].values.shape == (2, 8, 2, 2)


def test_channels_last_and_contiguous_inputs_agree():
    encoder = Conv4(PixelSpec.square(3, 16, (0.0,) * 3, (1.0,) * 3), width=8)
    x = torch.randn(6, 3, 16, 16)
    for mode in (True, False):
        encoder.train(mode)
        torch.testing.assert_close(encoder(x), encoder(x.contiguous(memory_format=torch.channels_last)), rtol=1e-4, atol=1e-5)


def test_eval_mode_does_not_depend_on_the_batch_and_leaves_statistics_alone():
    encoder = Conv4(GRAY, width=8)
    encoder(torch.randn(16, 1, 28, 28))
    encoder.eval()
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    x = torch.randn(4, 1, 28, 28)
    torch.testing.assert_close(encoder(x)[2:3], encoder(x[2:3]), rtol=1e-4, atol=1e-5)
    assert all(torch.equal(before[k], v) for k, v in encoder.state_dict().items())


def test_bf16_autocast_trains():
    encoder = Conv4(GRAY, width=8)
    with torch.autocast("cpu", torch.bfloat16):
        y = encoder(torch.randn(8, 1, 28, 28))
    y.float().square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())


def test_momentum_none_averages_every_batch():
    block = random_block(1, 4, True)
    block.norm.momentum = None
    reference = copy.deepcopy(block)
    for seed in range(3):
        x = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
        block(x)
        plain(reference, x)
    torch.testing.assert_close(block.norm.running_mean, reference.norm.running_mean)
    torch.testing.assert_close(block.norm.running_var, reference.norm.running_var)


def test_one_value_per_channel_cannot_be_normalised():
    with pytest.raises(ValueError, match="more than one value per channel"):
        ConvBlock(1, 4, True)(torch.randn(1, 1, 1, 1))


@pytest.mark.parametrize(("size", "settings"), [(28, {"width": 0}), (8, {"ceil_mode": False})])
def test_unusable_settings_are_refused(size, settings):
    with pytest.raises(ConfigError):
        Conv4(PixelSpec.square(1, size, (0.0,), (1.0,)), **settings)
