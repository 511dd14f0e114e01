"""Alpha-TIM: TIM with Tsallis entropies, which forgive queries that are not balanced over the classes."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from kinshot.fewshot import HEADS
from kinshot.fewshot.checks import not_negative, positive
from kinshot.fewshot.descent import Slope, fit_rows, row_scores
from kinshot.fewshot.heads.tim import through_softmax
from kinshot.fewshot.transforms import class_means, one_hot
from kinshot.fewshot.transforms import transform as transformed


@HEADS.register("alpha_tim", scores="logits")
def alpha_tim(
    support: Tensor,
    labels: Tensor,
    query: Tensor,
    ways: int,
    *,
    alpha: float = 2.0,
    variant: Literal["squared", "cosine"] = "squared",
    temperature: float = 15.0,
    cross_entropy: float = 1.0,
    marginal: float = 1.0,
    conditional: float = 1.0,
    steps: int = 1000,
    lr: float = 1e-4,
    transform: Literal["none", "l2n", "cl2n"] = "l2n",
    base_mean: Tensor | None = None,
) -> Tensor:
    """TIM with Tsallis entropies in place of Shannon's (alpha-TIM); transductive.

    As head `tim`, with H(p) = (1 - sum p^alpha) / (alpha - 1) in the marginal and the conditional term; alpha = 1 is
    Shannon's entropy and so `tim` with the same weights. The support term stays the cross-entropy.

    Paper: Veilleux, Boudiaf, Piantanida, Ben Ayed, 2021, arXiv 2204.11181
    The authors' code takes alpha 2 for one shot and 7 for five or more.
    Departure: probabilities are p + 1e-12 in both entropies.
    Defaults: the authors' code (oveilleux/Realistic_Transductive_Few_Shot), one shot.

    Args:
        support: (E, S, D) support features, rows in any order.
        labels: int64 (E, S), ways 0..W-1; a row with -1 is ignored.
        query: (E, Q, D) query features.
        ways: W.
        alpha: order of the entropies, positive.
        variant: what the logits are, squared distances (the paper) or cosines.
        temperature: factor on the logits; higher is sharper.
        cross_entropy: weight of the support's cross-entropy.
        marginal: weight of the entropy of the mean prediction, which is raised.
        conditional: weight of the mean entropy of the predictions, which is lowered.
        steps: steps of Adam; 0 scores by the class means.
        lr: learning rate.
        transform: what is done to every feature first; cl2n needs the base classes.
        base_mean: mean base feature (D,), for `cl2n`.

    Returns:
        Logits (E, Q, W).

    Raises:
        ConfigError: a number below its minimum, or `cl2n` without `base_mean`.
        DataError: a way without support.

    >>> support = torch.tensor([[[1.0, 0.0], [0.8, 0.2], [0.1, 0.9]]])  # one episode of three images, two features each
    >>> labels, query = torch.tensor([[0, 0, 1]]), torch.tensor([[[0.9, 0.3], [0.2, 0.7]]])
    >>> kinshot.heads.alpha_tim(support, labels, query, ways=2, steps=20).argmax(-1)
    tensor([[0, 1]])
    """
    positive("alpha_tim", alpha=alpha, temperature=temperature, lr=lr)
    not_negative("alpha_tim", cross_entropy=cross_entropy, marginal=marginal, conditional=conditional, steps=steps)
    support, query = transformed(support, transform, base_mean), transformed(query, transform, base_mean)
    slope = _slope(one_hot(labels, ways, support).mT, alpha, cross_entropy, marginal, conditional)
    means, rows = class_means(support, labels, ways), torch.cat([support, query], dim=1)
    weight = fit_rows(means, rows, slope, distance=variant, temperature=temperature, steps=steps, lr=lr)
    return row_scores(weight, query, variant, temperature)


def _slope(target: Tensor, alpha: float, cross_entropy: float, marginal: float, conditional: float) -> Slope:
    """Derivative of the loss in the logits; dH/dp = -alpha (p^(alpha-1) - 1) / (alpha - 1) up to a constant."""
    shots = target.shape[-1]

    def slope(logits: Tensor, p: Tensor) -> Tensor:
        s, q = p[..., :shots], p[..., shots:]
        scale = alpha / q.shape[-1]
        level = _deformed_log(q.mean(-1, keepdim=True), alpha).mul_(marginal * scale)
        value = torch.add(level, _deformed_log(q, alpha), alpha=-conditional * scale)
        through_softmax(q, value)
        s.sub_(target).mul_(cross_entropy / shots)
        return p

    return slope


def _deformed_log(p: Tensor, alpha: float) -> Tensor:
    """(p^(alpha-1) - 1) / (alpha - 1), which is log p at alpha = 1, without cancellation near it."""
    log_p = (p + 1e-12).log_()
    if alpha == 1:
        return log_p
    return log_p.mul_(alpha - 1).expm1_().div_(alpha - 1)
