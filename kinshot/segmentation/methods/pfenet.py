"""PFENet-style training: a decoder learns, on episodes of base classes, to find what a support shows in maps of an encoder."""

from __future__ import annotations

from typing import Literal, cast

import torch
from torch import Tensor

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.encoders.build import keyed_initialisation
from kinshot.learn import METHODS
from kinshot.learn.method import Method
from kinshot.learn.model import Model
from kinshot.learn.outputs import Outputs
from kinshot.samples.batch import Batch
from kinshot.samples.class_map import IGNORE
from kinshot.segmentation.base_classes import base_targets
from kinshot.segmentation.cosine_maps import pixel_cross_entropy, predicted
from kinshot.segmentation.dense import BACKGROUND, Dense
from kinshot.segmentation.pfenet import PFENet
from kinshot.segmentation.planned import stages_of
from kinshot.segmentation.stages import check_no_projector, class_count, dims_of, stage_named, stages_of_model
from kinshot.segmentation.training_episodes import SceneShape, dense_of_batch, scene_order


@METHODS.register("pfenet")
class PFENetMethod(Method):
    """Episodes whose queries are segmented by a light PFENet-style decoder, on an encoder that may be frozen (`train.freeze: [all]`).

    loss = CE(scores) + aux * mean over scales of CE(auxiliary scores), over the pixels that say something. With `base` BAM's base learner
    is trained beside it: loss += CE(scores whose background gained what it claims, the ways' own classes left out) + CE of the query's
    pixels over background and the base classes, whose gradient is the base learner's alone.

    Paper: Tian, Zhao, Shu, Yang, Li, Jia, 2020, arXiv 2008.01449 (PFENet); Lang, Cheng, Tu, Han, 2022, arXiv 2203.07615 (BAM)
    Departures: those of `kinshot.segmentation.pfenet.PFENet`; the learning rate is one for all that is trained; the base learner is
    trained beside the decoder, not before it, as a linear classifier of each place; no adjustment by low-level features (Gram difference).

    Args:
        ways: classes of an episode.
        shots: support images of each.
        queries: query images of an episode, all ways together.
        tasks: episodes in a batch.
        middle: stages whose maps the decoder sees, brought to the size of the largest; empty for the third and the second last.
        high: the stage of the prior mask and of the base learner; empty for the last.
        width: channels of the decoder; 256 in the paper.
        scales: sides of the maps at which features are enriched, as shares of the middle maps' side.
        aux: weight of the auxiliary cross-entropies' mean.
        base: train BAM's base learner, too, which takes what it knows from the foreground of others.
        others: what objects of classes that are no way of the episode are: background, or ignored.
        short_classes: whether classes with too few photographs for an episode are an error, or left out.
    """

    view_count = 1
    fields = ("mask",)
    trains_head = "pfenet"

    def __init__(
        self,
        model: Model,
        context: RunContext,
        *,
        ways: int = 1,
        shots: int = 1,
        queries: int = 1,
        tasks: int = 4,
        middle: tuple[str, ...] = (),
        high: str = "",
        width: int = 64,
        scales: tuple[float, ...] = (1.0, 0.5, 0.25, 0.125),
        aux: float = 1.0,
        base: bool = False,
        others: Literal["background", "ignore"] = "background",
        short_classes: Literal["refuse", "leave_out"] = "refuse",
    ) -> None:
        super().__init__(model)
        check_no_projector("pfenet", model)
        if not aux >= 0:
            raise ConfigError(f"pfenet: aux must be at least 0, got {aux}")
        self.shape = SceneShape(ways, shots, queries, tasks)
        self.order = self.scenes = scene_order("pfenet", context, self.shape, short_classes)
        self.aux, self.others = aux, others
        stages = stages_of_model("pfenet", model)
        middle = tuple(stage_named("pfenet", "middle", model, stage, 0) for stage in middle) or stages[-3:-1] or stages
        high = stage_named("pfenet", "high", model, high, -1)
        dims = dims_of(model)
        known = (dims[high], class_count("pfenet", context)) if base else None
        with keyed_initialisation(context.seed, "init pfenet"):
            model.network = PFENet({stage: dims[stage] for stage in middle}, high, width, scales, known)
        self.uses = self.stages = stages_of(model.network)

    @property
    def network(self) -> PFENet:
        """The decoder."""
        return cast(PFENet, self.model.network)

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> dict[str, Tensor]:
        """The weighted sum, its terms, and the intersection over union of the queries' ways."""
        masks = batch.beside["mask"][0]
        classes = torch.from_numpy(self.scenes.classes(step)).to(masks.device)
        maps = {stage: outputs[stage] for stage in self.uses}
        episodes, target = dense_of_batch(maps, masks, classes, self.shape, self.others)
        return decoder_loss(self.network, episodes, target, self.shape.split(masks)[1], classes, aux=self.aux, others=self.others)


def decoder_loss(
    network: PFENet, episodes: Dense, target: Tensor, masks: Tensor, classes: Tensor, *, aux: float, others: str
) -> dict[str, Tensor]:
    """`loss`, its terms `main`, `auxiliary` and, with a base learner, `suppressed` and `base`; and `iou`.

    Args:
        network: the decoder.
        episodes: maps of E episodes.
        target: way maps of the queries, int64 (E, Q, H, W).
        masks: class maps of the queries, int64 (E, Q, H, W), values as in `kinshot.datasets.scenes`.
        classes: int64 (E, W), the value of each way's class in them.
        aux: weight of the auxiliary heads.
        others: what the base learner is told of other classes' objects, see `base_targets`.
    """
    scores, *auxiliary = network(episodes)
    costs = torch.stack([pixel_cross_entropy(one, target, align_corners=True) for one in auxiliary])
    terms = {"main": pixel_cross_entropy(scores, target, align_corners=True), "auxiliary": costs.mean()}
    found = terms["main"] + aux * terms["auxiliary"]
    if network.base is not None:
        final = network.final(scores, episodes.query, own=classes)
        logits = network.base(episodes.query[network.high])
        terms["suppressed"] = pixel_cross_entropy(final, target, align_corners=True)
        terms["base"] = pixel_cross_entropy(logits, base_targets(masks, network.base.classes, others), align_corners=True)
        found, scores = found + terms["suppressed"] + terms["base"], final
    return {"loss": found, **{name: value.detach() for name, value in terms.items()}, "iou": intersection_over_union(scores, target)}


def intersection_over_union(scores: Tensor, target: Tensor) -> Tensor:
    """Of what scores (E, Q, 1 + W, h, w) and way maps (E, Q, H, W) call a way, all ways and queries together, where something is said."""
    found = predicted(scores.detach().float(), (target.shape[-2], target.shape[-1]), align_corners=True)
    said = target != IGNORE
    either = ((found != BACKGROUND) | (target != BACKGROUND)) & said
    return ((found == target) & either).sum() / either.sum().clamp_min(1)
