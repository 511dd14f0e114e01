"""Adam on classifier rows, all episodes at once, with gradients by hand.

An episode's rows are its own parameters and Adam works element by element, so a batch of episodes takes the same steps
as each episode alone. Adam depends on the axes it works along: the rows must stay in feature coordinates (a Gram matrix
of the features would give another trajectory).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from kinshot.fewshot.transforms import cosine, squared_distance, unit

Slope = Callable[[Tensor, Tensor], Tensor]
"""(logits, their softmax over the ways), both (E, W, N) -> derivative of the loss in the logits, (E, W, N).

The softmax may be overwritten. The logits lack terms that are the same for all ways: use them through differences only.
"""

_EPS = 1e-12  # smallest length that is divided by


class Adam:
    """Adam (Kingma, Ba, 2015, arXiv 1412.6980) on tensors that it changes in place.

    Args:
        parameters: what is moved.
        lr: learning rate.
    """

    beta1, beta2, eps = 0.9, 0.999, 1e-8

    def __init__(self, *parameters: Tensor, lr: float) -> None:
        self.parameters = parameters
        self.lr = lr
        self.steps = 0
        self._moments = [(torch.zeros_like(p), torch.zeros_like(p), torch.empty_like(p)) for p in parameters]

    def step(self, *gradients: Tensor) -> None:
        """One step against the gradients, given in the order of the parameters."""
        self.steps += 1
        # both bias corrections move into two scalars, so that no pass over the tensors is spent on them
        root = (1 - self.beta2**self.steps) ** 0.5
        rate = self.lr * root / (1 - self.beta1**self.steps)
        for parameter, gradient, (first, second, scratch) in zip(self.parameters, gradients, self._moments, strict=True):
            first.lerp_(gradient, 1 - self.beta1)
            second.mul_(self.beta2).addcmul_(gradient, gradient, value=1 - self.beta2)
            torch.sqrt(second, out=scratch).add_(self.eps * root)
            parameter.addcdiv_(first, scratch, value=-rate)


@torch.no_grad()
def fit_rows(start: Tensor, rows: Tensor, slope: Slope, *, distance: str, temperature: float, steps: int, lr: float) -> Tensor:
    """Classifier rows after `steps` steps of Adam on the loss that `slope` is the derivative of.

    Logits of features z and classifier rows w: temperature * cos(z, w) (`cosine`), -temperature / 2 * ||z - w||^2 (`squared`) or
    -temperature * ||z - w|| (`euclidean`).

    Args:
        start: initial classifier rows, (E, W, D); left as they are.
        rows: every feature that the loss looks at, (E, N, D).
        slope: derivative of the loss in the logits.
        distance: `cosine`, `squared` or `euclidean`.
        temperature: factor on the logits.
        steps: how many; 0 returns a copy of `start`.
        lr: learning rate.

    Returns:
        (E, W, D).
    """
    weight = start.clone()
    adam = Adam(weight, lr=lr)
    gradient_of = {"cosine": _cosine_gradient, "squared": _squared_gradient, "euclidean": _euclidean_gradient}[distance]
    if distance == "cosine":
        rows = unit(rows)
    for _ in range(steps):
        adam.step(gradient_of(weight, rows, slope, temperature))
    return weight


def row_scores(weight: Tensor, query: Tensor, distance: str, temperature: float) -> Tensor:
    """The logits of `fit_rows` for queries (E, Q, D), complete; (E, Q, W)."""
    if distance == "cosine":
        return temperature * cosine(query, weight)
    if distance == "euclidean":
        return -temperature * squared_distance(query, weight).sqrt()
    return -temperature / 2 * squared_distance(query, weight)


def euclidean_pull(weight: Tensor, rows: Tensor, slope: Slope, temperature: float) -> Tensor:
    """How hard each feature draws each row, (E, W, N): the loss has the derivative sum over n of pull (z_n - w) in a row w.

    A row that lies on a feature, up to rounding, has no direction from it and is not drawn: so says autograd of a norm of 0, too.
    """
    square = squared_distance(weight, rows)
    size = weight.square().sum(-1).unsqueeze(-1) + rows.square().sum(-1).unsqueeze(-2)
    apart = square > 8 * torch.finfo(rows.dtype).eps * size
    length = torch.where(apart, square, 1.0).sqrt()
    logits = torch.where(apart, length, 0.0).mul_(-temperature)
    return torch.where(apart, slope(logits, logits.softmax(1)) * (temperature / length), 0.0)


def _euclidean_gradient(weight: Tensor, rows: Tensor, slope: Slope, temperature: float) -> Tensor:
    pull = euclidean_pull(weight, rows, slope, temperature)
    return pull @ rows - weight * pull.sum(-1, keepdim=True)


def _squared_gradient(weight: Tensor, rows: Tensor, slope: Slope, temperature: float) -> Tensor:
    # ||z||^2 is the same for every way and drops out of the softmax
    norms = weight.square().sum(-1, keepdim=True)
    logits = torch.baddbmm(norms, weight, rows.mT, beta=-temperature / 2, alpha=temperature)
    change = slope(logits, logits.softmax(1))
    pull = weight * change.sum(-1, keepdim=True)
    return torch.baddbmm(pull, change, rows, beta=-temperature, alpha=temperature)


def _cosine_gradient(weight: Tensor, rows: Tensor, slope: Slope, temperature: float) -> Tensor:
    norms = torch.linalg.vector_norm(weight, dim=-1, keepdim=True).clamp_min(_EPS)
    direction = weight / norms
    logits = (direction @ rows.mT).mul_(temperature)
    gradient = slope(logits, logits.softmax(1)) @ rows
    along = (direction * gradient).sum(-1, keepdim=True)
    return gradient.addcmul_(direction, along, value=-1).mul_(temperature / norms)
