"""No loss of its own: what a student that learns from teachers alone is trained with."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.learn import METHODS
from kinshot.learn.method import Method


@METHODS.register("student")
class Student(Method):
    """No loss of its own: a student that learns from its teachers alone (`ssl distill`).

    Paper: none; relational distillation does without a task loss for embeddings (Park, Kim, Lu, Cho, 2019, arXiv 1904.05068).

    Args:
        views: views of each sample in a batch. Teachers of clean samples say the same of all of them, so that two show a relational
            loss what must lie together: without labels, hardly any other pair of a batch does.
    """

    taught_only = True

    def __init__(self, encoder: nn.Module, projector: nn.Module, context: RunContext, *, views: int = 1) -> None:
        super().__init__()
        if views < 1:
            raise ConfigError(f"student: views must be at least 1, got {views}")
        self.encoder, self.projector, self.view_count = encoder, projector, views  # type: ignore[misc]

    def loss(self, views: list[Tensor], indices: Tensor, step: int) -> dict[str, Tensor]:
        """Passes the networks; the value is 0."""
        batches = [torch.cat(views[: self.view_count])] if len({x.shape for x in views}) == 1 else views[: self.view_count]
        return {"loss": sum((self.projector(self.encoder(x)).float().sum() * 0.0 for x in batches), torch.zeros((), device=indices.device))}
