"""Fine-tuning a whole network after imprinting: encoder, rows and scale together; `imprinting.fine_tune_rows` leaves the encoder alone."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from kinshot.core.errors import ConfigError, DataError, DivergedError
from kinshot.encoders.build import keyed_initialisation
from kinshot.encoders.cosine_rows import CosineRows
from kinshot.fewshot.imprinting import balanced_draws
from kinshot.fewshot.transforms import unit
from kinshot.learn.optim import decay_groups

Inputs = Callable[[Tensor, int], Tensor]
"""(positions int64 (B,), step) -> what the encoder takes of these images, (B, ...), on its device; views of them, for example."""


class TunedNetwork(NamedTuple):
    """A tuned copy of the encoder in evaluation mode, the tuned classifier, and the loss before each step."""

    encoder: nn.Module
    classifier: CosineRows
    losses: list[float]


def fine_tune_network(
    encoder: nn.Module,
    weight: Tensor,
    scale: float,
    images: Tensor | Inputs,
    labels: Tensor,
    *,
    steps: int,
    lr: float = 1e-3,
    momentum: float = 0.9,
    weight_decay: float = 1e-4,
    batch: int = 64,
    train_scale: bool = True,
    batch_norm: Literal["batch", "frozen"] = "batch",
    seed: int = 0,
) -> TunedNetwork:
    """A copy of an encoder and its cosine classifier, all parameters trained on images of base and novel classes.

    SGD on CE(scale * <u(w), u(f(x))>, y). Each of a step's draws takes a class uniformly among those that have images and then one of
    its images uniformly, so that novel classes weigh as much as base classes; draws depend on (seed, step). After each step the rows are
    brought back to unit length. What was given is never changed. With 0 steps the result is a copy of it.

    Paper: Qi, Brown, Lowe, 2018, arXiv 1712.07136
    Departures: the optimizer's constants are those of a re-implementation, at a constant learning rate; choose `steps` and `lr` on
    validation classes. Weight decay leaves out the rows, which the sphere holds, the scale, biases and norms.

    Args:
        encoder: prepared images (B, ...) to features (B, D).
        weight: (C, D), for example base rows with imprinted rows appended.
        scale: factor on the cosine, positive.
        images: prepared images (N, ...), or a function that gives them by position and step.
        labels: int64 (N,), rows of `weight` that are right.
        steps: at least 0.
        lr: learning rate, at least 0.
        momentum: of SGD, in [0, 1).
        weight_decay: at least 0.
        batch: draws in a step, at least 1, or 2 with the batch's statistics.
        train_scale: whether the scale is trained, too.
        batch_norm: `batch` trains in training mode, which updates running statistics; `frozen` in evaluation mode, which uses them as
            they are, and leaves out dropout.
        seed: key of the draws.

    Raises:
        ConfigError: a number out of its range.
        DataError: shapes that do not fit together, a label that is no row, or a scale that the steps made negative.
        DivergedError: a loss that is not finite.
    """
    _check_settings(scale, steps, lr, momentum, weight_decay, batch, batch_norm)
    _check_images(weight, images, labels)
    inputs = _by_position(images) if isinstance(images, Tensor) else images
    tuned = copy.deepcopy(encoder).requires_grad_(True)
    losses = []
    # whatever an encoder draws while it trains (dropout) is keyed, too, and the global state stays as it was
    with torch.enable_grad(), keyed_initialisation(seed, "network fine-tuning"):
        classifier = _classifier(weight, scale)
        optimizer = _optimizer(tuned, classifier, lr, momentum, weight_decay, train_scale)
        # frozen is evaluation mode as a whole: an encoder may fuse its norms into steps that ask for the mode of the whole
        tuned.train(batch_norm == "batch")
        for step in range(steps):
            drawn = balanced_draws(labels, batch, seed, step)
            logits = classifier(tuned(inputs(drawn, step)))
            loss = nn.functional.cross_entropy(logits, labels[drawn].to(logits.device))
            losses.append(_finite(loss, step, lr))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            _back_to_sphere(classifier, step)
    return TunedNetwork(tuned.eval(), classifier.eval().requires_grad_(False), losses)


def _classifier(weight: Tensor, scale: float) -> CosineRows:
    classifier = CosineRows(weight.shape[1], len(weight), scale).to(weight.device)
    classifier.load_state_dict({"weight": weight.detach().float(), "scale": torch.tensor(float(scale))})
    return classifier


def _optimizer(
    encoder: nn.Module, classifier: CosineRows, lr: float, momentum: float, weight_decay: float, train_scale: bool
) -> torch.optim.Optimizer:
    own = [classifier.weight, *[classifier.scale] * train_scale]
    return torch.optim.SGD([*decay_groups(encoder, weight_decay), {"params": own, "weight_decay": 0.0}], lr=lr, momentum=momentum)


@torch.no_grad()
def _back_to_sphere(classifier: CosineRows, step: int) -> None:
    classifier.weight.copy_(unit(classifier.weight))
    if float(classifier.scale) <= 0:
        raise DataError(f"fine-tuning drove the scale to {float(classifier.scale)} in step {step}: lower lr or set train_scale=False")


def _finite(loss: Tensor, step: int, lr: float) -> float:
    value = float(loss.detach())
    if not torch.isfinite(loss):
        raise DivergedError(f"fine-tuning the network: the loss is {value} at step {step} with lr={lr}: lower lr")
    return value


def _by_position(images: Tensor) -> Inputs:
    return lambda positions, step: images[positions.to(images.device)]


def _check_settings(scale: float, steps: int, lr: float, momentum: float, weight_decay: float, batch: int, batch_norm: str) -> None:
    if batch_norm not in ("batch", "frozen"):
        raise ConfigError(f"fine-tuning the network: batch_norm must be batch or frozen, got {batch_norm!r}")
    least = 2 if batch_norm == "batch" else 1
    if scale <= 0 or steps < 0 or lr < 0 or weight_decay < 0 or batch < least or not 0 <= momentum < 1:
        raise ConfigError(
            f"fine-tuning the network: scale must be positive, steps, lr and weight_decay at least 0, batch at least {least}, momentum in "
            f"[0, 1), got scale={scale}, steps={steps}, lr={lr}, weight_decay={weight_decay}, batch={batch}, momentum={momentum}"
        )


def _check_images(weight: Tensor, images: Tensor | Inputs, labels: Tensor) -> None:
    if weight.ndim != 2 or not len(weight):
        raise DataError(f"fine-tuning the network needs weight (C, D) with C >= 1, got {tuple(weight.shape)}")
    if labels.ndim != 1 or labels.dtype != torch.int64 or not len(labels):
        raise DataError(f"fine-tuning the network needs int64 labels (N,) with N >= 1, got {labels.dtype} {tuple(labels.shape)}")
    if isinstance(images, Tensor) and len(images) != len(labels):
        raise DataError(f"fine-tuning the network needs one label per image, got {len(labels)} labels for {len(images)} images")
    if int(labels.min()) < 0 or int(labels.max()) >= len(weight):
        raise DataError(f"labels must lie in 0..{len(weight) - 1}, got {int(labels.min())}..{int(labels.max())}")
