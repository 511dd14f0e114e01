"""The classifier that a run learned over its base classes: `method/rows.*` of its checkpoint."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from kinshot.core.errors import CheckpointError, ConfigError
from kinshot.learn.model import Model
from kinshot.studies.study import Trained


class BaseClassifier(NamedTuple):
    """Rows (C, D) of base classes in the order of their labels, the factor on the cosine, and the feature that both stand on."""

    weight: Tensor
    scale: float
    feature: str


def base_classifier(run: Trained) -> BaseClassifier | None:
    """The classifier of a run whose checkpoint was loaded with the part `rows`, or None where its method has no cosine classifier."""
    found = {name: value.float() for name, value in (run.checkpoint.optional("rows") or {}).items()}
    weight, scale = (found.get(name) for name in ("weight", "scale"))
    if weight is None or scale is None:
        return None
    return BaseClassifier(weight, float(scale), str(run.recipe.method.settings.get("feature", "backbone")))


def needed_classifier(run: Trained, classes: int) -> BaseClassifier:
    """The same, over `classes` base classes.

    Raises:
        ConfigError: the run has no cosine classifier.
        CheckpointError: its rows are for other classes or features.
    """
    found = base_classifier(run)
    if found is None and run.checkpoint.origin:
        raise ConfigError(f"{run.path} was not trained here and has no cosine classifier: train one with method=classifier and --init")
    if found is None:
        raise ConfigError(f"{run.path} has no cosine classifier (its method is {run.recipe.method.name}): train one with method=classifier")
    width = feature_width(run, found.feature)
    if found.weight.shape != (classes, width) or not found.scale > 0:
        raise CheckpointError(
            f"{run.path}: rows {tuple(found.weight.shape)} and scale {found.scale:g}, expected ({classes}, {width}) and a "
            f"scale above 0, for the base classes and the {found.feature}: was the data changed since training?"
        )
    return found


def feature_width(run: Trained, feature: str) -> int:
    """Numbers in a run's feature `backbone` or `projector`."""
    projector = run.recipe.projector
    return projector.dim if feature == "projector" and projector.layers else int(run.model.encoder.dim)  # type: ignore[arg-type]


def network_of(model: Model, feature: str) -> nn.Module:
    """What gives a model's feature `backbone` or `projector` of prepared samples, as one module to train."""
    if feature == "projector" and model.projector is not None:
        return nn.Sequential(model.encoder, model.projector)
    return model.encoder
