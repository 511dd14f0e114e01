"""A light PFENet-style decoder: what a query shows of a class, from middle features, a support vector and a prior mask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from kinshot.core.errors import ConfigError, DataError
from kinshot.segmentation.base_classes import BaseClasses, base_probability, stage_of, suppress
from kinshot.segmentation.cosine_maps import upsampled
from kinshot.segmentation.dense import Dense
from kinshot.segmentation.enrichment import Enrichment
from kinshot.segmentation.planned import Planned
from kinshot.segmentation.pooling import mean_of_present, shot_prototypes
from kinshot.segmentation.prior import mask_weights, prior_mask

SCALES = (1.0, 0.5, 0.25, 0.125)


class PFENet(Planned):
    """Scores of an episode by a trained decoder; Dense -> (E, Q, 1 + W, h, w), and the same of each auxiliary head at its own size.

    * middle features: maps of the middle stages at the size of the largest, side by side, 1x1 convolution, ReLU;
    * support vector: their mean under the support's masks, averaged over shots;
    * prior mask: how alike each place of the query is to some place of the support's object, by the high stage, between 0 and 1;
    * `Enrichment` makes the log odds of the class at each place of these.

    Ways are independent detectors: the score of way w is its log odds, that of background 0. The softmax is then what the detectors
    say together once it is known that no two of them are right: p(w) ~ p_w prod_{v != w} (1 - p_v), p(background) ~ prod_v (1 - p_v).
    One way is its detector.

    Paper: Tian, Zhao, Shu, Yang, Li, Jia, 2020, arXiv 2008.01449 (PFENet)
    Departures: `width` is 64 (256 there); no dropout; one output, the log odds, for two logits whose difference it is; scales are shares
    of the map's side; the support's high stage is masked after the encoder, not also before its last stage; more than one way.

    Args:
        middle: channels by name of the middle stages.
        high: the stage of the prior mask, and of the base learner.
        width: channels inside.
        scales: see `Enrichment`.
        base: channels of the high stage and number of base classes, for BAM's base learner (`BaseClasses`); None for none.

    Raises:
        ConfigError: no middle stage, a width below 1, or scales that are none.
    """

    def __init__(
        self, middle: Mapping[str, int], high: str, width: int = 64, scales: Sequence[float] = SCALES, base: Sequence[int] | None = None
    ) -> None:
        _check(middle, width, scales)
        base = None if base is None else list(base)
        stages = list(dict.fromkeys([high, *middle]))
        super().__init__(stages, middle=dict(middle), high=high, width=width, scales=list(scales), base=base)
        self.middle, self.high = dict(middle), high
        channels = sum(middle.values())
        self.down_query = nn.Conv2d(channels, width, 1, bias=False)
        self.down_support = nn.Conv2d(channels, width, 1, bias=False)
        self.enrichment = Enrichment(width, scales)
        self.base = None if base is None else BaseClasses(high, *base)
        self.merge = None if base is None else nn.Parameter(torch.tensor([1.0, 0.0]))

    def forward(self, episodes: Dense) -> list[Tensor]:
        """Scores before any base class is told apart: of the main head, then of the auxiliary ones."""
        middle = self._reduced(episodes.query, self.down_query)
        support = self._support(episodes)
        prior = self._prior(episodes)
        each = (len(middle), episodes.ways, middle.shape[1])
        query = middle.unsqueeze(1).expand(-1, episodes.ways, *(-1,) * 4)
        beside = support.unsqueeze(2).expand(-1, -1, each[2], -1)
        prior = upsampled(prior, (middle.shape[-2], middle.shape[-1]), align_corners=True)
        found = self.enrichment(query.flatten(0, 2), beside.flatten(0, 2), prior.flatten(0, 2).unsqueeze(1))
        return [together(odds.unflatten(0, each)) for odds in found]

    def final(self, scores: Tensor, query: Mapping[str, Tensor], *, weight: float | None = None, own: Tensor | None = None) -> Tensor:
        """Scores whose background gained what the base learner claims; the scores as they are without a base learner, or at weight 0.

        Args:
            scores: (E, Q, 1 + W, h, w).
            query: maps of the queries by stage.
            weight: of the base classes' probability in the background's; None for both trained weights, (a, b) of `suppress`.
            own: see `base_probability`. Gradients reach the weights a and b, and no base learner.

        Raises:
            ConfigError: a weight for a decoder that was trained without base learner.
        """
        if self.base is None or self.merge is None:
            if weight:
                raise ConfigError(f"this decoder was trained without a base learner and base_weight is {weight}: train it with base: true")
            return scores
        if weight == 0:
            return scores
        claimed = base_probability(self.base(stage_of(query, self.high)), own).detach()
        return suppress(scores, claimed, self.merge if weight is None else claimed.new_tensor([1.0, weight]))

    @torch.no_grad()
    def _prior(self, episodes: Dense) -> Tensor:
        """Prior masks (E, W, Q, h, w), of which no gradient is taken."""
        support, query = (stage_of(maps, self.high) for maps in (episodes.support, episodes.query))
        weights = mask_weights(episodes.own(), (support.shape[-2], support.shape[-1]))
        return prior_mask(support, weights, query).transpose(1, 2)

    def _support(self, episodes: Dense) -> Tensor:
        """Support vectors (E, W, D)."""
        features = self._reduced(episodes.support, self.down_support)
        vectors, present = shot_prototypes(features, episodes.own().unsqueeze(3), "downsample", align_corners=True)
        return mean_of_present(vectors.squeeze(3), present.squeeze(3), 2)

    def _reduced(self, maps: Mapping[str, Tensor], layer: nn.Conv2d) -> Tensor:
        """Middle features (..., D, h, w) of maps by stage, each (..., C, h, w).

        A 1x1 convolution and an interpolation change places without a change: each stage passes its part of the weights at its own size.
        """
        found = [stage_of(maps, stage) for stage in self.middle]
        for stage, one in zip(self.middle, found, strict=True):
            if one.shape[-3] != self.middle[stage]:
                raise DataError(
                    f"the decoder was trained on {self.middle[stage]} channels of {stage}, got maps {tuple(one.shape)}: use its encoder"
                )
        size = max(((one.shape[-2], one.shape[-1]) for one in found), key=lambda sides: sides[0] * sides[1])
        weights = layer.weight.split(list(self.middle.values()), dim=1)
        parts = [
            upsampled(conv2d(one.flatten(0, -4), weight), size, align_corners=True) for one, weight in zip(found, weights, strict=True)
        ]
        return torch.stack(parts).sum(0).relu().unflatten(0, found[0].shape[:-3])


def together(odds: Tensor) -> Tensor:
    """Log odds of each way (E, W, Q, h, w) as scores of all, background's being 0: (E, Q, 1 + W, h, w)."""
    scores = odds.transpose(1, 2)
    return torch.cat([torch.zeros_like(scores[:, :, :1]), scores], dim=2)


def _check(middle: Mapping[str, int], width: int, scales: Sequence[float]) -> None:
    if not middle or width < 1:
        raise ConfigError(f"pfenet: middle stages and a width of at least 1 are needed, got {', '.join(middle) or 'no stage'} and {width}")
    if not scales or not all(0 < scale <= 1 for scale in scales):
        raise ConfigError(f"pfenet: scales are shares of the map's side above 0 and up to 1, at least one, got {list(scales)}")
