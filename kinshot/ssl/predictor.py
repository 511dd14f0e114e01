"""What methods of two views share: the predictor behind one of two networks, and what it is judged by."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.encoders.build import keyed_initialisation
from kinshot.encoders.momentum import KeyNetwork
from kinshot.encoders.projector import mlp_projector
from kinshot.encoders.queue import embedding_dim
from kinshot.learn.method import Method
from kinshot.learn.model import Model
from kinshot.objectives.common import full_precision, unit


def predictor_of(model: Model, context: RunContext, hidden: int, *, share: int = 1) -> nn.Module:
    """A perceptron of two layers from a model's projection to itself, its weights keyed by the run's seed.

    Args:
        model: whose projection is predicted.
        context: of the run.
        hidden: width of the inner layer; 0 is the projection's width over `share`.
        share: see `hidden`.

    Raises:
        ConfigError: a negative width.
    """
    if hidden < 0:
        raise ConfigError(f"hidden is the width of the predictor's inner layer, 0 for one that follows from the projection, got {hidden}")
    dim = embedding_dim(model.encoder, model.projector if model.projector is not None else nn.Identity())
    with keyed_initialisation(context.seed, "init predictor"):
        return mlp_projector(dim, hidden or max(1, dim // share), dim, 2, last_norm=False)


def toward(prediction: Tensor, target: Tensor) -> Tensor:
    """Minus the mean cosine of rows (B, D) and of what they should point at."""
    with full_precision(prediction):
        return -F.cosine_similarity(prediction.float(), target.float(), dim=1).mean()


def told_apart(rows: Tensor, references: Tensor, temperature: float) -> Tensor:
    """Mean InfoNCE of rows (B, D), each of whose kin is the reference of its place, against the other references (B, D) of the batch."""
    with full_precision(rows):
        logits = unit(rows.float()) @ unit(references.float()).T / temperature
        return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))


def slow_copies(method: Method, context: RunContext, key_momentum: float) -> KeyNetwork:
    """Copies of a method's encoder and projector that follow them. Raises ConfigError for a momentum outside [0, 1]."""
    networks = method.encoder, [method.projector]
    return KeyNetwork(*networks, momentum=key_momentum, splits=1, batch_size=context.batch_size, seed=context.seed)


def rising_momentum(start: float, step: int, total_steps: int) -> float:
    """The share of a key network that stays in a step, from `start` to 1 along half a cosine.

    Paper: Grill et al. 2020, arXiv 2006.07733.
    """
    return 1 - (1 - start) * (math.cos(math.pi * step / max(1, total_steps)) + 1) / 2
