"""BAM's base learner: every pixel told apart as background or one of the base classes."""

from __future__ import annotations

from typing import Literal, cast

from torch import Tensor

from kinshot.core.context import RunContext
from kinshot.encoders.build import keyed_initialisation
from kinshot.learn import METHODS
from kinshot.learn.method import Method
from kinshot.learn.model import Model
from kinshot.learn.outputs import Outputs
from kinshot.samples.batch import Batch
from kinshot.samples.class_map import IGNORE
from kinshot.segmentation.base_classes import BaseClasses, base_targets
from kinshot.segmentation.cosine_maps import pixel_cross_entropy, predicted
from kinshot.segmentation.stages import check_no_projector, class_count, dims_of, stage_named


@METHODS.register("base_classes")
class BaseClassesMethod(Method):
    """Cross-entropy of every pixel over background and the base classes, by a linear classifier of a stage's maps.

    What head `base_suppressed` takes from the foreground of others, and an encoder that has learned to tell pixels apart.

    Paper: Lang, Cheng, Tu, Han, 2022, arXiv 2203.07615 (BAM, first stage of its training)
    Departures: a linear classifier of each place, in place of PSPNet's decoder.

    Args:
        stage: of the encoder, whose maps the classifier stands on; empty for the last.
        others: what objects of classes that are no base class are: background, or ignored.
    """

    view_count = 1
    fields = ("mask",)
    trains_head = "base_suppressed"

    def __init__(
        self, model: Model, context: RunContext, *, stage: str = "", others: Literal["background", "ignore"] = "background"
    ) -> None:
        super().__init__(model)
        check_no_projector("base_classes", model)
        self.others = others
        self.classes = class_count("base_classes", context)
        stage = stage_named("base_classes", "stage", model, stage, -1)
        self.uses = self.stages = (stage,)
        with keyed_initialisation(context.seed, "init base classes"):
            model.network = BaseClasses(stage, dims_of(model)[stage], self.classes)

    @property
    def network(self) -> BaseClasses:
        """The classifier."""
        return cast(BaseClasses, self.model.network)

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> dict[str, Tensor]:
        """Cross-entropy of the pixels of which something is said, and the share of them that is classified right."""
        targets = base_targets(batch.beside["mask"][0], self.classes, self.others)
        logits = self.network(outputs[self.network.stage].unsqueeze(0)).squeeze(0)
        return {"loss": pixel_cross_entropy(logits, targets, align_corners=True), "accuracy": pixel_accuracy(logits, targets)}


def pixel_accuracy(scores: Tensor, targets: Tensor) -> Tensor:
    """Share of the pixels of which something is said, whose label has the best of scores (B, K, h, w) upsampled to them."""
    kept = targets != IGNORE
    found = predicted(scores.detach().float(), (targets.shape[-2], targets.shape[-1]), align_corners=True)
    return ((found == targets) & kept).sum() / kept.sum().clamp_min(1)
