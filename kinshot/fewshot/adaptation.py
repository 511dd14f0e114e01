"""A whole network adapted to every task by gradient descent on its support set, while training (MAML) and at test time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm

from kinshot.core.errors import ConfigError, DataError
from kinshot.fewshot.inner_loop import Parameters, descend, over_tasks

Statistics = Literal["batch", "running"]
Logits = Callable[[Parameters, Tensor], Tensor]
"""(parameters, samples (B, ...)) -> (B, W)."""

_ENCODER, _HEAD = "encoder.", "network."


@dataclass(frozen=True)
class Adaptation:
    """How a network is adapted to a task.

    Args:
        steps: steps of gradient descent, at least 0.
        lr: their size, above 0.
        first_order: take the steps' gradients for constants when training.
        statistics: what batch normalisation normalises by, in the steps and for the queries: the statistics of the very set that is
            passed (`batch`: the support set, then the query set), or the running ones.

    Raises:
        ConfigError: a number out of range.
    """

    steps: int = 5
    lr: float = 0.01
    first_order: bool = False
    statistics: Statistics = "batch"

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise ConfigError(f"inner_steps must be at least 0, got {self.steps}: 5 is usual")
        if not self.lr > 0:
            raise ConfigError(f"inner_lr must be positive, got {self.lr}: 0.01 is usual")


def maml_scores(
    encoder: nn.Module,
    network: Mapping[str, Tensor],
    support: Tensor,
    labels: Tensor,
    query: Tensor,
    ways: int,
    how: Adaptation,
    *,
    at_once: bool | None = None,
) -> Tensor:
    """Query scores after the encoder and its linear head were adapted to each episode's support set.

    With gradients enabled it can be differentiated in the weights of both; under `torch.no_grad` it is the evaluation of MAML.
    Neither module is changed. Computes in the precision of its inputs, autocast or not.

    With `statistics="batch"` (the paper's code, learn2learn) the queries of an episode are normalised by their own statistics: they
    see each other, which makes the scores transductive, and on balanced episodes better than those of queries that come alone.

    Paper: Finn, Abbeel, Levine, 2017, arXiv 1703.03400 (MAML)

    Args:
        encoder: samples to features (B, D); all its parameters are adapted.
        network: the head's start, `weight` (W, D) and `bias` (W,).
        support: normalised samples (E, S, ...).
        labels: int64 (E, S), ways 0..W-1.
        query: normalised samples (E, Q, ...).
        ways: W.
        how: steps, their size, and what batch normalisation does.
        at_once: all episodes in one pass, which second derivatives do not allow (see `over_tasks`). None does so where it can on
            an accelerator, where starting many small operations costs more than they do; on a CPU one after another is faster.

    Returns:
        Logits (E, Q, W).

    Raises:
        ConfigError: a head trained for another number of ways, or `at_once` where second derivatives are wanted.
        DataError: a head without weight or bias.
    """
    weight, bias = head_start(network, ways)
    parameters: Parameters = {_ENCODER + name: value for name, value in encoder.named_parameters()}
    parameters |= {_HEAD + "weight": weight, _HEAD + "bias": bias}
    once_is_enough = how.first_order or how.steps == 0 or not torch.is_grad_enabled()
    if at_once is None:
        at_once = once_is_enough and support.device.type != "cpu"
    if at_once and not once_is_enough:
        raise ConfigError("at_once: second derivatives cannot be batched over tasks: leave it out, or take first_order or torch.no_grad()")
    with _adaptable(encoder, how.statistics), torch.autocast(support.device.type, enabled=False):
        return over_tasks(partial(_task_scores, _functional(encoder), parameters, how), support, labels, query, at_once=at_once)


def head_start(network: Mapping[str, Tensor], ways: int) -> tuple[Tensor, Tensor]:
    """Trained initial weight (W, D) and bias (W,) of a linear head.

    Raises:
        ConfigError: trained for another number of ways.
        DataError: one is missing, there is something else, or the shapes do not belong together.
    """
    if set(network) != {"weight", "bias"}:
        raise DataError(f"the head's start has {', '.join(sorted(network)) or 'nothing'}: give weight (W, D) and bias (W,)")
    weight, bias = network["weight"], network["bias"]
    if weight.ndim != 2 or bias.shape != weight.shape[:1]:
        raise DataError(f"the head's start has weight {tuple(weight.shape)} and bias {tuple(bias.shape)}: give (W, D) and (W,)")
    if len(weight) != ways:
        raise ConfigError(
            f"the head's start was trained for {len(weight)} ways, the episodes have {ways}: evaluate {len(weight)}-way episodes "
            f"or train with method.ways={ways}"
        )
    return weight, bias


def _task_scores(logits: Logits, parameters: Parameters, how: Adaptation, support: Tensor, labels: Tensor, query: Tensor) -> Tensor:
    """Logits (Q, W) of one episode."""

    def support_loss(current: Parameters) -> Tensor:
        return F.cross_entropy(logits(current, support), labels)

    adapted = descend(support_loss, parameters, steps=how.steps, lr=how.lr, first_order=how.first_order)
    return logits(adapted, query)


def _functional(encoder: nn.Module) -> Logits:
    """Encoder and linear head as a function of their parameters.

    Every parameter of every module is named once: `functional_call` by itself would tie parameters that modules share, but puts a
    wrong one back into a module that is reached by two names.
    """
    names = {id(value): name for name, value in encoder.named_parameters()}
    places = {
        f"{path}.{name}".removeprefix("."): names[id(value)]
        for path, module in encoder.named_modules()
        for name, value in module.named_parameters(recurse=False)
    }

    def logits(parameters: Parameters, samples: Tensor) -> Tensor:
        own = {place: parameters[_ENCODER + name] for place, name in places.items()}
        features = functional_call(encoder, own, (samples,), tie_weights=False)
        return F.linear(features, parameters[_HEAD + "weight"], parameters[_HEAD + "bias"])

    return logits


@contextmanager
def _adaptable(encoder: nn.Module, statistics: Statistics) -> Iterator[None]:
    """Meanwhile the encoder can be differentiated twice and batched over tasks, and normalises as told."""
    with sdpa_kernel(SDPBackend.MATH), unfused(encoder), normalised_by(encoder, statistics):
        yield  # the fast kernels of attention have a first derivative only


@contextmanager
def unfused(encoder: nn.Module) -> Iterator[None]:
    """Meanwhile blocks with a fused step, which has a first derivative only, compose their modules instead."""
    blocks = [module for module in encoder.modules() if getattr(module, "fused", False) is True]
    for block in blocks:
        block.fused = False  # type: ignore[assignment]
    try:
        yield
    finally:
        for block in blocks:
            block.fused = True  # type: ignore[assignment]


@contextmanager
def normalised_by(encoder: nn.Module, statistics: Statistics) -> Iterator[None]:
    """Meanwhile batch normalisation uses the statistics named, and leaves the running ones as they are.

    Steps on copies of a network, some of them never kept, would otherwise move the running statistics towards none of them;
    and an update in place cannot be batched over tasks.
    """
    norms = [module for module in encoder.modules() if isinstance(module, _BatchNorm)]
    before = [(norm.training, norm.track_running_stats) for norm in norms]
    for norm in norms:
        norm.training, norm.track_running_stats = statistics == "batch", norm.track_running_stats and statistics == "running"
    try:
        yield
    finally:
        for norm, (training, track) in zip(norms, before, strict=True):
            norm.training, norm.track_running_stats = training, track


@torch.no_grad()
def follow_statistics(encoder: nn.Module, samples: Tensor) -> None:
    """Move the running statistics of batch normalisation, if there are any, by one pass of all samples in training mode."""
    if any(isinstance(module, _BatchNorm) and module.track_running_stats for module in encoder.modules()):
        encoder(samples)
