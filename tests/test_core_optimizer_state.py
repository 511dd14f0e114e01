"""Optimizers continue bit for bit from a checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kinshot.core.checkpoint import (
    load_checkpoint,
    pack_optimizer,
    unpack_optimizer,
)
from kinshot.core.errors import CheckpointError
from tests.saved import save

OPTIMIZERS: dict[str, Callable[[list[Any]], torch.optim.Optimizer]] = {
    "sgd": lambda g: torch.optim.SGD(g, lr=0.1),
    "momentum": lambda g: torch.optim.SGD(g, lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4),
    "adamw": lambda g: torch.optim.AdamW(g, lr=1e-3, betas=(0.8, 0.95)),
    "amsgrad": lambda g: torch.optim.Adam(g, lr=torch.tensor(1e-3), amsgrad=True, foreach=False),
    "rmsprop": lambda g: torch.optim.RMSprop(g, lr=1e-3, centered=True, momentum=0.5),
}


def small_model() -> tuple[nn.Module, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.Flatten(), nn.Linear(20, 3)).to(memory_format=torch.channels_last)
        return model, torch.randn(7, 3, 4, 4)


def groups(model: nn.Module) -> list[dict[str, Any]]:
    parameters = list(model.parameters())
    return [{"params": parameters[:2]}, {"params": parameters[2:], "weight_decay": 0.01}]


def train_step(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor) -> None:
    optimizer.zero_grad()
    model(x).square().mean().backward()
    optimizer.step()


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("steps", [0, 3])
def test_optimizers_continue_bit_for_bit(name: str, steps: int, tmp_path: Path) -> None:
    model, x = small_model()
    optimizer = OPTIMIZERS[name](groups(model))
    for _ in range(steps):
        train_step(model, optimizer, x)
    tensors, meta = pack_optimizer(optimizer)
    state = {"step": steps, "epoch": 0, "optimizer": meta}
    saved = load_checkpoint(save(tmp_path / "c", training={**tensors, "other": torch.zeros(1)}, encoder=model.state_dict(), state=state))
    again, _ = small_model()
    again.load_state_dict(saved.encoder)
    restored = OPTIMIZERS[name](groups(again))
    unpack_optimizer(restored, saved.training, saved.state["optimizer"])
    assert_same(optimizer.state_dict(), restored.state_dict())
    assert bool(tensors) == (name == "amsgrad" or (steps > 0 and name != "sgd"))
    for _ in range(3):
        train_step(model, optimizer, x)
        train_step(again, restored, x)
    for a, b in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.isfinite(a).all()
        assert torch.equal(a, b)


def assert_same(a: Any, b: Any) -> None:
    assert type(a) is type(b)
    if isinstance(a, Tensor):
        assert a.dtype == b.dtype
        assert a.stride() == b.stride()
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert set(a) == set(b)
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, list):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    else:
        assert a == b


def test_float32_state_of_low_precision_weights_keeps_its_bits() -> None:
    weight = nn.Parameter(torch.zeros(3, dtype=torch.bfloat16))
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
    optimizer.state[weight]["momentum_buffer"] = torch.tensor([1.0, 1 + 2**-20, 3.0])
    restored = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
    unpack_optimizer(restored, *pack_optimizer(optimizer))
    assert torch.equal(restored.state[weight]["momentum_buffer"], torch.tensor([1.0, 1 + 2**-20, 3.0]))


def test_packed_state_is_a_copy_once_unpacked() -> None:
    model, x = small_model()
    optimizer = OPTIMIZERS["adamw"](groups(model))
    train_step(model, optimizer, x)
    tensors, meta = pack_optimizer(optimizer)
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    again, _ = small_model()
    restored = OPTIMIZERS["adamw"](groups(again))
    unpack_optimizer(restored, tensors, meta)
    train_step(again, restored, x)
    assert all(torch.equal(tensors[name], before[name]) for name in before)


def test_unfit_optimizer_states_are_refused() -> None:
    model, x = small_model()
    optimizer = OPTIMIZERS["adamw"](groups(model))
    train_step(model, optimizer, x)
    tensors, meta = pack_optimizer(optimizer)
    fresh = OPTIMIZERS["adamw"](groups(model))
    with pytest.raises(CheckpointError, match="SGD"):
        unpack_optimizer(OPTIMIZERS["sgd"](groups(model)), tensors, meta)
    with pytest.raises(CheckpointError, match="parameters per group"):
        unpack_optimizer(OPTIMIZERS["adamw"](list(model.parameters())), tensors, meta)
    with pytest.raises(CheckpointError, match=r"tensor state\.0\.exp_avg is missing"):
        unpack_optimizer(fresh, {k: v for k, v in tensors.items() if k != "state.0.exp_avg"}, meta)
    with pytest.raises(CheckpointError, match="shape"):
        unpack_optimizer(fresh, {**tensors, "state.1.exp_avg": torch.zeros(9)}, meta)
    with pytest.raises(CheckpointError, match="incomplete"):
        unpack_optimizer(fresh, tensors, {"class": "AdamW"})
    assert not fresh.state_dict()["state"]
    optimizer.state[next(model.parameters())]["odd"] = object()
    with pytest.raises(CheckpointError, match="odd is a object"):
        pack_optimizer(optimizer)
