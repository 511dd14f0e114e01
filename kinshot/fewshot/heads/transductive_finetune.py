"""Transductive fine-tuning: class rows that agree with the support labels and is sure of the queries."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from kinshot.fewshot import HEADS
from kinshot.fewshot.checks import not_negative, positive
from kinshot.fewshot.descent import Adam, Slope, euclidean_pull, fit_rows, row_scores
from kinshot.fewshot.heads.tim import slope_of_information
from kinshot.fewshot.transforms import class_means, one_hot, unit
from kinshot.fewshot.transforms import transform as transformed


@HEADS.register("transductive_finetune", scores="logits")
def transductive_finetune(
    support: Tensor,
    labels: Tensor,
    query: Tensor,
    ways: int,
    *,
    distance: Literal["euclidean", "cosine"] = "euclidean",
    steps: int = 10,
    lr: float = 1e-4,
    entropy: float = 1.0,
    temperature: float = 10.0,
    affine: bool = False,
    transform: Literal["none", "l2n", "cl2n"] = "l2n",
    base_mean: Tensor | None = None,
) -> Tensor:
    """Class rows fitted to the support labels and to low query entropy (Dhillon's baseline); transductive.

    Rows w start at the class means (support-based initialisation) and take `steps` steps of Adam on
    CE(support) + entropy * mean_q H(P_q), P the softmax of -temperature * ||z - w|| or temperature * cos(z, w). With
    `affine` the features move as well: z becomes a z + b with one a and one b for each dimension, from 1 and 0. Scores are the logits.

    Paper: Dhillon, Chaudhari, Ravichandran, Soatto, 2020, arXiv 1909.02729
    Departures: the paper fine-tunes the whole network (25 epochs, learning rate 5e-5) on its logits; this head sees
    cached features, so it moves the classifier and at most their scale and offset. The paper's classifier is the cosine one.
    Defaults: easyfsl's TransductiveFinetuning as its benchmark runs it.

    Args:
        support: (E, S, D) support features, rows in any order.
        labels: int64 (E, S), ways 0..W-1; a row with -1 is ignored.
        query: (E, Q, D) query features.
        ways: W.
        distance: what the logits are, plain distances (easyfsl) or cosines (the paper).
        steps: steps of Adam; 0 scores by the class means.
        lr: learning rate.
        entropy: weight of the queries' mean entropy.
        temperature: factor on the distance or the cosine.
        affine: also fit a scale and an offset for each dimension of the features.
        transform: what is done to every feature first; cl2n needs the base classes.
        base_mean: mean base feature (D,), for `cl2n`.

    Returns:
        Logits (E, Q, W).

    Raises:
        ConfigError: a number below its minimum, or `cl2n` without `base_mean`.
        DataError: a way without support.

    >>> support = torch.tensor([[[1.0, 0.0], [0.8, 0.2], [0.1, 0.9]]])  # one episode of three images, two features each
    >>> labels, query = torch.tensor([[0, 0, 1]]), torch.tensor([[[0.9, 0.3], [0.2, 0.7]]])
    >>> kinshot.heads.transductive_finetune(support, labels, query, ways=2).argmax(-1)
    tensor([[0, 1]])
    """
    positive("transductive_finetune", temperature=temperature, lr=lr)
    not_negative("transductive_finetune", steps=steps, entropy=entropy)
    support, query = transformed(support, transform, base_mean), transformed(query, transform, base_mean)
    slope = slope_of_information(one_hot(labels, ways, support).mT, 1.0, 0.0, entropy)
    weight, rows = class_means(support, labels, ways), torch.cat([support, query], dim=1)
    if affine:
        weight, scale, offset = _fit_affine(weight, rows, slope, distance, temperature, steps, lr)
        query = query * scale + offset
    else:
        weight = fit_rows(weight, rows, slope, distance=distance, temperature=temperature, steps=steps, lr=lr)
    return row_scores(weight, query, distance, temperature)


@torch.no_grad()
def _fit_affine(
    start: Tensor, rows: Tensor, slope: Slope, distance: str, temperature: float, steps: int, lr: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Classifier rows (E, W, D), scale and offset (E, 1, D) after the descent."""
    weight = start.clone()
    scale, offset = torch.ones_like(rows[:, :1]), torch.zeros_like(rows[:, :1])
    adam = Adam(weight, scale, offset, lr=lr)
    for _ in range(steps):
        to_weight, to_rows = _gradients(weight, rows * scale + offset, slope, distance, temperature)
        adam.step(to_weight, (to_rows * rows).sum(1, keepdim=True), to_rows.sum(1, keepdim=True))
    return weight, scale, offset


def _gradients(weight: Tensor, moved: Tensor, slope: Slope, distance: str, temperature: float) -> tuple[Tensor, Tensor]:
    """Derivatives of the loss in the classifier rows and in the features."""
    if distance == "euclidean":
        pull = euclidean_pull(weight, moved, slope, temperature)
        return pull @ moved - weight * pull.sum(-1, keepdim=True), pull.mT @ weight - moved * pull.sum(1).unsqueeze(-1)
    direction, w = unit(moved), unit(weight)
    logits = (w @ direction.mT).mul_(temperature)
    change = slope(logits, logits.softmax(1)).mul_(temperature)
    return _through_unit(change @ direction, weight, w), _through_unit(change.mT @ w, moved, direction)


def _through_unit(gradient: Tensor, z: Tensor, direction: Tensor) -> Tensor:
    """The derivative in z, given that in u(z) = `direction`."""
    along = (direction * gradient).sum(-1, keepdim=True)
    return (gradient - direction * along) / torch.linalg.vector_norm(z, dim=-1, keepdim=True).clamp_min(1e-12)
