"""Contrast of prototypes: by classes against a dictionary, and without classes against the background of the query.

Both losses are InfoNCE over relations (`kinshot.objectives.info_nce`); what is kin and what is told apart is said here.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from kinshot.core.errors import ConfigError
from kinshot.kin.constructors import labels, pairs, weights
from kinshot.kin.parts import Mask
from kinshot.kin.relation import Relation
from kinshot.objectives.common import check_choice
from kinshot.objectives.info_nce import info_nce
from kinshot.objectives.sup_con import sup_con

Positives = Literal["momentum", "momentum+dictionary"]


def class_specific(
    anchors: Tensor, positives: Tensor, entries: Tensor, classes: Tensor, entry_classes: Tensor, *,
    tau: float = 0.1, exclude_same_class: bool = True, kin: Positives = "momentum", present: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Class-specific contrast: a prototype attracts that of its class in another view, and is told apart from a dictionary's other classes.

    L = -log(e^{u(p).u(p+) / tau} / (e^{u(p).u(p+) / tau} + sum over entries j of other classes e^{u(p).u(d_j) / tau})), the mean over
    anchors that are present. With `kin="momentum+dictionary"` the entries of the anchor's class are positives too, and the loss is
    `sup_con`'s mean over positives. An anchor without any negative costs 0.

    Paper: Kwon, Jeong, Kim, Sohn 2021, arXiv 2111.04982; a reconstruction.

    Args:
        anchors: p (A, D).
        positives: p+ (A, D), row a is anchor a's.
        entries: d (M, D).
        classes: int64 (A,).
        entry_classes: int64 (M,); an entry of a negative class is empty and plays no part.
        tau: divides cosines, above 0.
        exclude_same_class: leave entries of the anchor's class out of the negatives; False is for comparison, it repels what is kin.
        kin: what is attracted.
        present: bool (A,), which anchors and positives are those of anything; None is all.

    Raises:
        ConfigError: a temperature of 0 or less, another `kin`, or same-class entries that were to be positive and negative at once.
    """
    check_choice("positives", kin, ("momentum", "momentum+dictionary"))
    both = kin == "momentum+dictionary"
    if both and not exclude_same_class:
        raise ConfigError(
            "same-class entries cannot be positives and negatives at once: leave exclude_same_class or take positives=momentum"
        )
    relation = labels(classes, entry_classes)
    positive, negative = (part > 0 for part in relation.dense())
    if not both:
        if not exclude_same_class:
            negative = negative | positive
        relation = weights(torch.zeros_like(negative), negative, diagonal=True)
    loss = sup_con if both else info_nce
    losses = loss(anchors, [pairs(len(anchors), anchors.device), relation], [positives, entries], temperature=tau, reduction="none")
    return mean_of(losses, negative.any(1), present)


def class_agnostic(
    anchors: Tensor, positives: Tensor, keys: Tensor, valid: Tensor, *, tau: float = 0.1, present: Tensor | None = None
) -> Tensor:
    """Class-agnostic contrast: a support's prototype attracts its query's foreground and is told apart from that query's background.

    L = -log(e^{u(p).u(k+) / tau} / (e^{u(p).u(k+) / tau} + sum over k- e^{u(p).u(k-) / tau})), the mean over anchors that are present.
    The support's prototype is the anchor: keys have no gradient, and with a key for an anchor the negatives would move nothing.

    Paper: Kwon, Jeong, Kim, Sohn 2021, arXiv 2111.04982; a reconstruction.

    Args:
        anchors: p (A, D).
        positives: k+ (A, D).
        keys: k- (A, M, D), each anchor's own.
        valid: bool (A, M), which of them there are.
        tau: divides cosines, above 0.
        present: bool (A,), which anchors and positives are those of anything; None is all.
    """
    told_apart = Relation(None, Mask(valid), (len(anchors), valid.shape[1]))
    relations = [pairs(len(anchors), anchors.device), told_apart]
    losses = info_nce(anchors, relations, [positives, keys], temperature=tau, reduction="none")
    return mean_of(losses, valid.any(1), present)


def mean_of(losses: Tensor, compared: Tensor, present: Tensor | None) -> Tensor:
    """Mean (0-dim) of losses (A,) over the anchors that are present, 0 where none is; one that was compared with nothing counts as 0."""
    present = torch.ones_like(compared) if present is None else present
    return torch.where(compared & present, losses, 0).sum() / present.sum().clamp_min(1)
