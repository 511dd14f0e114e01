"""Optimizers with weight-decay groups, the learning rate as a pure function of the step, and averaged weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kinshot.core.errors import ConfigError

SCALE = "lr_scale"
"""Share of the learning rate that a group takes; groups without it take all of it. Modules say theirs in an attribute of this name."""


def decay_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups: weights of two or more dimensions decay; biases and normalisation parameters do not.

    What takes another share of the learning rate than 1, as a module above it says by its `lr_scale`, stands in groups of its own.
    A module without a weight to train has no group.
    """
    scales = _scales(module)
    trainable = [p for p in module.parameters() if p.requires_grad]
    found = []
    for scale in sorted({scales.get(id(p), 1.0) for p in trainable}, reverse=True):
        own = [p for p in trainable if scales.get(id(p), 1.0) == scale]
        share = {} if scale == 1 else {SCALE: scale}
        found += [
            {"params": [p for p in own if p.ndim >= 2], "weight_decay": weight_decay, **share},
            {"params": [p for p in own if p.ndim < 2], "weight_decay": 0.0, **share},
        ]
    return [group for group in found if group["params"]]


def _scales(module: nn.Module) -> dict[int, float]:
    """Share of the learning rate by parameter; of nested modules the innermost that says one counts."""
    found: dict[int, float] = {}
    for part in module.modules():  # outer ones first
        scale = getattr(part, SCALE, None)
        if isinstance(scale, int | float):
            found.update({id(p): float(scale) for p in part.parameters()})
    return found


def build_optimizer(name: str, module: nn.Module, *, lr: float, weight_decay: float, momentum: float) -> torch.optim.Optimizer:
    """`adamw`, `sgd` (Nesterov-free momentum) or `lars` (lightly's implementation) over `decay_groups`.

    Raises:
        ConfigError: a module without a weight to train.
    """
    groups = decay_groups(module, weight_decay)
    if not groups:
        raise ConfigError("nothing is left to train, every weight is frozen: take parts out of train.freeze, or take a method with a head")
    if name == "adamw":
        return torch.optim.AdamW(groups, lr=lr)
    if name == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=momentum)
    from lightly.utils.lars import LARS

    return LARS(groups, lr=lr, momentum=momentum)


def lr_factor(step: int, total: int, *, schedule: str, warmup: float, final: float) -> float:
    """Share of the peak learning rate at a 0-based step: linear warm-up, then cosine towards `final`, or constant.

    The warm-up takes `warmup * total` steps, rounded up, and its last one has the peak. The cosine would reach `final` after the last
    step, as PyTorch's CosineAnnealingLR does: the last step itself still has a little more.
    """
    rise = math.ceil(round(warmup * total, 6))  # 0.07 * 100 is 7, not the 7.000000000000001 of floats
    if step < rise:
        return (step + 1) / rise
    if schedule == "constant":
        return 1.0
    along = (step - rise) / max(1, total - rise)
    return final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * along))


def extended_factor(step: int, *, parts: Sequence[int], restart: bool, schedule: str, warmup: float, final: float) -> float:
    """`lr_factor` of a run that was extended: `parts` are the steps of the run and of each extension.

    Args:
        step: 0-based step of the whole run.
        parts: at least one.
        restart: each extension has a course of its own; else it is the end of one course from the first step to its last.
        schedule: see `lr_factor`.
        warmup: see `lr_factor`.
        final: see `lr_factor`.
    """
    begin, last = 0, len(parts) - 1
    while last and step >= begin + parts[0]:
        begin, parts, last = begin + parts[0], parts[1:], last - 1
    if restart or begin == 0:
        return lr_factor(step - begin, parts[0], schedule=schedule, warmup=warmup, final=final)
    return lr_factor(step, begin + parts[0], schedule=schedule, warmup=warmup, final=final)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every parameter group its share of the learning rate `lr`."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get(SCALE, 1.0)


class WeightAverage:
    """Exponential moving average of every floating-point tensor of a state; other tensors are copied.

    The decay ramps up as min(decay, (1 + t) / (10 + t)), so that a short run is not dominated by its first weights.
    """

    def __init__(self, state: Mapping[str, Tensor], decay: float) -> None:
        self.decay = decay
        self.state = {name: value.detach().clone() for name, value in state.items()}

    @torch.no_grad()
    def update(self, state: Mapping[str, Tensor], step: int) -> None:
        """Move towards the current weights after 0-based `step`."""
        decay = min(self.decay, (1 + step) / (10 + step))
        averaged: list[Tensor] = []
        current: list[Tensor] = []
        for name, value in state.items():
            if value.is_floating_point():
                averaged.append(self.state[name])
                current.append(value.detach())
            else:
                self.state[name].copy_(value)
        torch._foreach_lerp_(averaged, current, 1.0 - decay)

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Continue from saved averages. Those of tensors that are not averaged are left: checkpoints once held them for queues too."""
        for name, value in self.state.items():
            value.copy_(state[name])
