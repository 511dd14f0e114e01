"""Baseline++: cosine rows trained on the support set by gradient descent."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from kinshot.core.errors import ConfigError, DataError
from kinshot.fewshot import HEADS
from kinshot.fewshot.cosine_classifier import train_rows
from kinshot.fewshot.descent import Slope, fit_rows
from kinshot.fewshot.support_draws import keyed_normals, keyed_ranks
from kinshot.fewshot.transforms import class_means, cosine, one_hot, unit
from kinshot.fewshot.transforms import transform as transformed


@HEADS.register("baseline_pp", scores="logits")
def baseline_pp(
    support: Tensor,
    labels: Tensor,
    query: Tensor,
    ways: int,
    *,
    variant: Literal["easyfsl", "mean", "random"] = "easyfsl",
    steps: int | None = None,
    lr: float | None = None,
    scale: float = 10.0,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    seed: int = 0,
    transform: Literal["none", "l2n", "cl2n"] = "l2n",
    base_mean: Tensor | None = None,
    initial: Tensor | None = None,
) -> Tensor:
    """New cosine rows trained on the support set (Baseline++); inductive.

    Minimises mean_i CE(scale * <u(w), u(z_i)>, y_i) over the rows w by steps over the whole support set,
    all episodes at once; score = scale * <u(w_c), u(q)>. With 0 steps the scores are those of the initial rows.

    * `easyfsl`: from the class means, 50 steps of Adam at 1e-4;
    * `mean`: from the class means of unit features, at unit length, 100 steps of SGD at 0.01;
    * `random`: from random unit vectors, then as `mean`.

    Paper: Chen, Liu, Kira, Wang, Huang, 2019, arXiv 1904.04232
    Departures: the authors' code starts at random rows whose lengths count and takes mini-batches of 4 for 100 epochs of SGD
    (lr 0.01, momentum and dampening 0.9, weight decay 0.001); here a step sees the whole support set, so that the order of its
    rows does not matter.
    Defaults: easyfsl's Finetune as its benchmark runs it, which starts at the class means and sees the whole support set, too.

    Args:
        support: (E, S, D) support features, rows in any order.
        labels: int64 (E, S), ways 0..W-1; a row with -1 is ignored.
        query: (E, Q, D) query features.
        ways: W.
        variant: where the rows start and what moves them, as above.
        steps: how many, at least 0; none takes the variant's.
        lr: learning rate, at least 0; none takes the variant's.
        scale: fixed factor on the cosine, positive.
        momentum: of SGD, in [0, 1).
        weight_decay: of SGD, at least 0.
        seed: key of the random rows.
        transform: what is done to every feature first; cl2n needs the base classes.
        base_mean: mean base feature (D,), for `cl2n`.
        initial: rows to start from, (W, D) or (E, W, D), in place of the variant's.

    Returns:
        Scores (E, Q, W).

    Raises:
        ConfigError: a setting out of its range, or `cl2n` without `base_mean`.
        DataError: a way without support, or `initial` of another shape.

    >>> support = torch.tensor([[[1.0, 0.0], [0.8, 0.2], [0.1, 0.9]]])  # one episode of three images, two features each
    >>> labels, query = torch.tensor([[0, 0, 1]]), torch.tensor([[[0.9, 0.3], [0.2, 0.7]]])
    >>> kinshot.heads.baseline_pp(support, labels, query, ways=2).softmax(-1).round(decimals=2)
    tensor([[[1., 0.],
             [0., 1.]]])
    """
    steps = {"easyfsl": 50}.get(variant, 100) if steps is None else steps
    lr = {"easyfsl": 1e-4}.get(variant, 0.01) if lr is None else lr
    if scale <= 0 or steps < 0 or lr < 0 or weight_decay < 0 or not 0 <= momentum < 1:
        raise ConfigError(
            "head baseline_pp: scale must be positive, steps, lr and weight_decay at least 0, momentum in [0, 1), "
            f"got scale={scale}, steps={steps}, lr={lr}, weight_decay={weight_decay}, momentum={momentum}"
        )
    z = transformed(support, transform, base_mean)
    hot = one_hot(labels, ways, z)
    if variant == "easyfsl":
        rows = _start(class_means(z, labels, ways), seed, variant, initial)
        rows = fit_rows(rows, z, _slope_of_cross_entropy(hot.mT), distance="cosine", temperature=scale, steps=steps, lr=lr)
    else:
        rows = _start(unit(class_means(unit(z), labels, ways)), seed, variant, initial)
        rows = train_rows(unit(z), hot, rows, scale=scale, steps=steps, lr=lr, momentum=momentum, weight_decay=weight_decay)
    return scale * cosine(transformed(query, transform, base_mean), rows)


def _slope_of_cross_entropy(target: Tensor) -> Slope:
    """Derivative of the mean cross-entropy in the logits; `target` one-hot labels (E, W, S)."""
    return lambda logits, p: p.sub_(target).div_(target.shape[-1])


def _start(means: Tensor, seed: int, variant: str, initial: Tensor | None) -> Tensor:
    if initial is not None:
        if initial.shape not in (means.shape, means.shape[1:]):
            raise DataError(
                f"head baseline_pp: initial rows must be {tuple(means.shape[1:])} or {tuple(means.shape)}, got {tuple(initial.shape)}"
            )
        return initial.to(means).expand_as(means)
    if variant != "random":
        return means
    drawn = keyed_normals(tuple(means.shape[1:]), seed, "baseline_pp rows").to(means)
    return unit(drawn)[keyed_ranks(means, seed)]
