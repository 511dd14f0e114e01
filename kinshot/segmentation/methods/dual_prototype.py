"""Dual prototypical contrast: the cosine head, and prototypes contrasted by class and without classes."""

from __future__ import annotations

from typing import Any, Literal, cast

import torch
from torch import Tensor

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.core.rng import keyed_generator
from kinshot.encoders.build import Encoder
from kinshot.encoders.momentum import follow_, momentum_copy
from kinshot.learn import METHODS
from kinshot.learn.method import Extract, Method
from kinshot.learn.model import Model
from kinshot.learn.outputs import Outputs, outputs_of
from kinshot.samples.batch import Batch
from kinshot.segmentation.background_keys import background_cells, background_keys
from kinshot.segmentation.contrast import class_agnostic, class_specific
from kinshot.segmentation.dense import way_maps
from kinshot.segmentation.prototype_dictionary import PrototypeDictionary
from kinshot.segmentation.prototype_gauges import prototype_distances
from kinshot.segmentation.prototype_loss import PrototypeLoss, query_prototypes
from kinshot.segmentation.prototypes import Averaging, ShotMeans, mean_prototypes, shot_means
from kinshot.segmentation.stages import check_no_projector, dims_of, stage_named
from kinshot.segmentation.training_episodes import SceneShape, dense_of_batch, scene_order

_LENGTHS = {"fifo": 1024, "per_class": 32}
"""What a `length` of 0 is."""


