"""A few steps of gradient descent inside a loss, which can be differentiated themselves: on any parameters, and on a linear head.

Pure functions: nothing is changed in place, so that what was trained before the steps receives its gradient through them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import grad, vmap

Parameters = dict[str, Tensor]
Objective = Callable[..., Tensor]
"""(parameters, *data) -> scalar."""


def descend(objective: Objective, parameters: Parameters, *data: Tensor, steps: int, lr: float, first_order: bool = False) -> Parameters:
    """Parameters after `steps` steps of plain gradient descent on `objective(parameters, *data)`.

    The result is a differentiable function of the start, also under `torch.no_grad` outside and inside `vmap`.

    Paper: Finn, Abbeel, Levine, 2017, arXiv 1703.03400 (MAML)

    Args:
        objective: what the steps minimize.
        parameters: where they start; only these move.
        data: passed on to the objective.
        steps: how many; 0 returns the start.
        lr: step size.
        first_order: take the steps' gradients for constants, so that the derivative of the result in the start is 1.
    """
    slope = grad(objective)
    for _ in range(steps):
        if first_order:
            with torch.no_grad():  # of the graph that leads back to the start; `grad` makes one of its own
                gradient = slope(parameters, *data)
        else:
            gradient = slope(parameters, *data)
        parameters = {name: value - lr * gradient[name] for name, value in parameters.items()}
    return parameters


def over_tasks(function: Callable[..., Tensor], *data: Tensor, at_once: bool) -> Tensor:
    """`function` of every task's data, stacked.

    Differentiate the result of `at_once` only where `function` holds no derivative that depends on what it is differentiated in
    (no step, or steps of first order): when torch batches the backward pass of batch and layer normalisation it takes their
    statistics for constants, so that second derivatives come out wrong, without an error (pytorch/functorch issue 534, open).

    Args:
        function: what is done to one task.
        data: each with the tasks in front, (T, ...).
        at_once: all tasks in one pass (`vmap`), which needs a function without in-place updates of what the tasks share and
            without control flow that looks at values; otherwise one after another. Same values up to rounding.
    """
    if at_once:
        return vmap(function, randomness="different")(*data)
    return torch.stack([function(*task) for task in zip(*data, strict=True)])


def linear_scores(
    support: Tensor, hot: Tensor, query: Tensor, weight: Tensor, bias: Tensor, *, steps: int, lr: float, first_order: bool = False
) -> Tensor:
    """Query scores of a linear head after `steps` steps of gradient descent on the mean cross-entropy of each episode's support.

    All episodes start from one head. Its rows move within the span of the support, so the steps are taken on what each
    support image adds to each row, and no episode needs rows of its own; a bias is the weight of a feature that is always 1.
    Differentiable in everything but `hot`.

    Paper: Raghu, Raghu, Bengio, Vinyals, 2019, arXiv 1909.09157 (ANIL)

    Args:
        support: (E, S, D).
        hot: way of each support row as an indicator, (E, S, W), in the dtype of `support`.
        query: (E, Q, D).
        weight: where the rows start, (W, D).
        bias: where the biases start, (W,).
        steps: how many; 0 gives the scores of the start.
        lr: step size.
        first_order: take the steps' gradients for constants.

    Returns:
        Logits (E, Q, W).
    """
    scores = F.linear(query, weight, bias)
    if steps == 0:
        return scores
    if first_order:
        support, weight, bias = support.detach(), weight.detach(), bias.detach()
    start, products = F.linear(support, weight, bias), support @ support.mT + 1
    added = torch.zeros_like(start)
    for _ in range(steps):
        excess = torch.baddbmm(start, products, added).softmax(-1) - hot
        added = added - lr / support.shape[1] * excess
    return torch.baddbmm(scores, query @ support.mT + 1, added)
