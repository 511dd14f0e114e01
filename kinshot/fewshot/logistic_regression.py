"""Multinomial logistic regression for many episodes at once: L2 penalty on the weights, none on the intercepts.

The method is L-BFGS (Nocedal, 1980, Math. Comp. 35) in float64. Its first guess of the inverse Hessian is the inverse of a
bound on the Hessian, one matrix for all ways, renewed every few steps, so that the scale of the features does not matter.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from kinshot.core.errors import DataError

_MEMORY = 10  # pairs of steps and gradient changes kept
_HALVINGS = 30
_RENEWAL = 5  # steps between bounds on the Hessian
_ENOUGH = 16  # rows for each feature that a bound on the Hessian is made of, where there are more
_TOLERANCE = 1e-10


@dataclass(frozen=True)
class _Problem:
    """f(theta) = sum penalty * theta^2 / 2 + sum_i cost_i * CE(x_i theta, y_i), for each episode.

    Args:
        x: features with a column of ones, (E, N, D+1).
        hot: indicators of the labels, (E, N, W).
        cost: weight of each row's cross-entropy, (E, N, 1).
        penalty: of each row of theta, (D+1, 1), 0 for the intercept.
    """

    x: Tensor
    hot: Tensor
    cost: Tensor
    penalty: Tensor

    def value(self, theta: Tensor, logits: Tensor) -> Tensor:
        """f, (E,)."""
        entropy = logits.logsumexp(-1, keepdim=True) - (logits * self.hot).sum(-1, keepdim=True)
        return 0.5 * (self.penalty * theta.square()).sum((1, 2)) + (self.cost * entropy).sum((1, 2))

    def gradient(self, theta: Tensor, logits: Tensor) -> Tensor:
        """Gradient of f, (E, D+1, W)."""
        return self.x.mT @ (self.cost * (logits.softmax(-1) - self.hot)) + self.penalty * theta

    def inverse_bound(self, logits: Tensor) -> Tensor:
        """Inverse of an upper bound of the Hessian at these logits, the same for every way: (E, D+1, D+1).

        Of many rows every so manieth stands for those beside it: this is where steps are sought, and no part of the minimum.
        """
        # the trace of diag(p) - p p^T bounds its largest eigenvalue; the floor keeps rows that are certain in the matrix
        apart = max(1, self.x.shape[1] // (_ENOUGH * self.x.shape[2]))
        weight = self.cost * (1 - logits.softmax(-1).square().sum(-1, keepdim=True)).clamp_min(1e-8)
        x = self.x[:, ::apart]
        bound = x.mT @ (weight[:, ::apart] * apart * x)
        diagonal = bound.diagonal(dim1=-2, dim2=-1)
        if apart > 1:
            # a feature that few rows have is hardly in those: its size is taken from all rows, or its steps would be far too long
            whole = (self.x.square().mT @ weight).squeeze(-1)
            diagonal.copy_(torch.maximum(diagonal, whole))
        diagonal.mul_(1 + 1e-9).add_(self.penalty.squeeze(1))
        return torch.cholesky_inverse(torch.linalg.cholesky(bound))


@dataclass
class _Memory:
    """The latest pairs (step, gradient change), and the product of direction finding with them."""

    inverse_bound: Tensor
    pairs: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)
    scale: Tensor | float = 1.0

    def add(self, step: Tensor, change: Tensor) -> None:
        """Remember a pair; one without curvature (an episode that is done) is given no weight."""
        curvature = _dot(step, change)
        useful = curvature > 1e-300
        weight = torch.where(useful, 1 / torch.where(useful, curvature, 1), 0)
        length = _dot(change, self.inverse_bound @ change)
        self.scale = torch.where(useful, curvature / torch.where(useful, length, 1), 1)
        self.pairs = [*self.pairs[1 - _MEMORY :], (step, change, weight)]

    def direction(self, gradient: Tensor) -> Tensor:
        """Minus the approximate inverse Hessian times the gradient."""
        q, factors = gradient, []
        for step, change, weight in reversed(self.pairs):
            factor = weight * _dot(step, q)
            q = q - factor * change
            factors.append(factor)
        r = self.scale * (self.inverse_bound @ q)
        for (step, change, weight), factor in zip(self.pairs, reversed(factors), strict=True):
            r = r + (factor - weight * _dot(change, r)) * step
        return -r


def fit_logistic(
    x: Tensor,
    hot: Tensor,
    C: float,
    *,
    max_iter: int,
    weights: Tensor | None = None,
    tolerance: float = _TOLERANCE,
    start: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """The minimum of 1/2 ||W||^2 + C * sum_i weight_i * CE(W^T x_i + b, y_i) of every episode.

    For two ways it is the minimum of the regression with one weight vector and a sigmoid, written as two: scikit-learn's
    `LogisticRegression(C=C)` in either case.

    Args:
        x: features (E, N, D), float64.
        hot: indicators of the labels (E, N, W), float64.
        C: inverse of the penalty's strength, positive.
        max_iter: most iterations.
        weights: weight of each row, at least 0, (E, N); None is 1 for all.
        tolerance: largest entry of the gradient at the end, as a share of that at weights of 0, or of 1 where that is more.
        start: weights and intercepts to begin at, those of another C for example; None begins at 0.

    Returns:
        Weights W (E, D, W) and intercepts b (E, W).

    Raises:
        DataError: an episode did not converge in `max_iter` iterations.
    """
    basis = None
    if x.shape[1] < x.shape[2]:
        # the optimum lies in the span of the rows: solve in coordinates there, exact and far smaller
        basis, triangle = torch.linalg.qr(x.mT)
        x = triangle.mT
    ones = x.new_ones(*x.shape[:2], 1)
    cost = C * (ones if weights is None else weights.unsqueeze(-1))
    penalty = x.new_ones(x.shape[2] + 1, 1)
    if hot.shape[-1] == 2:
        penalty = 2 * penalty  # weights w/2 and -w/2 have half the squared norm of w
    penalty[-1] = 0
    theta = x.new_zeros(len(x), x.shape[2] + 1, hot.shape[2])
    if start is not None:
        theta = torch.cat([start[0] if basis is None else basis.mT @ start[0], start[1].unsqueeze(1)], 1)
    theta = _minimise(_Problem(torch.cat([x, ones], -1), hot, cost, penalty), theta, C, max_iter, tolerance)
    found = theta[:, :-1]
    return (found if basis is None else basis @ found), theta[:, -1]


def _minimise(problem: _Problem, theta: Tensor, C: float, max_iter: int, tolerance: float) -> Tensor:
    logits = problem.x @ theta
    value, gradient = problem.value(theta, logits), problem.gradient(theta, logits)
    flat = problem.gradient(torch.zeros_like(theta), torch.zeros_like(logits)) if bool(theta.any()) else gradient
    goal = tolerance * flat.abs().amax((1, 2)).clamp_min(1)
    memory = _Memory(problem.inverse_bound(logits))
    for iteration in range(max_iter):
        active = gradient.abs().amax((1, 2)) > goal
        if not bool(active.any()):
            return theta
        if iteration % _RENEWAL == _RENEWAL - 1:
            memory.inverse_bound = problem.inverse_bound(logits)
        # an episode that is done stands still, so that its result does not depend on the others
        direction = torch.where(active.view(-1, 1, 1), memory.direction(gradient), 0)
        move, moved_logits, value = _search(problem, theta, logits, value, gradient, direction)
        theta, logits = theta + move, moved_logits
        new = problem.gradient(theta, logits)
        memory.add(move, new - gradient)
        gradient = new
    if bool((gradient.abs().amax((1, 2)) > goal).any()):
        raise DataError(
            f"head logistic: a fit did not converge in max_iter={max_iter} iterations (C={C}): use transform=l2n, lower C or raise max_iter"
        )
    return theta


def _search(
    problem: _Problem, theta: Tensor, logits: Tensor, value: Tensor, gradient: Tensor, direction: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """A step along `direction` that decreases f enough: (step, logits after it, f after it)."""
    change = problem.x @ direction
    slope = _dot(gradient, direction).flatten()
    slack = 1e-13 * value.abs()  # near the minimum the decrease drowns in rounding
    length = torch.ones_like(value)
    for _ in range(_HALVINGS):
        sized = length.view(-1, 1, 1)
        after = problem.value(theta + sized * direction, logits + sized * change)
        short = after > value + 1e-4 * length * slope + slack
        if not bool(short.any()):
            break
        length = torch.where(short, 0.5 * length, length)
    return sized * direction, logits + sized * change, after


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum((1, 2), keepdim=True)
