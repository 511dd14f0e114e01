"""Choosing the checkpoint of a run by episodes of validation classes, which are neither trained on nor tested."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kinshot.core.errors import CheckpointError, ConfigError, DataError
from kinshot.core.run_folder import checkpoint_path, is_complete, read_best, write_best
from kinshot.datasets import SOURCES
from kinshot.fewshot import HEADS
from kinshot.recipes.recipe import Recipe
from kinshot.recipes.specs import check_features
from kinshot.recipes.splits import validation_data
from kinshot.recipes.validation_head import validation_head

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from kinshot.datasets.base import Source
    from kinshot.fewshot.episodes import Episodes


def validation_source(recipe: Recipe) -> Source:
    """The recipe's own data with the split that `validation` names. Raises ConfigError where the data has no such split."""
    data, choice = recipe.data, validation_data(recipe)
    split = choice.settings["split"]
    if "split" not in SOURCES.entry(data.name).parameters:
        raise ConfigError(f"validation.split is {split!r}, but {data.name} has no splits: leave validation out, or use data that has them")
    if data.settings["split"] == split:
        raise ConfigError(f"validation.split and data.split are both {split!r}: a checkpoint is chosen on classes that it never saw")
    return SOURCES.build(choice.name, settings=choice.settings)


class Validator:
    """Accuracy on validation episodes, the same ones every time, and the best so far.

    What was best is in every checkpoint, and `best.json` is written after it: a run that goes on writes it anew from the state
    `begun` of its checkpoint, because one that was killed may have had no time for it.

    Raises ConfigError or DataError at once where the validation classes cannot give the episodes.
    """

    def __init__(self, recipe: Recipe, out: Path, begun: Mapping[str, Any] | None = None) -> None:
        from kinshot.fewshot.episodes import sample_episodes

        self.settings, self.out = recipe.validation, out
        self._check(recipe)
        self.source = validation_source(recipe)
        if self.source.labels is None:
            raise DataError(f"{self.source.name} has no labels, and validation needs classes: leave validation out")
        v = self.settings
        self.episodes: Episodes = sample_episodes(
            np.asarray(self.source.labels), ways=v.ways, shots=v.shots, queries=v.queries, episodes=v.episodes, seed=recipe.seed,
            class_names=self.source.class_names,
        )  # fmt: skip
        self.best = _best(out, begun)
        if self.best["step"] >= 0 and is_complete(checkpoint_path(out, self.best["step"])):
            self.write()

    def accuracy(self, features: Tensor, network: Mapping[str, Tensor] | None) -> float:
        """Mean accuracy in percent of the validation episodes on features (N, D) of the whole validation source.

        `network` are the weights of the head where the method trains them with the encoder.
        """
        from kinshot.fewshot.evaluate import episode_accuracy

        head = validation_head(self.settings, network)
        return float(100 * episode_accuracy(features, self.episodes, head, self.settings.ways).mean())

    def _check(self, recipe: Recipe) -> None:
        HEADS.entry(self.settings.head)
        check_features([self.settings.feature], recipe.projector.paths, "validation.feature")

    def improved(self, step: int, accuracy: float) -> bool:
        """Whether the run is better than ever, which `best` then says; `write` it once the checkpoint of `step` is complete."""
        if accuracy <= self.best["accuracy"] and step != self.best["step"]:
            return False
        self.best = {"step": step, "accuracy": accuracy}
        return True

    def write(self) -> None:
        """Make the checkpoint of the best step the run's chosen one."""
        measured = {"accuracy": self.best["accuracy"], "on": self.source.name, "episodes": self.episodes.hash()[:12]}
        write_best(self.out, self.best["step"], measured)


def _best(out: Path, begun: Mapping[str, Any] | None) -> dict[str, Any]:
    """The best step so far and its accuracy; step -1 before the first measurement. Raises CheckpointError."""
    found = (begun or {}).get("best")
    if begun is not None and found is None:  # checkpoints of older versions do not say
        found = read_best(out)
    if found is None:
        return {"step": -1, "accuracy": -1.0}
    if not isinstance(found, dict) or type(found.get("step")) is not int or not isinstance(found.get("accuracy"), float):
        raise CheckpointError(f"the newest checkpoint of {out} says {found!r} of the best step: use another one or copy it again")
    return {"step": found["step"], "accuracy": found["accuracy"]}
