"""Ordinary classification of the base classes: the transfer-learning baseline."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.encoders.build import keyed_initialisation
from kinshot.encoders.cosine_rows import CosineRows
from kinshot.fewshot.training_episodes import class_labels
from kinshot.learn import METHODS
from kinshot.learn.method import Method
from kinshot.learn.model import Model
from kinshot.learn.outputs import Outputs
from kinshot.objectives.cross_entropy import cross_entropy
from kinshot.samples.batch import Batch


@METHODS.register("classifier")
class Classifier(Method):
    """Cross-entropy over the base classes with a cosine or linear classifier on the backbone.

    What SimpleShot, Baseline, Baseline++, FEAT, imprinting and most transductive heads start from.

    Paper: Qi, Brown, Lowe, 2018, arXiv 1712.07136 (cosine, learned scale); Chen, Liu, Kira, Wang, Huang, 2019, arXiv 1904.04232

    Args:
        kind: cosine (unit rows and features, learned scale, no bias) or linear (with bias).
        scale: starting value of the cosine's scale.
        smoothing: label smoothing, share of the target that all classes have in common (`objectives.cross_entropy`, spread=all).
        feature: what the classifier stands on. To imprint, take a linear projector (layers: 1), whose features have either sign, as the
            paper does: where none is negative, an imprinted row is close to every image and trained rows lose against it.
    """

    supervised = True
    view_count = 1
    uses = ("logits",)

    def __init__(
        self,
        model: Model,
        context: RunContext,
        *,
        kind: Literal["cosine", "linear"] = "cosine",
        scale: float = 10.0,
        smoothing: float = 0.0,
        feature: Literal["backbone", "projector"] = "backbone",
    ) -> None:
        super().__init__(model)
        if not 0 <= smoothing < 1:
            raise ConfigError(f"classifier: smoothing must be at least 0 and below 1, got {smoothing}")
        labels = class_labels("classifier", context)
        self.smoothing = smoothing
        self.labels: Tensor
        self.register_buffer("labels", labels, persistent=False)
        classes = int(labels.max()) + 1
        with keyed_initialisation(context.seed, "init classifier"):
            width = model.dim if feature == "backbone" else _width(self.projector, model.dim)
            model.rows = CosineRows(width, classes, scale) if kind == "cosine" else nn.Linear(width, classes)
        model.rows_on = feature

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> dict[str, Tensor]:
        """Cross-entropy of the batch, and the share of it that is classified right."""
        target = self.labels[batch.indices]
        logits = outputs["logits"].float()
        found = cross_entropy(logits, target, smoothing=self.smoothing, spread="all")
        return {"loss": found, "accuracy": (logits.detach().argmax(1) == target).float().mean()}


def _width(projector: nn.Module, dim: int) -> int:
    """Numbers that a projector gives of `dim`."""
    before = projector.training
    with torch.no_grad():
        width = projector.eval()(torch.zeros(1, dim)).shape[1]
    projector.train(before)
    return width
