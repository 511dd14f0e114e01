"""No loss of its own: what a student that learns from teachers alone is trained with."""

from __future__ import annotations

from torch import Tensor

from kinshot.core.context import RunContext
from kinshot.core.errors import ConfigError
from kinshot.learn import METHODS
from kinshot.learn.method import Method
from kinshot.learn.model import Model
from kinshot.learn.outputs import Outputs
from kinshot.samples.batch import Batch


@METHODS.register("student")
class Student(Method):
    """No loss of its own: a student that learns from its teachers alone (`ssl distill`).

    Paper: none; relational distillation does without a task loss for embeddings (Park, Kim, Lu, Cho, 2019, arXiv 1904.05068).

    Args:
        views: views of each sample in a batch. Teachers of clean samples say the same of all of them, so that two show a relational
            loss what must lie together: without labels, hardly any other pair of a batch does.
    """

    by_terms = True

    def __init__(self, model: Model, context: RunContext, *, views: int = 1) -> None:
        super().__init__(model)
        if views < 1:
            raise ConfigError(f"student: views must be at least 1, got {views}")
        self.view_count = views  # type: ignore[misc]

    def loss(self, outputs: Outputs, batch: Batch, step: int) -> dict[str, Tensor]:
        """0, with a gradient of 0 for all that terms do not look at."""
        return {"loss": outputs["projector"].float().sum() * 0.0}
