"""PANet: prototypes of the support segment the query, and those of the query the support."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from kinshot.core.context import RunContext
from kinshot.learn import METHODS
from kinshot.learn.method import Method
from kinshot.learn.model import Model
from kinshot.learn.outputs import Outputs
from kinshot.samples.batch import Batch
from kinshot.segmentation.prototype_gauges import prototype_distances
from kinshot.segmentation.prototype_loss import PrototypeLoss
from kinshot.segmentation.prototypes import Averaging
from kinshot.segmentation.stages import check_no_projector, stage_named
from kinshot.segmentation.training_episodes import SceneShape, dense_of_batch, scene_order


@METHODS.register("panet")
class PANet(Method):
    """Dense episodes: every pixel of the queries belongs to the prototype it is most alike, and the other way round.

    loss = CE(alpha * cos(f(x), p_k)) + alignment * L_align, over the pixels that say something, p_0 the masked mean feature of the
    background and p_k that of way k. For L_align the queries as they were segmented are the support. `alignment=0` is the cosine head
    alone.

    Paper: Wang, Liew, Zou, Zhou, Feng, 2019, arXiv 1908.06391
    Departures: background is the value 0 alone, 255 plays no part (`background=panet` is the released code, which pools it as background).
    A way that views have cut out of its whole support says nothing of the queries.

    Args:
        ways: classes of an episode.
        shots: support images of each.
        queries: query images of an episode, all ways together.
        tasks: episodes in a batch; 1 in the paper.
        stage: of the encoder, whose maps are compared; empty for the last.
        alpha: factor on cosines.
        alignment: weight of the alignment loss; 0 leaves it out.
        pooling: features upsampled to the mask (the paper), or the mask downsampled to the features, bilinearly or to the nearest pixel.
        align_corners: which bilinear interpolation.
        background: strict takes the value 0 alone as background; panet takes 255 too.
        other_ways: whether in an image of one way the pixels of another are background to it, or nothing (the paper).
        others: what objects of classes that are no way of the episode are: background, or ignored.
        short_classes: whether classes with too few photographs for an episode are an error, or left out.
    """

    view_count = 1
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
        alignment: float = 1.0,
        pooling: Literal["upsample", "downsample", "nearest"] = "upsample",
        align_corners: bool = False,
        background: Literal["strict", "panet"] = "strict",
        other_ways: Literal["drop", "background"] = "drop",
        others: Literal["background", "ignore"] = "background",
        short_classes: Literal["refuse", "leave_out"] = "refuse",
    ) -> None:
        super().__init__(model)
        check_no_projector("panet", model)
        self.stage = stage_named("panet", "stage", model, stage, -1)
        self.uses = self.stages = (self.stage,)
        self.shape = SceneShape(ways, shots, queries, tasks)
        self.scenes = self.order = scene_order("panet", context, self.shape, short_classes)
        self.head = PrototypeLoss(alpha, Averaging(pooling, align_corners, None, background, other_ways), alignment)
        self.others = others
        self._gauges: dict[str, Tensor] = {}

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> dict[str, Tensor]:
        """Cross-entropy of the queries and alignment, weighted, and the mean intersection over union of the batch's ways."""
        classes = torch.from_numpy(self.scenes.classes(step))
        maps = {self.stage: outputs[self.stage]}
        episodes, target = dense_of_batch(maps, batch.beside["mask"][0], classes, self.shape, self.others)
        found = self.head(episodes, target)
        self._gauges = prototype_distances(episodes, target, found.means, classes, self.head.how)
        return found.terms

    def after_step(self, step: int) -> dict[str, float | Tensor]:
        """Distances between prototypes of a class and of two classes, in the batch."""
        gauges, self._gauges = self._gauges, {}
        return {**gauges}
