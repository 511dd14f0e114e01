"""Validation by accuracy: few-shot episodes of validation classes, on features of their samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from kinshot.core.errors import DataError
from kinshot.fewshot import HEADS
from kinshot.recipes.specs import check_features
from kinshot.recipes.validation_head import try_validation_head, validation_head
from kinshot.runs.validation import Validator, head_weights

if TYPE_CHECKING:
    from kinshot.fewshot.episodes import Episodes
    from kinshot.learn.monitor import Monitor
    from kinshot.runs.job import Job


class ClassValidator(Validator):
    """Mean accuracy in percent of episodes of labelled samples."""

    metric: ClassVar[str] = "accuracy"

    def prepare(self, job: Job) -> str:
        """Draw the episodes and try the head on one of noise; gives the hash of the episodes."""
        from kinshot.fewshot.episodes import sample_episodes

        v = self.settings
        HEADS.entry(v.head)
        check_features([v.feature], job.recipe.features, "validation.feature")
        if self.source.labels is None:
            raise DataError(f"{self.source.name} has no labels, and validation needs classes: leave validation out")
        self.episodes: Episodes = sample_episodes(
            np.asarray(self.source.labels), ways=v.ways, shots=v.shots, queries=v.queries, episodes=v.episodes, seed=job.recipe.seed,
            class_names=self.source.class_names,
        )  # fmt: skip
        width = job.embed_source(self.source, np.arange(1))[v.feature].shape[1]
        try_validation_head(v, width, head_weights(job, v.head))
        return self.episodes.hash()

    def measure(self, job: Job, monitor: Monitor) -> float:
        """Mean accuracy on features of the whole validation source."""
        return float(self.figures(job).mean())

    def figures(self, job: Job) -> np.ndarray:
        """Accuracy of each episode, in percent."""
        from kinshot.fewshot.evaluate import episode_accuracy

        features = job.embed_source(self.source)[self.settings.feature]
        head = validation_head(self.settings, head_weights(job, self.settings.head))
        return 100 * episode_accuracy(features, self.episodes, head, self.settings.ways)
