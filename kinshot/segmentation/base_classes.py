"""BAM's base learner: what belongs to a class that was trained on is not what an episode asks for.

Its weights are a checkpoint's part `network`, alone (method `base_classes`) or beside a decoder's (method `pfenet`), and say which stage
they stand on. The part `rows` is something else: one row for each class of whole samples, on pooled features, and none for background.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from kinshot.core.errors import ConfigError
from kinshot.objectives.common import at_least_float32
from kinshot.samples.class_map import IGNORE
from kinshot.segmentation.cosine_maps import upsampled
from kinshot.segmentation.dense import BACKGROUND
from kinshot.segmentation.planned import Planned

LEAST = 1e-6
"""The least probability of background: its logarithm is finite, and weights that went below 0 still have a gradient nearby."""


class BaseClasses(Planned):
    """A linear classifier of the places of a stage's maps: background and the base classes; (..., D, h, w) -> (..., 1 + C, h, w).

    Paper: Lang, Cheng, Tu, Han, 2022, arXiv 2203.07615 (BAM)
    Departures: a linear classifier of each place, in place of PSPNet's decoder.

    Args:
        stage: of the encoder, whose maps it stands on.
        dim: D.
        classes: C; class c of a class map, c from 1, is output c.
    """

    def __init__(self, stage: str, dim: int, classes: int) -> None:
        if dim < 1 or classes < 1:
            raise ConfigError(f"base classes: dim and classes must be at least 1, got {dim} and {classes}")
        super().__init__([stage], stage=stage, dim=dim, classes=classes)
        self.stage, self.classes = stage, classes
        self.rows = nn.Conv2d(dim, 1 + classes, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """Logits of every place."""
        logits: Tensor = self.rows(maps.flatten(0, -4))
        return logits.unflatten(0, maps.shape[:-3])


def base_targets(masks: Tensor, classes: int, others: str = "background") -> Tensor:
    """What base learners are to say of the pixels of class maps: background 0, class c from 1, 255 where nothing is asked.

    Args:
        masks: class maps int64 (...), values as in `kinshot.datasets.scenes`.
        classes: C; pixels of value C + 1 are of classes that are no base class.
        others: what those are: `background`, or `ignore`.
    """
    other = (masks > classes) & (masks != IGNORE)
    return masks.masked_fill(other, IGNORE if others == "ignore" else BACKGROUND)


def base_probability(logits: Tensor, own: Tensor | None = None) -> Tensor:
    """How probably each place shows a base class: the sum of their probabilities, (E, Q, h, w).

    Args:
        logits: (E, Q, 1 + C, h, w).
        own: int64 (E, W), values that the ways' classes have in class maps, which are left out of the sum: in training the ways are base
            classes themselves. None leaves out nothing.
    """
    probability = at_least_float32(logits).softmax(2)
    counted = probability.new_ones(len(logits), logits.shape[2])
    counted[:, BACKGROUND] = 0
    if own is not None:
        counted.scatter_(1, own, 0)
    return torch.einsum("eqchw,ec->eqhw", probability, counted)


def suppress(scores: Tensor, base: Tensor, weights: Tensor) -> Tensor:
    """Scores of an episode whose background gains what is probably of a base class.

    With p = softmax(scores): p'_background = a p_background + b base, the ways stay as they are. Its logarithm, moved by what the softmax
    took away, is the background's new score, so that weights (1, 0) change nothing but rounding.

    Paper: Lang, Cheng, Tu, Han, 2022, arXiv 2203.07615 (BAM)
    Departures: BAM takes these probabilities themselves for logits of its loss; here their logarithms are, so that the softmax of the
    scores is the probabilities again, divided by their sum. Predictions are the same.

    Args:
        scores: logits (E, Q, 1 + W, h, w), background first.
        base: `base_probability` (E, Q, h', w').
        weights: (a, b), initialised as (1, 0) where they are learned.
    """
    scores = at_least_float32(scores)
    total = scores.logsumexp(2)
    base = upsampled(base, (scores.shape[-2], scores.shape[-1]), align_corners=True)
    background = weights[0] * (scores[:, :, BACKGROUND] - total).exp() + weights[1] * base
    return torch.cat([(background.clamp_min(LEAST).log() + total).unsqueeze(2), scores[:, :, 1:]], dim=2)


def stage_of(maps: Mapping[str, Tensor], stage: str) -> Tensor:
    """The maps of a stage. Raises ConfigError where it is not among them, with those that are."""
    if stage not in maps:
        raise ConfigError(f"a network was trained on the stage {stage} and maps of {', '.join(maps)} were given: add this stage")
    return maps[stage]
