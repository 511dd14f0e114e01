"""How often a run's own classifier is right about new samples of the classes that it has learned, and how unevenly."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kinshot.core.errors import DataError
from kinshot.datasets import SOURCES
from kinshot.recipes.loaded import read
from kinshot.runs.embedder import from_checkpoint
from kinshot.studies.answers import features_of


def by_class(run: Path, ask: Mapping[str, Any], seed: int) -> dict[str, float]:
    """Accuracy of the classifier in a run's first term on the run's own source with `root` in place of its own; percent.

    `accuracy` is the mean over classes, `spread_of_classes` the standard deviation over them, `worst_class` the lowest; `of NAME` each.
    """
    loaded = read(run)
    settings = dict(loaded.recipe.data.settings)
    learned, source = (SOURCES.build(loaded.recipe.data.name, settings=one) for one in (settings, {**settings, "root": ask["root"]}))
    if learned.class_names != source.class_names or source.labels is None:
        raise DataError(f"{ask['root']}: expected the classes that the run has learned, {len(learned.class_names)} of these names")
    z = features_of(from_checkpoint(loaded), source, torch.device("cpu"))["projector"].float()
    rows, bias = (loaded.checkpoint.training[f"terms/0.objective.{name}"] for name in ("rows.weight", "bias"))
    said = (z @ rows.T + bias).argmax(dim=1).numpy()
    right = np.array([100 * (said[source.labels == number] == number).mean() for number in range(len(source.class_names))])
    return {
        "accuracy": float(right.mean()),
        "spread_of_classes": float(right.std()),
        "worst_class": float(right.min()),
        **{f"of {name}": float(value) for name, value in zip(source.class_names, right, strict=True)},
    }
