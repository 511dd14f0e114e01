"""TIM: classifier rows that are right about the support set and informative about the queries."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from kinshot.fewshot import HEADS
from kinshot.fewshot.checks import not_negative, positive
from kinshot.fewshot.descent import Slope, fit_rows, row_scores
from kinshot.fewshot.transforms import class_means, one_hot
from kinshot.fewshot.transforms import transform as transformed


@HEADS.register("tim", scores="logits")
def tim(
    support: Tensor,
    labels: Tensor,
    query: Tensor,
    ways: int,
    *,
    variant: Literal["squared", "cosine"] = "squared",
    temperature: float = 15.0,
    cross_entropy: float = 0.1,
    marginal: float = 1.0,
    conditional: float = 0.1,
    steps: int = 1000,
    lr: float = 1e-4,
    transform: Literal["none", "l2n", "cl2n"] = "l2n",
    base_mean: Tensor | None = None,
) -> Tensor:
    """Class rows fitted to the support labels and to the mutual information of the queries (TIM-GD); transductive.

    Rows w start at the class means and take `steps` steps of Adam on
    cross_entropy * CE(support) - marginal * H(mean_q P_q) + conditional * mean_q H(P_q), P the softmax of the logits
    -temperature/2 ||z - w||^2 (`squared`) or temperature * cos(z, w) (`cosine`). Scores are the logits.
    The marginal term knows no class counts, yet it draws the queries towards classes of equal size.

    Paper: Boudiaf, Masud, Rony, Dolz, Piantanida, Ben Ayed, 2020, arXiv 2008.11297
    Defaults: the authors' code (mboudiaf/TIM; its weights 1, 10, 1 have the same ratios, and Adam's steps depend on ratios only).
    easyfsl's head of the same name is another method: variant=cosine, temperature=10, cross_entropy=1, steps=50.
    Departures: the marginal's logarithm is log(p + 1e-12); without it, a class without mass gives NaN. The conditional
    term's needs no such guard here, as its derivative is taken from the logits.

    Args:
        support: (E, S, D) support features, rows in any order.
        labels: int64 (E, S), ways 0..W-1; a row with -1 is ignored.
        query: (E, Q, D) query features.
        ways: W.
        variant: what the logits are, squared distances (the paper) or cosines (easyfsl).
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
    >>> kinshot.heads.tim(support, labels, query, ways=2, steps=20).argmax(-1)
    tensor([[0, 1]])
    """
    positive("tim", temperature=temperature, lr=lr)
    not_negative("tim", cross_entropy=cross_entropy, marginal=marginal, conditional=conditional, steps=steps)
    support, query = transformed(support, transform, base_mean), transformed(query, transform, base_mean)
    slope = slope_of_information(one_hot(labels, ways, support).mT, cross_entropy, marginal, conditional)
    means, rows = class_means(support, labels, ways), torch.cat([support, query], dim=1)
    weight = fit_rows(means, rows, slope, distance=variant, temperature=temperature, steps=steps, lr=lr)
    return row_scores(weight, query, variant, temperature)


def slope_of_information(target: Tensor, cross_entropy: float, marginal: float, conditional: float) -> Slope:
    """Derivative of TIM's loss in the logits; `target` one-hot support labels (E, W, S).

    An entropy's derivative in a probability is -log p up to a constant, and log p is the logit up to a constant: both
    constants vanish through the softmax, so that no logarithm is taken of the queries' probabilities.
    """
    shots = target.shape[-1]

    def slope(logits: Tensor, p: Tensor) -> Tensor:
        s, q = p[..., :shots], p[..., shots:]
        count = q.shape[-1]
        level = (q.mean(-1, keepdim=True) + 1e-12).log_().mul_(marginal / count)
        value = torch.add(level, logits[..., shots:], alpha=-conditional / count)
        through_softmax(q, value)
        s.sub_(target).mul_(cross_entropy / shots)
        return p

    return slope


def through_softmax(p: Tensor, value: Tensor) -> Tensor:
    """Turn p (E, W, N), in place, from a softmax into the derivative in its logits, given that in p; overwrites `value`."""
    value -= (p * value).sum(1, keepdim=True)
    return p.mul_(value)
