"""Validation by mIoU: dense episodes of validation classes, segmented by a head on the encoder's maps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from kinshot.core.errors import ConfigError, DataError, KinshotError
from kinshot.datasets.scenes import Scenes
from kinshot.fewshot.evaluate import build_head
from kinshot.runs.validation import Validator, head_weights
from kinshot.segmentation.episodes import sample_dense_episodes
from kinshot.segmentation.evaluate import Encode, encoder_maps, evaluate_episodes, predict_episodes
from kinshot.segmentation.rules import miou
from kinshot.segmentation.segmenter import BoundSegmenter, build_segmenter
from kinshot.segmentation.sheet import prediction_sheet

if TYPE_CHECKING:
    from torch import Tensor

    from kinshot.learn.monitor import Monitor
    from kinshot.runs.job import Job

PICTURED = 4
"""Episodes whose queries are shown at every validation."""


class DenseValidator(Validator):
    """Mean IoU over classes, in percent, of dense episodes of images with class maps."""

    metric: ClassVar[str] = "miou"

    def prepare(self, job: Job) -> str:
        """Draw the episodes and try the head on one of them; gives the hash of the episodes."""
        v, source = self.settings, self.source
        if not isinstance(source, Scenes):
            raise ConfigError(f"validation.split: {source.name} has no class maps, and mIoU needs them: leave validation out")
        self.scenes = source
        try:
            self.episodes = sample_dense_episodes(
                np.asarray(source.contains), source.photos, ways=v.ways, shots=v.shots, queries=v.queries, episodes=v.episodes,
                seed=job.recipe.seed, class_names=source.class_names,
            )  # fmt: skip
        except DataError as error:
            raise DataError(f"validation on {source.name}: {error}") from error
        try:
            self._miou(job, slice(0, 1))
        except (KinshotError, RuntimeError, ValueError) as error:
            problem = f"validation.head: {v.head} cannot segment {v.ways}-way episodes"
            raise ConfigError(f"{problem}: {error}; choose another head, cosine for example") from error
        return self.episodes.hash()

    def said(self) -> list[str]:
        """What was left out of the validation classes' images, and what of their objects is lost."""
        return self.scenes.said()

    def measure(self, job: Job, monitor: Monitor) -> float:
        """Mean IoU of all episodes, by the usual protocol; some queries are a picture of the run."""
        if monitor.tensorboard:
            monitor.picture("segmentation/queries", self._picture(job), job.run.step)
        return self._miou(job, slice(None))

    def _miou(self, job: Job, rows: slice) -> float:
        found = evaluate_episodes(self.episodes[rows], self.scenes, *self._learner(job))
        return 100 * miou(found[self.settings.head]).value

    def _picture(self, job: Job) -> np.ndarray:
        """The first episodes' queries with truth, prediction and score."""
        some = self.episodes[:PICTURED]
        return prediction_sheet(predict_episodes(some, self.scenes, *self._learner(job)), self.settings.head, self.scenes, some)

    def _learner(self, job: Job) -> tuple[Encode, dict[str, BoundSegmenter]]:
        name, model = self.settings.head, job.run.learner.model
        return encoder_maps(model, self.scenes, job.method.stages), {name: dense_head(name, head_weights(job, name))}


def dense_head(name: str, network: Mapping[str, Tensor] | None) -> BoundSegmenter:
    """A segmenter, or any few-shot head on cells, with its defaults and what was trained for it."""
    return build_segmenter(name, heads=build_head, **({"network": network} if network else {}))