@METHODS.register("dual_prototype")
class DualPrototype(Method):
    """Dense episodes whose prototypes are contrasted, by class against a dictionary and without classes against the background.

    loss = CE(alpha * cos(f(x), p_k)) + class_specific * L_cs + class_agnostic * L_ca (+ alignment * L_align, PANet's). A second view of
    every episode passes a momentum encoder: its support prototypes are the positives of L_cs, and fill the dictionary whose other classes
    are the negatives; its queries' foreground and background are the positives and negatives of L_ca. Where both weights are 0 there is
    no second view, no momentum encoder and no draw: the method is `panet` with that alignment, bit for bit.

    Paper: Kwon, Jeong, Kim, Sohn, 2021, arXiv 2111.04982. A reconstruction: no code was released, and neither weights, temperatures, size
    of the dictionary, momentum nor schedule are known. All of them are settings, and none of the defaults is the authors'. The figure
    shows a second view that changes colours alone; here it is whatever the recipe's views draw, and masks move with it.

    Args:
        ways: classes of an episode.
        shots: support images of each.
        queries: query images of an episode, all ways together.
        tasks: episodes in a batch.
        stage: of the encoder, whose maps are compared; empty for the last.
        alpha: factor on cosines of the segmentation loss.
        class_specific: weight of L_cs; 0 leaves it and the dictionary out.
        class_agnostic: weight of L_ca; 0 leaves it out.
        alignment: weight of PANet's alignment loss; 0 leaves it out.
        tau: divides cosines in L_cs.
        tau_agnostic: divides cosines in L_ca.
        key_momentum: share of the momentum encoder that stays in a step; 0.99 for short runs.
        dictionary: one ring of prototypes, or one for each class.
        length: prototypes in a ring; 0 is 1024 for fifo and 32 for each class.
        warmup: steps at the beginning in which the dictionary fills and L_cs does not count.
        positives: what L_cs attracts: the other view's prototype, or that and the dictionary's entries of the class.
        exclude_same_class: leave entries of the own class out of the negatives of L_cs; false is for comparison.
        keys: background keys of L_ca: cells drawn from the queries, means of 4 x 4 regions, or one mean.
        key_count: cells that are drawn.
        key_other_ways: whether pixels of other ways are negatives of a way in L_ca, or left out.
        pooling: features upsampled to the mask, or the mask downsampled to the features, bilinearly or to the nearest pixel.
        align_corners: which bilinear interpolation.
        background: strict takes the value 0 alone as background; panet takes 255 too.
        other_ways: whether in an image of one way the pixels of another are background to it, or nothing.
        others: what objects of classes that are no way of the episode are: background, or ignored.
        short_classes: whether classes with too few photographs for an episode are an error, or left out.
    """

    fields = ("mask",)

    def __init__(
        self,
        model: Model,
        context: RunContext,
        *,
        ways: int = 1,
        shots: int = 1,
        queries: int = 1,
        tasks: int = 1,
        stage: str = "",
        alpha: float = 20.0,
        class_specific: float = 0.1,
        class_agnostic: float = 0.1,
        alignment: float = 0.0,
        tau: float = 0.1,
        tau_agnostic: float = 0.1,
        key_momentum: float = 0.999,
        dictionary: Literal["fifo", "per_class"] = "fifo",
        length: int = 0,
        warmup: int = 0,
        positives: Literal["momentum", "momentum+dictionary"] = "momentum",
        exclude_same_class: bool = True,
        keys: Literal["cells", "grid", "global"] = "cells",
        key_count: int = 64,
        key_other_ways: Literal["negative", "drop"] = "negative",
        pooling: Literal["upsample", "downsample", "nearest"] = "upsample",
        align_corners: bool = False,
        background: Literal["strict", "panet"] = "strict",
        other_ways: Literal["drop", "background"] = "drop",
        others: Literal["background", "ignore"] = "background",
        short_classes: Literal["refuse", "leave_out"] = "refuse",
    ) -> None:
        super().__init__(model)
        check_no_projector("dual_prototype", model)
        _check(class_specific, class_agnostic, tau, tau_agnostic, key_momentum, length, warmup, key_count)
        if positives != "momentum" and not exclude_same_class:
            raise ConfigError("dual_prototype: entries of the own class cannot attract and repel: set exclude_same_class=true")
        self.stage = stage_named("dual_prototype", "stage", model, stage, -1)
        self.uses = self.stages = (self.stage,)
        self.shape = SceneShape(ways, shots, queries, tasks)
        self.scenes = self.order = scene_order("dual_prototype", context, self.shape, short_classes)
        self.head = PrototypeLoss(alpha, Averaging(pooling, align_corners, None, background, other_ways), alignment)
        self.others, self.seed, self.key_momentum, self.warmup = others, context.seed, key_momentum, warmup
        self.specific, self.agnostic = class_specific, class_agnostic
        self._specific = {"tau": tau, "kin": positives, "exclude_same_class": exclude_same_class}
        self._keys: dict[str, Any] = {"how": keys, "count": key_count}
        self.tau_agnostic, self.key_other_ways = tau_agnostic, key_other_ways
        self.view_count = 2 if class_specific or class_agnostic else 1
        self.key = momentum_copy(self.encoder) if self.view_count == 2 else None
        self.dictionary = None
        if class_specific:
            classes = self.scenes.contains.shape[1]
            self.dictionary = PrototypeDictionary(dims_of(model)[self.stage], length or _LENGTHS[dictionary], dictionary, classes)
        self._entering: tuple[Tensor, Tensor, Tensor] | None = None
        self._gauges: dict[str, Tensor] = {}

    def prepare(self, extract: Extract) -> None:
        """Start the momentum encoder where the encoder is."""
        if self.key is not None:
            self.key.load_state_dict(self.encoder.state_dict())

    def outputs(self, batch: Batch, names: Any = ()) -> Outputs:
        """What the encoder says of the first view; the second is the momentum encoder's."""
        return outputs_of(self.model, batch, (0,), [*self.uses, *names])

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> dict[str, Tensor]:
        """All terms and their weighted sum, and the mean intersection over union of the batch's ways."""
        classes = torch.from_numpy(self.scenes.classes(step)).to(batch.indices.device)
        maps = {self.stage: outputs[self.stage]}
        episodes, target = dense_of_batch(maps, batch.beside["mask"][0], classes, self.shape, self.others)
        found = self.head(episodes, target)
        self._gauges = prototype_distances(episodes, target, found.means, classes, self.head.how)
        terms = found.terms
        if self.dictionary is not None:
            cost = self._class_specific(found.means, batch, classes, self.dictionary)
            terms["class_specific"] = cost.detach()
            if step >= self.warmup:
                terms["loss"] = terms["loss"] + self.specific * cost
        if self.agnostic:
            cost = self._class_agnostic(found.means, batch, classes, step)
            terms["class_agnostic"] = cost.detach()
            terms["loss"] = terms["loss"] + self.agnostic * cost
        return terms

    @torch.no_grad()
    def after_step(self, step: int) -> dict[str, float | Tensor]:
        """Move the momentum encoder, let the step's prototypes enter the dictionary; its fill, and distances between prototypes."""
        gauges: dict[str, float | Tensor] = {**self._gauges}
        if self.key is not None:
            follow_(self.key, self.encoder, self.key_momentum)
        if self.dictionary is not None:
            if self._entering is not None:
                self.dictionary.enqueue_(*self._entering)
            gauges["dictionary_fill"] = self.dictionary.fill
        self._entering, self._gauges = None, {}
        return gauges

    def _class_specific(self, means: ShotMeans, batch: Batch, classes: Tensor, dictionary: PrototypeDictionary) -> Tensor:
        """L_cs; the momentum prototypes are kept for `after_step`: a step that diverges must leave no trace in the dictionary."""
        images, masks = self.shape.split(batch.views[1])[0], self.shape.split(batch.beside["mask"][1])[0]
        with torch.no_grad():
            other = shot_means(self._key_maps(images), way_maps(masks, classes, self.others), self.head.how)
        keys, present = (part.flatten(0, 1) for part in _ways(other))
        anchors, shown = (part.flatten(0, 1) for part in _ways(means))
        own = classes.flatten() - 1
        self._entering = (keys, own, present)
        arguments: dict[str, Any] = {**self._specific, "present": shown & present}
        return class_specific(anchors, keys, dictionary.vectors, own, dictionary.held, **arguments)

    def _class_agnostic(self, means: ShotMeans, batch: Batch, classes: Tensor, step: int) -> Tensor:
        images, masks = self.shape.split(batch.views[1])[1], self.shape.split(batch.beside["mask"][1])[1]
        anchors, shown = _ways(means)
        with torch.no_grad():
            query, target = self._key_maps(images), way_maps(masks, classes, self.others)
            positives, found = query_prototypes(query, target, self.shape.ways, self.head.how)
            cells = background_cells(target, self.shape.ways, (query.shape[-2], query.shape[-1]), self.key_other_ways)
            generator = keyed_generator(self.seed, "background keys", step)
            keys, valid = background_keys(query, cells, **self._keys, generator=generator)
        rows = (part.flatten(0, 1) for part in (anchors, positives, keys, valid))
        return class_agnostic(*rows, tau=self.tau_agnostic, present=(shown & found).flatten())

    def _key_maps(self, images: Tensor) -> Tensor:
        """The momentum encoder's maps of images (T, ..., C, H, W): (T, ..., D, h, w)."""
        maps = cast(Encoder, self.key).maps(images.flatten(0, -4), (self.stage,))[0].values
        return maps.unflatten(0, images.shape[:-3])


def _ways(means: ShotMeans) -> tuple[Tensor, Tensor]:
    """Each way's prototype, (E, W, C), and whether any shot shows it, bool (E, W)."""
    return mean_prototypes(means)[:, 1:], means.present[..., 1].any(2)


def _check(
    specific: float, agnostic: float, tau: float, tau_agnostic: float, momentum: float, length: int, warmup: int, key_count: int
) -> None:
    for name, value in (("class_specific", specific), ("class_agnostic", agnostic), ("length", length), ("warmup", warmup)):
        if not value >= 0:
            raise ConfigError(f"dual_prototype: {name} must be at least 0, got {value}")
    for name, value in (("tau", tau), ("tau_agnostic", tau_agnostic), ("key_count", key_count)):
        if not value > 0:
            raise ConfigError(f"dual_prototype: {name} must be above 0, got {value}")
    if not 0 <= momentum <= 1:
        raise ConfigError(f"dual_prototype: key_momentum must be from 0 to 1, got {momentum}")
