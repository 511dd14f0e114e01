"""Ordinary classification of the base classes: the transfer-learning baseline."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from kinshot.core.errors import ConfigError
from kinshot.core.method import METHODS
from kinshot.core.method.base import Method, MethodContext
from kinshot.encoders.build import keyed_initialisation
from kinshot.fewshot.cosine_rows import CosineRows
from kinshot.fewshot.training_episodes import class_labels


@METHODS.register("classifier")
class Classifier(Method):
    """Cross-entropy over the base classes with a cosine or linear classifier on the backbone.

    What SimpleShot, Baseline, Baseline++, FEAT, imprinting and most transductive heads start from.

    Paper: Qi, Brown, Lowe, 2018, arXiv 1712.07136 (cosine, learned scale); Chen, Liu, Kira, Wang, Huang, 2019, arXiv 1904.04232

    Args:
        kind: cosine (unit rows and features, learned scale, no bias) or linear (with bias).
        scale: starting value of the cosine's scale.
        smoothing: label smoothing, share of the target that all classes have in common.
    """

    supervised = True
    view_count = 1

    def __init__(
        self,
        encoder: nn.Module,
        projector: nn.Module,
        context: MethodContext,
        *,
        kind: Literal["cosine", "linear"] = "cosine",
        scale: float = 10.0,
        smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 <= smoothing < 1:
            raise ConfigError(f"classifier: smoothing must be at least 0 and below 1, got {smoothing}")
        labels = class_labels("classifier", context)
        self.encoder, self.projector, self.smoothing = encoder, projector, smoothing
        self.register_buffer("labels", labels, persistent=False)
        classes = int(labels.max()) + 1
        with keyed_initialisation(context.seed, "init classifier"):
            self.rows = CosineRows(encoder.dim, classes, scale) if kind == "cosine" else nn.Linear(encoder.dim, classes)

    def loss(self, views: list[Tensor], indices: Tensor, step: int) -> dict[str, Tensor]:
        """Cross-entropy of the batch, and the share of it that is classified right."""
        target = self.labels[indices]
        logits = self.rows(self.encoder(views[0])).float()
        found = nn.functional.cross_entropy(logits, target, label_smoothing=self.smoothing)
        return {"loss": found, "accuracy": (logits.detach().argmax(1) == target).float().mean()}
