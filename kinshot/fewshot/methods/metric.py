"""Metric learning: embeddings in which a class lies together, by whatever objectives over classes a recipe names."""

from __future__ import annotations

import torch
from torch import Tensor

from kinshot.core.context import RunContext
from kinshot.fewshot.training_episodes import class_labels
from kinshot.learn import METHODS
from kinshot.learn.method import Method
from kinshot.learn.model import Model
from kinshot.learn.outputs import Outputs
from kinshot.objectives.common import unit
from kinshot.samples.batch import Batch


@METHODS.register("metric")
class MetricLearning(Method):
    """Embeddings that bring a class together, learned from the terms of a recipe: pairs, triplets, proxies or several of them at once.

    It has no loss of its own. Each term is an objective with its kin, as in
    `terms=[{objective: multi_similarity, kin: labels, on: projector}]`; batches with several samples of each class come from
    `order=classes`.

    Paper: Musgrave, Belongie, Lim 2020, arXiv 2003.08505 (what such embeddings are compared by)

    Args:
        feature: what the record `recall` looks at: the share of rows whose nearest other row of the batch is of their class, among those
            that have one of it there.
    """

    supervised = True
    by_terms = True
    view_count = 1

    def __init__(self, model: Model, context: RunContext, *, feature: str = "projector") -> None:
        super().__init__(model)
        model.check([feature], "method metric")
        self.uses = (feature,)
        self.labels: Tensor
        self.register_buffer("labels", class_labels("metric", context), persistent=False)

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> dict[str, Tensor]:
        """0, with a gradient of 0 for all that terms do not look at, and how well the batch finds its own."""
        z = outputs[self.uses[0]]
        y = self.labels[batch.indices]
        return {"loss": z.float().sum() * 0.0, "recall": _recall(z.detach(), y)}


def _recall(z: Tensor, y: Tensor) -> Tensor:
    """Share of rows with a class mate whose nearest other row is one; NaN without any."""
    rows = unit(z)
    mate = (y.unsqueeze(1) == y) & (y >= 0).unsqueeze(1)
    mate.fill_diagonal_(False)
    nearest = (rows @ rows.T).fill_diagonal_(-torch.inf).argmax(1)
    found = mate.gather(1, nearest.unsqueeze(1)).squeeze(1)
    return found[mate.any(1)].float().mean()
